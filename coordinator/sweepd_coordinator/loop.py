"""The loop: read, take a turn, commit, hand on. One instance per term of leadership.

Nothing is handed on - no suggestion asked for, no counter moved - before its commit went
through, and no turn begins before the commit of the one before is known. So what the engine
holds is what the store holds, or the term ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import anyio

from sweepd.errors import Fenced, StoreUnreachable, StoreWentBack
from sweepd.keys import Keys
from sweepd.store import Fence, Outcome, Position, Store, Write
from sweepd_coordinator.backoff import Backoff
from sweepd_coordinator.core.changes import (
    Changes,
    OneSuggestion,
    SearchNote,
    Snapshot,
    Suggestion,
    Turn,
)
from sweepd_coordinator.core.engine import Gauges
from sweepd_coordinator.inbox import Inbox
from sweepd_coordinator.metrics import Metrics, Taken
from sweepd_coordinator.settings import TurnSettings
from sweepd_coordinator.writes import load_snapshot, to_writes

log = logging.getLogger("sweepd.coordinator")

Answer = Suggestion | OneSuggestion

#: How often the gauges of what the engine holds, and the length of the inbox, are shown anew.
SHOW_S = 0.5


class TurnTaker(Protocol):
    """The engine, as the loop uses it."""

    def load(self, snapshot: Snapshot, now_s: float) -> None: ...
    def step(self, turn: Turn) -> Changes: ...
    def next_deadline_s(self, now_s: float) -> float | None: ...
    def gauges(self) -> Gauges: ...


class Searcher(Protocol):
    """The search, as the loop uses it."""

    def submit(self, notes: Sequence[SearchNote]) -> None: ...
    def close(self) -> None: ...


class Bell:
    """What ends the loop's rest: rung for arrivals, answers, the end; or by itself in time."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when it was rung, or after *timeout_s*."""
        # A timer of the event loop costs a fifth of a cancel scope, and this is once per turn.
        timer = asyncio.get_running_loop().call_later(timeout_s, self._rung.set)
        try:
            await self._rung.wait()
        finally:
            timer.cancel()
            self._rung.clear()


