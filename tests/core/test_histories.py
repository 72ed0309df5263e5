"""Random histories: whatever happens in whatever order, the promises of the design hold.

Hypothesis plays clients, agents, a coordinator that dies between any two commits, messages
that are sent twice, lost or late. After each event every invariant is checked, and a second
engine that is loaded from the records must hold the same as the one that lived.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from core.world import FakeAgent, World
from sweepd.messages import (
    AgentBatch,
    Assign,
    CancelStudy,
    Decline,
    Device,
    Leave,
    PauseStudy,
    Renew,
    Reports,
    ResumeStudy,
    RunningAttempt,
    Started,
    SuggestParameter,
)
from sweepd.states import TRIAL_ENDS, AttemptOutcome, FailureClass, StudyState, TrialState
from sweepd_coordinator.core.changes import Ask, TrialTold
from sweepd_coordinator.core.engine import Engine

SCHEDULERS: list[dict[str, Any]] = [{"type": "none"}, {"type": "asha", "min": 1, "max": 9, "eta": 3}]
NUMBERS = st.sampled_from([0.1, 0.3, 0.5, 0.7, "nan", "inf", "-inf"])


class Histories(RuleBasedStateMachine):
    """Two agents on one host with two GPUs between them, a third elsewhere, and two studies."""

    @initialize(
        scheduler=st.sampled_from(SCHEDULERS),
        trials=st.integers(1, 6),
        attempts=st.integers(1, 2),
        gpus=st.integers(0, 1),
        declared=st.booleans(),
        sampler=st.sampled_from(["random", "tpe"]),
    )
    def begin(
        self,
        scheduler: dict[str, Any],
        trials: int,
        attempts: int,
        gpus: int,
        declared: bool,
        sampler: str,
    ) -> None:
        self.world = World()
        self.budget = trials
        self.spec: dict[str, Any] = {
            "scheduler": scheduler,
            "retry": {"max_attempts": attempts},
            "resources": {"gpus": gpus},
            "sampler": {"type": sampler, "seed": 1},
        }
        if not declared:
            self.spec |= {"space": None, "task": {"objective": "train.py:objective"}}
        self.world.submit(budget={"trials": trials}, **self.spec)
        self.study = self.world.study().id
        devices = [Device("GPU-1", "a", 10), Device("GPU-2", "b", 20)]
        for name, host, held in (("a", "one", devices), ("b", "one", devices), ("c", "two", devices[:1])):
            self.world.agent(name, slots=2, devices=held, host=host)
        self.sent: list[AgentBatch] = []
        #: the reports that the coordinator acknowledged while their attempt held the lease
        self.kept: set[tuple[int, int, int]] = set()
        self.reported: dict[str, int] = {}

    # --- what happens ------------------------------------------------------------------------

    def _say(self, agent: FakeAgent, *messages: Any) -> None:
        batch = agent.batch(*messages)
        self.sent.append(batch)
        self.world.turn(batch)

    def _live(self) -> list[tuple[FakeAgent, Assign]]:
        """Every attempt that an agent was ever told of, also those that are long over."""
        return [(agent, assign) for agent in self.world.agents.values() for assign in agent.assigned]

    @rule(name=st.sampled_from("abc"), keep=st.booleans())
    def session(self, name: str, keep: bool) -> None:
        agent = self.world.agents[name]
        kept = [RunningAttempt(a.study, a.trial, a.attempt, a.token) for a in agent.assigned] if keep else []
        agent.hello(running=kept)

    @rule(name=st.sampled_from("abc"), slots=st.integers(0, 2), count=st.integers(0, 2))
    def offer(self, name: str, slots: int, count: int) -> None:
        agent = self.world.agents[name]
        if agent.session:
            agent.offer(slots=slots, devices=[device.uuid for device in agent.devices[:count]])

    @precondition(lambda self: self._live())
    @rule(data=st.data(), value=NUMBERS, coarse=st.booleans())
    def report(self, data: st.DataObject, value: Any, coarse: bool) -> None:
        agent, assign = data.draw(st.sampled_from(self._live()))
        held = self.world.engine._ledger.leases.get(assign.token)  # pyright: ignore[reportPrivateUsage]
        trial = self.world.records.trials[assign.study, assign.trial]
        fresh = held is not None and held.agent == agent.name and agent.seq > 0
        next_ordinal = self.reported[assign.token] = self.reported.get(assign.token, 0) + 1
        step = next_ordinal * (2 if coarse else 1)
        agent.report(assign, next_ordinal, {"acc": value}, step=step)
        if fresh and trial.attempts[-1].token == assign.token:
            self.kept.add((assign.trial, assign.attempt, step))

    @precondition(lambda self: self._live())
    @rule(
        data=st.data(),
        outcome=st.sampled_from(AttemptOutcome),
        failure=st.sampled_from([None, *FailureClass]),
        value=st.one_of(st.none(), NUMBERS),
    )
    def finish(self, data: st.DataObject, outcome: AttemptOutcome, failure: Any, value: Any) -> None:
        agent, assign = data.draw(st.sampled_from(self._live()))
        values = None if value is None else {"acc": value}
        agent.finish(assign, outcome, values=values, failure=failure, message="KeyError: 1")

    @precondition(lambda self: self._live())
    @rule(data=st.data(), what=st.sampled_from(["started", "renew", "decline", "suggest", "leave"]))
    def other_message(self, data: st.DataObject, what: str) -> None:
        agent, assign = data.draw(st.sampled_from(self._live()))
        key = (assign.study, assign.trial, assign.attempt, assign.token)
        space = {"type": "float", "low": 0.0, "high": 1.0}
        messages: dict[str, Any] = {
            "started": Started(*key),
            "renew": Renew([assign.token]),
            "decline": Decline(*key, "no"),
            "suggest": SuggestParameter(*key, "x", space),
            "leave": Leave(),
        }
        self._say(agent, messages[what])

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def sent_twice(self, data: st.DataObject) -> None:
        before = len(self.world.records.ends)
        self.world.turn(data.draw(st.sampled_from(self.sent)))
        assert len(self.world.records.ends) == before

    @rule(name=st.sampled_from("abc"))
    def lost_on_the_way(self, name: str) -> None:
        """A batch that never arrives leaves a gap: nothing after it counts until it is sent again."""
        agent = self.world.agents[name]
        if not agent.session:
            return
        lost = agent.batch(Renew([]))
        late = agent.batch(Renew([]))
        entry = self.world.turn(late).outboxes.get(name)
        if entry is not None and entry.resend_from is not None:
            assert entry.resend_from <= lost.first_seq
        self.world.turn(lost)
        self.world.turn(late)

    @rule(seconds=st.sampled_from([1, 20, 40]))
    def time_passes(self, seconds: int) -> None:
        self.world.wait(seconds)

    @rule()
    def a_turn_without_news(self) -> None:
        self.world.turn()

    @rule()
    def freeze(self) -> None:
        running = self.world.study().counts.get("running", 0)
        self.world.now_s += 500
        self.world.raw([], [])
        assert self.world.study().counts.get("running", 0) >= running

    @rule()
    def coordinator_dies(self) -> None:
        self.world.restart()

    @rule(what=st.sampled_from(["pause", "resume", "cancel", "submit", "grow"]))
    def client(self, what: str) -> None:
        if what == "cancel" and self.budget % 2:  # leave some studies a chance to finish
            return
        if what == "grow":
            self.budget += 1
        if what in {"submit", "grow"}:
            reply = self.world.submit(budget={"trials": self.budget}, **self.spec)
            if reply.error and what == "grow":
                self.budget -= 1
        else:
            kinds: dict[str, Any] = {"pause": PauseStudy, "resume": ResumeStudy, "cancel": CancelStudy}
            self.world.request(kinds[what](self.study))

    # --- what holds ---------------------------------------------------------------------------

    @invariant()
    def one_accepted_end_per_trial(self) -> None:
        ended: dict[int, int] = {}
        attempts: set[str] = set()
        for end in self.world.records.ends:
            assert end.token not in attempts, "an attempt ended twice"
            attempts.add(end.token)
            assert end.trial not in ended, "an end was accepted after the trial's end"
            if end.state in TRIAL_ENDS:
                ended[end.trial] = end.attempt
        told = [note.number for note in self.world.notes if isinstance(note, TrialTold)]
        finished = {
            record.number for record in self.world.records.trials.values() if record.state in TRIAL_ENDS
        }
        assert set(told) >= finished, "the sampler was not told of an end"

    @invariant()
    def the_budget_is_exact(self) -> None:
        records = list(self.world.records.trials.values())
        counted = [record for record in records if record.state is not TrialState.CANCELLED]
        assert len(counted) <= self.budget
        assert sorted(record.number for record in records) == list(range(len(records)))
        study = self.world.study()
        assert study.next_number == len(records)
        if study.state is StudyState.DONE:
            assert len(counted) == self.budget
            assert all(record.state in TRIAL_ENDS for record in records)

    @invariant()
    def counts_are_what_the_records_say(self) -> None:
        counted: dict[str, int] = {}
        for record in self.world.records.trials.values():
            counted[record.state.value] = counted.get(record.state.value, 0) + 1
        held = {state: count for state, count in self.world.study().counts.items() if count}
        assert held == counted

    @invariant()
    def one_lease_per_running_trial_and_device(self) -> None:
        running = [r for r in self.world.records.trials.values() if r.state is TrialState.RUNNING]
        assert self.world.engine.gauges().leases == len(running)
        devices = [(r.attempts[-1].host, uuid) for r in running for uuid in r.attempts[-1].devices]
        assert len(devices) == len(set(devices)), "a device is leased twice"
        for record in self.world.records.trials.values():
            open_attempts = [attempt for attempt in record.attempts if attempt.outcome is None]
            assert len(open_attempts) == (record.state is TrialState.RUNNING)
            assert [attempt.attempt for attempt in record.attempts] == list(
                range(1, len(record.attempts) + 1)
            )

    @invariant()
    def nothing_acknowledged_is_lost(self) -> None:
        records = self.world.records
        stored: dict[tuple[int, int, int], int] = {}
        for source in (records.points, records.curves):
            for (_, number), points in source.items():
                for point in points:
                    key = (number, point.attempt, point.step)
                    stored[key] = stored.get(key, 0) + 1
        for key in self.kept:
            assert stored.get(key) == 1, f"the report {key} is there {stored.get(key, 0)} times"

    @invariant()
    def every_end_has_a_reason(self) -> None:
        for record in self.world.records.trials.values():
            if record.state in TRIAL_ENDS:
                assert record.reason
                assert record.ended_commit is not None

    @invariant()
    def a_successor_holds_the_same(self) -> None:
        successor = Engine(lambda: "unused", self.world.settings)
        successor.load(self.world.records.snapshot(), self.world.now_s)
        mine, theirs = self.world.engine.gauges(), successor.gauges()
        assert (mine.trials, mine.studies, mine.leases, mine.slots_free, mine.slots_total, mine.agents) == (
            theirs.trials,
            theirs.studies,
            theirs.leases,
            theirs.slots_free,
            theirs.slots_total,
            theirs.agents,
        )

    def teardown(self) -> None:
        """Left in peace, the study comes to its end with exactly its budget."""
        world = getattr(self, "world", None)
        if world is None or world.study().state in {StudyState.CANCELLED, StudyState.FAILED}:
            return
        for agent in world.agents.values():
            agent.hello()
        world.request(ResumeStudy(self.study))
        for _ in range(60):
            if world.study().state is StudyState.DONE:
                break
            for agent in world.agents.values():
                agent.offer()
                world.settle()
                for trial in [r for r in world.records.trials.values() if r.state is TrialState.RUNNING]:
                    for assign in agent.assigned:
                        if assign.token == trial.attempts[-1].token:
                            agent.finish(assign, values={"acc": 0.5})
            if world.study().state is StudyState.PAUSED:  # the first three failed alike
                world.request(ResumeStudy(self.study))
        assert world.study().state is StudyState.DONE
        self.the_budget_is_exact()
        self.one_accepted_end_per_trial()


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestManyHistories(Histories.TestCase):
    """The same for two minutes: `make soak`."""

    settings = settings(max_examples=5_000, stateful_step_count=50, deadline=None)


def test_the_same_history_makes_the_same_records() -> None:
    """The engine is deterministic: no clock, no chance, no order of a set."""

    def history() -> tuple[Any, ...]:
        world = World()
        world.submit(scheduler=SCHEDULERS[1], budget={"trials": 20})
        agents = [world.agent(name, slots=2) for name in "abc"]
        for agent in agents:
            agent.join()
        for turn in range(60):
            agent = agents[turn % 3]
            for assign in agent.assigned[-2:]:
                agent.say(Reports(assign.study, assign.trial, assign.attempt, assign.token, []))
                agent.report(assign, turn + 1, {"acc": (assign.trial * 7 % 10) / 10})
                if turn % 4 == 0:
                    agent.finish(assign)
            agent.offer(slots=1)
            if turn == 30:
                world.restart()
        asks = [note for note in world.notes if isinstance(note, Ask)]
        return world.records.trials, world.records.studies, world.records.ends, asks

    assert history() == history()
