"""The agent's process: its parts, in the order in which they begin, and how it ends.

It ends in this order: take nothing more, end what runs, keep renewing its leases until it has
ended, report, leave. Asked a second time, it kills what runs and goes.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import Any

import anyio
import anyio.abc

from sweepd import __version__
from sweepd.keys import Keys
from sweepd.states import AttemptOutcome
from sweepd_agent import machine
from sweepd_agent.channel import Channel, socket_path
from sweepd_agent.core.slots import Slots
from sweepd_agent.executors import Executors
from sweepd_agent.gpus import Gpus
from sweepd_agent.link import Link, SessionEnded
from sweepd_agent.metrics import Metrics
from sweepd_agent.node import Node
from sweepd_agent.settings import Settings
from sweepd_agent.spool import Spool
from sweepd_agent.state import agent_id, owned

FAREWELL_S = 10.0  #: how long the coordinator may take to acknowledge our last messages
HURRY_S = 3.0  #: asked a second time: how long the supervisors may take, and then our own killing

log = logging.getLogger("sweepd.agent")


async def run(settings: Settings) -> None:
    """Be an agent until a signal says to stop.

    Raises UsageError for what the settings cannot mean here, StoreUnreachable when the store does
    not answer at start, and SessionEnded when the coordinator serves this agent no longer.
    """
    with owned(settings.state) as state:
        gpus = Gpus.open(settings.devices)
        spool = Spool(state / "spool.ndjson")
        try:
            await Agent(settings, gpus, spool).run()
        finally:
            spool.close()
            gpus.close()


class Agent:
    """The parts of one agent and what is known between them."""

    def __init__(self, settings: Settings, gpus: Gpus, spool: Spool) -> None:
        self.id = settings.id or agent_id(settings.state)
        self.devices = {device.uuid: device for device in gpus.devices}
        self._settings, self._gpus, self._spool = settings, gpus, spool
        cpus = machine.cpus()
        total = settings.slots or len(gpus.devices) or max(1, int(cpus))
        self._slots = Slots(total, gpus.devices, cpus, machine.memory_mib())
        self._stop, self._hurry = anyio.Event(), anyio.Event()
        self._fault: BaseException | None = None
        self._link: Link | None = None

    async def run(self) -> None:
        settings, metrics = self._settings, Metrics()
        channel = Channel(socket_path(settings.state))
        opened = Executors.opened(settings.state / "nemo", settings.nemo_python)
        asyncio.get_running_loop().set_exception_handler(self._on_fault)
        async with opened as executors, anyio.create_task_group() as tasks:
            node = Node(
                state=settings.state,
                slots=self._slots,
                labels=settings.labels,
                patience=settings.patience,
                spool=self._spool,
                gpus=self._gpus,
                channel=channel,
                metrics=metrics,
                start=executors.start,
                tasks=tasks,
                wake=lambda: link.wake(),
            )
            link = self._link = Link(settings.redis, Keys(settings.namespace), self.id, node)
            await tasks.start(self._obey_signals, name="signals")
            await self._reach_store(link)
            await tasks.start(channel.serve, node, name="channel")
            self._serve_metrics(metrics)
            node.recover()
            tasks.start_soon(self._speak, link, name="link")
            tasks.start_soon(node.tick, name="ticks")
            tasks.start_soon(executors.warm_up, name="warm up")
            log.info(
                "agent.ready id=%s slots=%d devices=%d state=%s version=%s",
                self.id, self._slots.total, len(self.devices), settings.state, __version__,
            )  # fmt: skip
            await self._stop.wait()
            await self._end(node, link)
            tasks.cancel_scope.cancel()
        if self._fault is not None:
            raise self._fault

    # --- what metrics read ------------------------------------------------------------------------

    @property
    def slots_total(self) -> int:
        return self._slots.total

    @property
    def slots_used(self) -> int:
        return self._slots.used

    @property
    def leased(self) -> frozenset[str]:
        return self._slots.leased

    @property
    def connected(self) -> bool:
        return self._link is not None and self._link.connected

    @property
    def unacknowledged(self) -> int:
        return 0 if self._link is None else len(self._link.window)

    @property
    def spool_bytes(self) -> int:
        return self._spool.size_bytes

    # --- tasks ------------------------------------------------------------------------------------

    async def _obey_signals(
        self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for signum in signals:
                log.info("agent.asked_to_stop signal=%s again=%s", signum.name, self._stop.is_set())
                if self._stop.is_set():
                    self._hurry.set()
                self._stop.set()

    async def _reach_store(self, link: Link) -> None:
        """Wait for the store, unless we are asked to stop meanwhile."""

        async def give_up() -> None:
            await self._stop.wait()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(give_up)
            await link.connect(self._settings.connect_timeout_s)
            tasks.cancel_scope.cancel()

    async def _speak(self, link: Link) -> None:
        try:
            await link.run()
        except* SessionEnded as errors:
            self._fault = errors.exceptions[0]
            self._stop.set()

    def _serve_metrics(self, metrics: Metrics) -> None:
        metrics.observe(self, self._gpus.readings)
        if self._settings.metrics_port is not None:
            server = metrics.serve(self._settings.metrics_host, self._settings.metrics_port)
            log.info("metrics.serving host=%s port=%d", self._settings.metrics_host, server.server_port)

    # --- the end ----------------------------------------------------------------------------------

    async def _end(self, node: Node, link: Link) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._cut_short, node, tasks.cancel_scope)
            if self._fault is None:
                await self._leave(node, link)
            else:
                # Somebody else answers for our attempts now: nothing is reported.
                node.leave(AttemptOutcome.SUPERSEDED, str(self._fault))
                await node.all_settled()
            tasks.cancel_scope.cancel()
        log.info("agent.left id=%s running=%d owed=%d", self.id, node.running, len(self._spool.owed))

    async def _leave(self, node: Node, link: Link) -> None:
        node.leave(AttemptOutcome.PREEMPTED, "the agent was stopped")
        await node.all_settled()
        if link.welcomed:
            node.say_goodbye()
            with anyio.move_on_after(FAREWELL_S) as patience:
                await node.left.wait()
            if patience.cancelled_caught:
                log.warning("agent.unheard owed=%d: they are sent at the next start", len(self._spool.owed))

    async def _cut_short(self, node: Node, ending: anyio.CancelScope) -> None:
        await self._hurry.wait()
        for kill in (node.hurry, node.kill_all):
            kill()
            with anyio.move_on_after(HURRY_S):
                await node.all_settled()
                break
        ending.cancel()

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception in a callback is a bug like any other: it ends the process, loudly."""
        loop.default_exception_handler(context)
        error = context.get("exception")
        if isinstance(error, Exception) and self._fault is None:
            self._fault = error
            self._stop.set()
