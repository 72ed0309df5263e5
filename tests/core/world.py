"""An engine with everything around it made of plain data: no store, no loop, no clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from sweepd import spec as specs
from sweepd.messages import (
    AgentBatch,
    AgentMessage,
    Assign,
    ClientMessage,
    ClientRequest,
    CoordinatorMessage,
    Device,
    Envelope,
    Finished,
    Hello,
    Number,
    Offer,
    Point,
    Reply,
    Reports,
    RunningAttempt,
    SubmitStudy,
)
from sweepd.records import AgentRecord, CurvePoint, EndRecord, StudyRecord, TrialRecord
from sweepd.states import AttemptOutcome, FailureClass
from sweepd_coordinator.core.changes import (
    Ask,
    AskOne,
    Changes,
    OneSuggestion,
    SearchNote,
    Snapshot,
    Suggestion,
    TrialTold,
    Turn,
)
from sweepd_coordinator.core.engine import Engine, EngineSettings

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)


def study_spec(**over: Any) -> dict[str, Any]:
    """A small valid study as a client sends it; *over* replaces whole sections."""
    spec: dict[str, Any] = {
        "name": "digits",
        "task": {"command": ["python", "train.py", "{args}"]},
        "objectives": [{"metric": "acc", "direction": "maximize"}],
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 1},
        "budget": {"trials": 3},
        "executor": {"type": "process"},
    }
    spec.update(over)
    return {name: value for name, value in spec.items() if value is not None}


class Records:
    """What a store would hold after the same changes. A copy is a copy: all of it goes through JSON."""

    def __init__(self) -> None:
        self.commit = 0
        self.cursor = "0-0"
        self.studies: dict[str, StudyRecord] = {}
        self.specs: dict[str, specs.StudySpec] = {}
        self.trials: dict[tuple[str, int], TrialRecord] = {}
        self.points: dict[tuple[str, int], list[CurvePoint]] = {}
        self.curves: dict[tuple[str, int], list[CurvePoint]] = {}
        self.agents: dict[str, AgentRecord] = {}
        self.replies: dict[str, Reply] = {}
        self.ends: list[EndRecord] = []
        self.told: list[TrialTold] = []

    def apply(self, changes: Changes) -> None:
        moved = not changes.empty or changes.cursor != self.cursor
        if moved:
            assert changes.commit == self.commit + 1
            self.commit, self.cursor = changes.commit, changes.cursor
        self.studies.update({key: _copy(value, StudyRecord) for key, value in changes.studies.items()})
        self.specs.update(changes.specs)
        self.trials.update({key: _copy(value, TrialRecord) for key, value in changes.trials.items()})
        for key, points in changes.points.items():
            self.points.setdefault(key, []).extend(_copy(point, CurvePoint) for point in points)
        for key, curve in changes.curves.items():
            self.points.pop(key, None)
            assert key not in self.curves, f"the curve of {key} is folded twice"
            self.curves[key] = [_copy(point, CurvePoint) for point in curve]
        self.agents.update({key: _copy(value, AgentRecord) for key, value in changes.agents.items()})
        self.replies.update({reply.request_id: reply for reply in changes.replies})
        self.ends.extend(changes.ends)
        self.told.extend(note for note in changes.notes if isinstance(note, TrialTold))

    def snapshot(self) -> Snapshot:
        trials: dict[str, list[TrialRecord]] = {}
        for (study, _), record in self.trials.items():
            if self.studies[study].finished_at is None:
                trials.setdefault(study, []).append(_copy(record, TrialRecord))
        return Snapshot(
            commit=self.commit,
            cursor=self.cursor,
            studies={key: _copy(value, StudyRecord) for key, value in self.studies.items()},
            specs=dict(self.specs),
            trials=trials,
            points={key: list(points) for key, points in self.points.items()},
            agents={key: _copy(value, AgentRecord) for key, value in self.agents.items()},
            replies=dict(self.replies),
        )


def _copy(value: S, kind: type[S]) -> S:
    return msgspec.json.decode(msgspec.json.encode(value), type=kind)


class FakeAgent:
    """The side of an agent that the coordinator sees: sessions, numbers, what it was told."""

    def __init__(self, world: World, name: str, host: str, devices: list[Device], slots: int) -> None:
        self.world, self.name, self.host, self.devices, self.slots = world, name, host, devices, slots
        self.session = ""
        self.seq = 0
        self.offers = 0
        self.seen = 0
        self.heard: list[CoordinatorMessage] = []
        self.acknowledged = 0

    def hello(self, running: list[RunningAttempt] | None = None, **over: Any) -> Changes:
        """Open a new session."""
        self.session = f"session-{next(self.world.names)}"
        self.seq = 0
        self.acknowledged = 0
        fields: dict[str, Any] = {
            "protocol_min": 1,
            "protocol_max": 1,
            "host": self.host,
            "boot_id": "boot",
            "slots": self.slots,
            "devices": self.devices,
            "running": running or [],
        }
        return self.say(Hello(**(fields | over)))

    def batch(self, *messages: AgentMessage) -> AgentBatch:
        batch = AgentBatch(self.name, self.session, self.seq + 1, self.seen, list(messages))
        self.seq += len(messages)
        return batch

    def say(self, *messages: AgentMessage) -> Changes:
        return self.world.turn(self.batch(*messages))

    def offer(self, slots: int | None = None, devices: list[str] | None = None, **over: Any) -> Changes:
        self.offers += 1
        return self.say(
            Offer(
                number=self.offers,
                slots=self.slots if slots is None else slots,
                devices=[device.uuid for device in self.devices] if devices is None else devices,
                **over,
            )
        )

    def join(self) -> Changes:
        """Hello and an offer of everything."""
        self.hello()
        return self.offer()

    def told(self, kind: type[T]) -> list[T]:
        return [message for message in self.heard if isinstance(message, kind)]

    @property
    def assigned(self) -> list[Assign]:
        return self.told(Assign)

    def report(
        self, assign: Assign, ordinal: int, metrics: dict[str, Number], step: int | None = None
    ) -> Changes:
        point = Point(ordinal, ordinal if step is None else step, metrics)
        return self.say(Reports(assign.study, assign.trial, assign.attempt, assign.token, [point]))

    def finish(
        self,
        assign: Assign,
        outcome: AttemptOutcome = AttemptOutcome.FINISHED,
        *,
        values: dict[str, Number] | None = None,
        failure: FailureClass | None = None,
        message: str = "",
    ) -> Changes:
        return self.say(
            Finished(
                assign.study,
                assign.trial,
                assign.attempt,
                assign.token,
                outcome,
                failure=failure,
                message=message,
                values=values,
            )
        )


class World:
    """One engine, its records, its agents, and a search that answers in the next turn."""

    def __init__(
        self, lease_ttl_s: float = 30.0, *, answer: Callable[[Ask], dict[str, Any]] | None = None
    ) -> None:
        self.names = itertools.count(1)
        self.settings = EngineSettings(lease_ttl_s=lease_ttl_s)
        self.engine = Engine(self._mint, self.settings)
        self.records = Records()
        self.agents: dict[str, FakeAgent] = {}
        self.now_s = 1000.0
        self.asks: list[Ask] = []
        self.ones: list[AskOne] = []
        self.notes: list[SearchNote] = []
        self.answer = answer or (lambda ask: {"x": ask.number / 100})
        self.last = Changes(0, "0-0", 0.0)

    def _mint(self) -> str:
        return f"{next(self.names):08x}"

    # --- turns ----------------------------------------------------------------------------

    def turn(self, *envelopes: Envelope | None, read_through_s: float | None = None) -> Changes:
        """One turn with these entries and the answers to all that was asked before."""
        entries = [(f"{next(self.names)}-0", envelope) for envelope in envelopes]
        suggestions: list[Suggestion | OneSuggestion] = [
            Suggestion(ask.study, ask.number, ask.cut, self.answer(ask)) for ask in self.asks
        ]
        suggestions += [OneSuggestion(ask, 0.5) for ask in self.ones]
        self.asks, self.ones = [], []
        return self.raw(entries, suggestions, read_through_s)

    def raw(
        self,
        entries: list[tuple[str, Envelope | None]],
        suggestions: list[Suggestion | OneSuggestion],
        read_through_s: float | None = None,
    ) -> Changes:
        turn = Turn(
            now_s=self.now_s,
            wall_s=self.now_s,
            read_through_s=self.now_s if read_through_s is None else read_through_s,
            entries=entries,
            suggestions=suggestions,
        )
        changes = self.engine.step(turn)
        self.records.apply(changes)
        self.notes.extend(changes.notes)
        self.asks.extend(note for note in changes.notes if isinstance(note, Ask))
        self.ones.extend(note for note in changes.notes if isinstance(note, AskOne))
        for name, entry in changes.outboxes.items():
            agent = self.agents.get(name)
            if agent is not None and agent.session == entry.session:
                agent.heard.extend(entry.messages)
                agent.seen = entry.number
                agent.acknowledged = entry.acknowledged
        self.last = changes
        if changes.reload:
            self.restart()
        return changes

    def settle(self, turns: int = 50) -> None:
        """Turn until nothing is asked and nothing changes."""
        for _ in range(turns):
            changes = self.turn()
            if not self.asks and not self.ones and changes.empty:
                return
        raise AssertionError("the engine does not come to rest")

    def wait(self, seconds: float) -> Changes:
        """Let time pass in steps that are no freeze."""
        step = self.settings.lease_ttl_s / 8
        end = self.now_s + seconds
        while self.now_s < end:
            self.now_s = min(end, self.now_s + step)
            self.turn()
        return self.last

    def restart(self) -> None:
        """The coordinator dies between two commits; another one loads what is recorded."""
        self.engine = Engine(self._mint, self.settings)
        self.engine.load(self.records.snapshot(), self.now_s)
        self.asks, self.ones = [], []

    # --- clients and agents ----------------------------------------------------------------

    def request(self, request: ClientMessage, request_id: str | None = None) -> Reply:
        name = request_id or f"request-{next(self.names)}"
        self.turn(ClientRequest(name, request))
        return self.records.replies[name]

    def submit(self, *, new: bool = False, **over: Any) -> Reply:
        return self.request(SubmitStudy(study_spec(**over), new=new))

    def study(self, name: str = "digits") -> StudyRecord:
        """The newest study of that name, as recorded."""
        named = [record for record in self.records.studies.values() if record.name == name]
        return max(named, key=lambda record: record.ordinal)

    def trial(self, number: int, name: str = "digits") -> TrialRecord:
        return self.records.trials[self.study(name).id, number]

    def agent(
        self, name: str = "a", *, slots: int = 1, devices: list[Device] | None = None, host: str | None = None
    ) -> FakeAgent:
        agent = FakeAgent(self, name, host or name, devices or [], slots)
        self.agents[name] = agent
        return agent
