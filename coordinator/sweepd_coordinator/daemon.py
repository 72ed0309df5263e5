"""The coordinator's process: what runs in it, and in which order it starts and stops.

It stops in an order that can be said aloud: the turn under way is committed, the leadership is
given back, the connections are closed.
"""

from __future__ import annotations

import logging
import secrets
import signal
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskStatus

from sweepd.errors import Fenced, StoreUnreachable, StoreWentBack
from sweepd.keys import Keys
from sweepd.store import Fence
from sweepd_coordinator import leader, metrics
from sweepd_coordinator.backoff import Backoff
from sweepd_coordinator.core.engine import Engine, EngineSettings
from sweepd_coordinator.loop import Loop
from sweepd_coordinator.search.worker import Search
from sweepd_coordinator.settings import Settings
from sweepd_coordinator.store import RedisStore, check_server

log = logging.getLogger("sweepd.coordinator")

#: How long the turn under way may still take after the signal to stop.
STOP_S = 5.0


async def run(settings: Settings) -> None:
    """Run a coordinator until SIGTERM or SIGINT; a second signal ends it at once.

    Raises StoreUnreachable if the store cannot be reached within `connect_timeout_s` of the
    start, and UsageError if it cannot be used at all. Later outages are waited out.
    """
    numbers = metrics.Metrics()
    store = RedisStore(settings.redis, Keys(settings.namespace), timeout_s=settings.store_timeout_s)
    with _metrics_served(numbers, settings):
        try:
            async with anyio.create_task_group() as tasks:
                stop = _Stop(tasks.cancel_scope.cancel)
                await tasks.start(_listen_for_signals, stop, name="signals")
                await _reach(store, settings)
                while not stop.asked:
                    fence = await leader.stand_by(store, settings.leader_ttl_s, _backoff(settings))
                    await _lead(store, fence, settings, numbers, stop)
                tasks.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await store.close()
    log.info("coordinator.stopped")


async def _lead(
    store: RedisStore, fence: Fence, settings: Settings, numbers: metrics.Metrics, stop: _Stop
) -> None:
    """Lead until asked to stop, or until the term is lost; then nothing of its memory is left."""
    loop = Loop(
        store,
        store.keys,
        fence,
        make_engine=lambda: Engine(_mint, EngineSettings(lease_ttl_s=settings.lease_ttl_s)),
        make_search=lambda answer: Search(answer, numbers.suggested),
        metrics=numbers,
        settings=settings.turns,
        lease_ttl_s=settings.lease_ttl_s,
    )
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leader.keep, store, fence, settings.leader_ttl_s, name="leadership")
            with stop.means(loop.stop):
                await loop.run()
            tasks.cancel_scope.cancel()
    except* Fenced:
        log.warning("coordinator.fenced epoch=%d", fence.epoch)
    except* StoreWentBack:
        log.warning("coordinator.store_went_back epoch=%d", fence.epoch)
    finally:
        numbers.stands_by()
        await leader.resign(store, fence)


async def _reach(store: RedisStore, settings: Settings) -> None:
    """Wait for the store and look at it."""
    deadline_s = time.monotonic() + settings.connect_timeout_s
    backoff, told = _backoff(settings), False
    while True:
        try:
            info = await check_server(store)
            break
        except StoreUnreachable as error:
            if time.monotonic() >= deadline_s:
                raise StoreUnreachable(f"{error} (tried for {settings.connect_timeout_s:g} s)") from None
            if not told:
                log.warning("store.unreachable error=%s", error)
            told = True
        await anyio.sleep(backoff.next_s())
    log.info("store.connected version=%s namespace=%s", info.version, settings.namespace)
    if not info.appends:
        log.warning(
            "store.not_durable appendonly=no remedy=%s",
            "'set appendonly yes: what a restart of this server forgets is lost'",
        )


class _Stop:
    """What a signal does: ends everything, or, while leading, ends the term after its turn."""

    def __init__(self, end: Callable[[], None]) -> None:
        self.asked = False
        self.end = end
        self._gently = end

    def ask(self) -> None:
        self.asked = True
        self._gently()

    @contextmanager
    def means(self, gently: Callable[[], None]) -> Generator[None]:
        self._gently = gently
        try:
            yield
        finally:
            self._gently = self.end


async def _listen_for_signals(stop: _Stop, *, task_status: TaskStatus[None]) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        log.info("coordinator.stopping signal=%s", (await anext(signals)).name)
        stop.ask()
        with anyio.move_on_after(STOP_S):
            await anext(signals)
        log.warning("coordinator.stopped_short reason=%s", "'a second signal, or no end of the turn'")
        stop.end()


@contextmanager
def _metrics_served(numbers: metrics.Metrics, settings: Settings) -> Generator[None]:
    if settings.metrics_port is None:
        yield
        return
    port, close = metrics.serve(numbers, settings.metrics_host, settings.metrics_port)
    log.info("metrics.listening host=%s port=%d", settings.metrics_host, port)
    try:
        yield
    finally:
        close()


def _backoff(settings: Settings) -> Backoff:
    return Backoff(settings.turns.retry_first_s, settings.turns.retry_longest_s)


def _mint() -> str:
    """A name that nobody else draws: 128 bits."""
    return secrets.token_hex(16)