class Loop:
    """The turns of one term.

    *make_engine* and *make_search* are called again whenever everything is loaded again;
    *make_search* gets the function that takes answers, which any thread may call.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        fence: Fence,
        *,
        make_engine: Callable[[], TurnTaker],
        make_search: Callable[[Callable[[list[Answer]], None]], Searcher],
        metrics: Metrics,
        settings: TurnSettings,
        lease_ttl_s: float,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._keys, self._fence = store, keys, fence
        self._make_engine, self._make_search = make_engine, make_search
        self._metrics, self._settings = metrics, settings
        self._clock, self._wall = clock, wall
        # An idle turn must come well within the gap that the engine takes for a freeze.
        self._idle_s = min(settings.idle_s, lease_ttl_s / 8)
        self._backoff = Backoff(settings.retry_first_s, settings.retry_longest_s)
        self._bell = Bell()
        self._stopping = False
        self._position = Position(0, "0-0")
        self._shown_s = 0.0

    def stop(self) -> None:
        """End after the turn under way."""
        self._stopping = True
        self._bell.ring()

    async def run(self) -> None:
        """Take turns until `stop`.

        Raises Fenced when another coordinator leads, StoreWentBack when the store is older than
        what was committed: memory is worth nothing then. (Both inside exception groups.)
        """
        while not self._stopping:
            await self._run_loaded()

    async def _run_loaded(self) -> None:
        """Load, and take turns until `stop` or until everything must be loaded again."""
        began_s = self._clock()
        snapshot = await self._load()
        self._position = Position(snapshot.commit, snapshot.cursor)
        engine = self._make_engine()
        engine.load(snapshot, self._clock())
        trials = sum(map(len, snapshot.trials.values()))
        log.info(
            "coordinator.leading epoch=%d commit=%d studies=%d trials=%d load_s=%.3f",
            self._fence.epoch,
            snapshot.commit,
            len(snapshot.studies),
            trials,
            self._clock() - began_s,
        )
        del snapshot
        self._metrics.leads(self._fence.epoch)
        answers: list[Answer] = []
        search = self._make_search(self._collector(answers))
        inbox = Inbox(
            self._store,
            self._position.cursor,
            limit=self._settings.messages,
            block_s=self._idle_s,
            backoff=Backoff(self._settings.retry_first_s, self._settings.retry_longest_s),
            clock=self._clock,
            arrived=self._bell.ring,
            outage=self._metrics.outage,
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inbox.run)
                tasks.start_soon(self._watch_length)
                await self._take_turns(engine, search, inbox, answers)
                tasks.cancel_scope.cancel()
        finally:
            # It waits for the suggestion under way, which nobody else need do.
            threading.Thread(target=search.close, name="sweepd-search-close", daemon=True).start()

    def _collector(self, answers: list[Answer]) -> Callable[[list[Answer]], None]:
        """Return what puts suggestions on *answers* from another thread and wakes the loop."""
        events = asyncio.get_running_loop()

        def take(new: list[Answer]) -> None:
            answers.extend(new)
            self._bell.ring()

        def collect(new: list[Answer]) -> None:
            with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits
                events.call_soon_threadsafe(take, new)

        return collect

    async def _load(self) -> Snapshot:
        while True:
            try:
                return await load_snapshot(self._store, self._keys)
            except StoreUnreachable as error:
                log.warning("store.unreachable error=%s", error)
                await anyio.sleep(self._backoff.next_s())

    # --- turns ----------------------------------------------------------------------------

    async def _take_turns(
        self, engine: TurnTaker, search: Searcher, inbox: Inbox, answers: list[Answer]
    ) -> None:
        while not self._stopping:
            if inbox.suspicious:
                await self._compare(inbox)
            turned_s = self._clock()
            turn, taken = self._gather(inbox, answers, turned_s)
            changes = engine.step(turn)
            position = Position(changes.commit, changes.cursor)
            if not changes.empty or position.cursor != self._position.cursor:
                writes = to_writes(changes, self._keys)
                began_s = self._clock()
                await self._commit(position, writes)
                self._metrics.committed(changes, taken, self._clock() - began_s)
                _tell(changes)
            else:
                self._metrics.rests()
            if changes.notes:
                search.submit(changes.notes)
            if turned_s - self._shown_s >= SHOW_S:
                self._shown_s = turned_s
                self._metrics.holds(engine.gauges())
            if changes.reload:
                log.info("coordinator.loading_again commit=%d", changes.commit)
                return
            await self._rest(engine, inbox, answers, turned_s)

    async def _rest(self, engine: TurnTaker, inbox: Inbox, answers: list[Answer], turned_s: float) -> None:
        """Return when there is something to do, or when a turn is due without it.

        While the store cannot be reached no turn is due: nobody could be heard, and the gap
        between turns tells the engine so.
        """
        while not (inbox.waiting or answers or self._stopping):
            now_s = self._clock()
            deadline_s = engine.next_deadline_s(now_s)
            due_s = turned_s + self._idle_s
            if deadline_s is not None and deadline_s < due_s:
                due_s = deadline_s
            if now_s >= due_s:
                if inbox.in_touch():
                    # A turn that changes nothing never waits: let the reader in between.
                    await asyncio.sleep(0)
                    return
                due_s = now_s + self._idle_s
            await self._bell.wait(due_s - now_s)

    def _gather(self, inbox: Inbox, answers: list[Answer], now_s: float) -> tuple[Turn, Taken]:
        oldest, wall_s = inbox.oldest, self._wall()
        entries, messages = inbox.take(self._settings.messages, self._settings.bytes)
        suggestions = answers.copy()
        answers.clear()
        turn = Turn(now_s, wall_s, inbox.read_through_s, entries, suggestions)
        if oldest is None:
            return turn, Taken()
        rejected = sum(envelope is None for _, envelope in entries)
        lag_s = max(0.0, wall_s - int(oldest.partition("-")[0]) / 1000)
        return turn, Taken(messages, rejected, lag_s)

    # --- the commit -----------------------------------------------------------------------

    async def _commit(self, position: Position, writes: list[Write]) -> None:
        """Make a turn durable. Returns when it is; raises Fenced or StoreWentBack if it cannot be."""
        while True:
            try:
                outcome = await self._store.commit(self._fence, position, writes)
            except StoreUnreachable as error:
                log.warning("commit.unknown commit=%d error=%s", position.commit, error)
                outcome = await self._find_out(position)
            if outcome is Outcome.FENCED:
                raise Fenced
            if outcome is Outcome.BEHIND:
                raise StoreWentBack
            if outcome is not None:
                self._position = position
                return

    async def _find_out(self, position: Position) -> Outcome | None:
        """Ask until the store tells what became of a commit; None: it did not arrive, send it again."""
        while True:
            await anyio.sleep(self._backoff.next_s())
            try:
                fence, found = await self._store.position()
            except StoreUnreachable:
                continue
            self._backoff.reset()
            if fence != self._fence:
                outcome = Outcome.FENCED
            elif found.commit == position.commit:
                outcome = Outcome.ALREADY
            elif found.commit == position.commit - 1:
                outcome = None
            else:
                outcome = Outcome.BEHIND
            log.info(
                "commit.found commit=%d stored=%d outcome=%s",
                position.commit,
                found.commit,
                outcome.value if outcome else "absent",
            )
            return outcome

    async def _compare(self, inbox: Inbox) -> None:
        """After the store was away: see that it is still where the last commit left it."""
        try:
            fence, found = await self._store.position()
        except StoreUnreachable:
            return  # away again; asked again before the next turn
        if fence != self._fence:
            raise Fenced
        if found != self._position:
            raise StoreWentBack
        inbox.suspicious = False

    async def _watch_length(self) -> None:
        while True:
            with contextlib.suppress(StoreUnreachable):
                self._metrics.inbox(await self._store.inbox_length())
            await anyio.sleep(SHOW_S)


def _tell(changes: Changes) -> None:
    """Log what happened: studies and agents for people, the rest for us."""
    for event in changes.events:
        told = event.kind.startswith(("study.", "agent."))
        if not told and not log.isEnabledFor(logging.DEBUG):
            continue
        fields = {"study": event.study, "trial": event.trial, "attempt": event.attempt, "agent": event.agent}
        fields.update(event.data)
        text = " ".join(f"{name}={value}" for name, value in fields.items() if value not in (None, ""))
        log.log(logging.INFO if told else logging.DEBUG, "%s %s", event.kind, text)
