"""A loop that runs beside the test, with an engine that counts and a search that only listens."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import msgspec
from waiting import wait_until_async

from sweepd.keys import Keys
from sweepd.messages import AgentBatch, Leave, encode
from sweepd.records import EndRecord
from sweepd.states import AttemptOutcome, TrialState
from sweepd.store import Fence, Store
from sweepd_coordinator.core.changes import (
    Ask,
    Changes,
    OneSuggestion,
    SearchNote,
    Snapshot,
    Suggestion,
    Turn,
)
from sweepd_coordinator.core.engine import Gauges
from sweepd_coordinator.loop import Loop
from sweepd_coordinator.metrics import Metrics
from sweepd_coordinator.settings import TurnSettings

KEYS = Keys("loop")
QUICK = TurnSettings(idle_s=0.05, retry_first_s=0.01, retry_longest_s=0.05)


def message(name: str, size: int = 0, count: int = 1) -> bytes:
    """An inbox entry that can be decoded, of *count* messages; *size* more bytes each."""
    return encode(AgentBatch(name, "session", 1, 0, [Leave("x" * size)] * count))


class CountingEngine:
    """Writes one end per inbox entry, with the agent's name as token: what is done twice shows.

    An entry of the agent `again` asks for a reload, one of `ask` for a suggestion.
    """

    def __init__(self) -> None:
        self.commit, self.cursor = 0, "0-0"
        self.turns: list[Turn] = []
        self.loaded: Snapshot | None = None
        self.due_s: float | None = None

    def load(self, snapshot: Snapshot, now_s: float) -> None:
        self.loaded = snapshot
        self.commit, self.cursor = snapshot.commit, snapshot.cursor

    def step(self, turn: Turn) -> Changes:
        self.turns.append(turn)
        changes = Changes(self.commit + 1, self.cursor, turn.wall_s)
        for entry, envelope in turn.entries:
            changes.cursor = entry
            if isinstance(envelope, AgentBatch):
                changes.ends.append(_end(envelope.agent, changes.commit))
                changes.reload |= envelope.agent == "again"
                if envelope.agent == "ask":
                    changes.notes.append(Ask("s", 1, changes.commit))
        for suggestion in turn.suggestions:
            assert isinstance(suggestion, Suggestion)
            changes.ends.append(_end(f"suggestion {suggestion.number}", changes.commit))
        if not changes.empty or changes.cursor != self.cursor:
            self.commit, self.cursor = changes.commit, changes.cursor
        return changes

    def next_deadline_s(self, now_s: float) -> float | None:
        return self.due_s

    def gauges(self) -> Gauges:
        return Gauges(leases=7, slots_total=4, slots_free=1, superseded=3)


def _end(token: str, commit: int) -> EndRecord:
    return EndRecord("s", 1, 1, "a", token, AttemptOutcome.FINISHED, TrialState.COMPLETE, commit, 0.0)


@dataclass
class SilentSearch:
    """Keeps what it is told; the test answers with `answer`. `on_submit` is called first."""

    answer: Callable[[list[Suggestion | OneSuggestion]], None]
    notes: list[SearchNote] = field(default_factory=list[SearchNote])
    closed: bool = False
    on_submit: Callable[[], None] = lambda: None

    def submit(self, notes: Sequence[SearchNote]) -> None:
        self.on_submit()
        self.notes += notes

    def close(self) -> None:
        self.closed = True


@dataclass
class Running:
    """A loop under way. `error`: what it ended with; `ended`: whether it has."""

    loop: Loop
    store: Store
    fence: Fence
    metrics: Metrics
    engines: list[CountingEngine]
    searches: list[SilentSearch]
    errors: list[BaseException] = field(default_factory=list[BaseException])
    ended: bool = False

    @property
    def engine(self) -> CountingEngine:
        return self.engines[-1]

    @property
    def search(self) -> SilentSearch:
        return self.searches[-1]

    async def done(self, store: Store | None = None) -> list[str]:
        """The tokens in the end log, in order; read through *store* if the loop's own is broken."""
        ends = await (store or self.store).read_stream(KEYS.ends, "0-0", 100_000)
        return [msgspec.json.decode(data, type=EndRecord).token for _, data in ends]

    def value(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


@asynccontextmanager
async def running(
    store: Store, settings: TurnSettings = QUICK, lease_ttl_s: float = 30.0
) -> AsyncGenerator[Running]:
    """Lead *store* and take turns, of which the first is over, until the end of the block."""
    fence = await store.lead("loop", 60)
    assert fence is not None
    engines: list[CountingEngine] = []
    searches: list[SilentSearch] = []

    def make_engine() -> CountingEngine:
        engines.append(CountingEngine())
        return engines[-1]

    def make_search(answer: Callable[..., None]) -> SilentSearch:
        searches.append(SilentSearch(answer))
        return searches[-1]

    metrics = Metrics()
    loop = Loop(
        store,
        KEYS,
        fence,
        make_engine=make_engine,
        make_search=make_search,
        metrics=metrics,
        settings=settings,
        lease_ttl_s=lease_ttl_s,
    )
    under_way = Running(loop, store, fence, metrics, engines, searches)

    async def take_turns() -> None:
        try:
            await loop.run()
        except Exception as error:
            under_way.errors.append(error)
        under_way.ended = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(take_turns)
        await wait_until_async(lambda: under_way.ended or (engines and engines[0].turns))
        try:
            yield under_way
        finally:
            tasks.cancel_scope.cancel()
