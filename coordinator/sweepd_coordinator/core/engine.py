"""The engine: what waited goes in, what changes comes out. Pure and deterministic.

Time, fresh names and finished suggestions are arguments; nothing here awaits, reads a clock or
draws a number. The same code runs under the daemon, under Hypothesis and under the simulator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sweepd import space
from sweepd.messages import AgentBatch, Assign, ClientRequest, decode_number
from sweepd.records import AttemptRecord, TrialRecord
from sweepd.states import STUDY_ENDS, StudyMove, StudyState, TrialMove, TrialState
from sweepd_coordinator import schedulers
from sweepd_coordinator.core import budget, dispatch, offers, requests, sessions
from sweepd_coordinator.core.agents import Agent
from sweepd_coordinator.core.changes import (
    Ask,
    Changes,
    OneSuggestion,
    Snapshot,
    StudyOpened,
    Suggestion,
    TrialPending,
    TrialTold,
    Turn,
)
from sweepd_coordinator.core.leases import Lease
from sweepd_coordinator.core.ledger import Ledger
from sweepd_coordinator.core.study import Study


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """`lease_ttl_s`: an attempt whose agent is silent for so long is lost."""

    lease_ttl_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the engine holds right now, for metrics."""

    trials: dict[str, int] = field(default_factory=dict[str, int])  #: by state, of open studies
    studies: dict[str, int] = field(default_factory=dict[str, int])
    agents: dict[str, int] = field(default_factory=dict[str, int])
    leases: int = 0
    slots_total: int = 0
    slots_free: int = 0
    superseded: int = 0
    asked: int = 0


class Engine:
    """Everything the coordinator decides."""

    def __init__(self, mint: Callable[[], str], settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        self._ledger = Ledger(mint, self.settings.lease_ttl_s)
        self._turned_s: float | None = None

    # --- start-up -------------------------------------------------------------------------

    def load(self, snapshot: Snapshot, now_s: float) -> None:
        """Take over what the store holds. Rungs, queues and leases are rebuilt from the records.

        Every lease gets a fresh full term, every connected agent counts as just heard. The
        search is told the history with the first turn.
        """
        ledger = self._ledger
        ledger.commit, ledger.cursor = snapshot.commit, snapshot.cursor
        ledger.replies = dict(snapshot.replies)
        self._turned_s = now_s
        for agent in snapshot.agents.values():
            ledger.agents[agent.id] = Agent(agent, now_s)
        for record in sorted(snapshot.studies.values(), key=lambda record: record.ordinal):
            spec = snapshot.specs[record.id]
            study = Study(record, spec, schedulers.build(spec))
            ledger.studies[record.id] = study
            ledger.names[record.name] = record.id
            if record.finished_at is None:
                ledger.open[record.id] = study
                ledger.note_later(StudyOpened(record.id, spec))
                for trial in sorted(snapshot.trials.get(record.id, []), key=lambda trial: trial.number):
                    self._load_trial(study, trial, snapshot, now_s)

    def _load_trial(self, study: Study, record: TrialRecord, snapshot: Snapshot, now_s: float) -> None:
        ledger = self._ledger
        rungs = {level: decode_number(value) for level, value in record.rungs.items()}
        study.scheduler.restore(record.number, rungs)
        trial = study.restore(record)
        distributions = {
            name: space.from_distribution(data, name) for name, data in record.distributions.items()
        }
        if trial is None:
            value = (record.values or {}).get(study.objective.metric)
            ledger.note_later(
                TrialTold(
                    study.record.id,
                    record.number,
                    record.params,
                    distributions,
                    record.state.value,
                    None if value is None else decode_number(value),
                    record.last_step,
                )
            )
            return
        trial.distributions = distributions
        trial.restore(snapshot.points.get((study.record.id, record.number), []), study.objective)
        if record.state is TrialState.RUNNING:
            attempt = trial.attempt
            agent = ledger.agents[attempt.agent]
            lease = Lease(
                attempt.token, study.record.id, record.number, attempt.agent, now_s + ledger.leases.ttl_s
            )
            ledger.leases.grant(lease, attempt.host, attempt.devices)
            if attempt.assigned_in > agent.record.outbox_seen:
                agent.in_flight.setdefault(attempt.assigned_in, []).append((study.resources, attempt.devices))
        ledger.note_later(
            TrialPending(study.record.id, record.number, dict(record.params), dict(distributions))
        )

    # --- a turn ---------------------------------------------------------------------------

    def step(self, turn: Turn) -> Changes:
        """Handle everything that waited and return what changes.

        The caller commits the changes before it calls again; if that fails it discards this
        engine and loads a new one.
        """
        ledger = self._ledger
        ledger.open_turn(turn)
        self._forgive_freeze(turn.now_s)
        for entry_id, envelope in turn.entries:
            ledger.changes.cursor = entry_id
            match envelope:
                case None:
                    ledger.event("message.rejected", id=entry_id)
                case AgentBatch():
                    sessions.hear(ledger, envelope)
                case ClientRequest():  # pragma: no branch
                    requests.answer(ledger, envelope)
        for suggestion in turn.suggestions:
            if isinstance(suggestion, OneSuggestion):
                sessions.suggested(ledger, suggestion)
            else:
                self._create_suggested(suggestion)
        self._expire(min(turn.now_s, turn.read_through_s))
        self._dispatch()
        self._prepare()
        self._dispatch()
        self._settle()
        self._ask()
        return ledger.close_turn()

    def next_deadline_s(self, now_s: float) -> float | None:
        """When the next turn is due even if nothing arrives; None if it can wait.

        While there is something to expire, turns come at least every eighth of the term: a
        longer gap is taken for a freeze of this process and refreshes all terms.
        """
        ledger = self._ledger
        if not len(ledger.leases) and not any(agent.connected for agent in ledger.agents.values()):
            return None
        return now_s + self.settings.lease_ttl_s / 8

    def _forgive_freeze(self, now_s: float) -> None:
        """After a gap of over a quarter of the term (SIGSTOP, a stalled store) nobody is to blame."""
        ledger = self._ledger
        if self._turned_s is not None and now_s - self._turned_s > self.settings.lease_ttl_s / 4:
            ledger.leases.refresh(now_s)
            for agent in ledger.agents.values():
                agent.seen_s = now_s
        self._turned_s = now_s

    def _expire(self, judged_s: float) -> None:
        ledger = self._ledger
        for lease in ledger.leases.expired(judged_s):
            sessions.lose(ledger, lease, f"no renewal for {self.settings.lease_ttl_s:g} s")
        for agent in ledger.agents.values():
            if agent.connected and agent.seen_s + self.settings.lease_ttl_s <= judged_s:
                agent.record.state = "lost"
                ledger.changes.agents[agent.record.id] = agent.record
                ledger.event("agent.lost", agent=agent.record.id)

    # --- trials ---------------------------------------------------------------------------

    def _create_suggested(self, answer: Suggestion) -> None:
        ledger = self._ledger
        study = ledger.open.get(answer.study)
        if study is None or not study.asked or answer.number != study.record.next_number:
            return  # asked by an earlier state of the study: it was cancelled meanwhile
        study.asked -= 1
        if answer.error:
            study.move(StudyMove.FAIL)
            requests.end_study(
                ledger, study, f"the sampler failed at trial {answer.number}: {answer.error}", "study.failed"
            )
            return
        self._create(study, answer.params, answer.cut)

    def _create(self, study: Study, params: dict[str, object], cut: int) -> None:
        ledger = self._ledger
        record = TrialRecord(
            number=study.record.next_number,
            state=TrialState.WAITING,
            created_at=ledger.wall_s,
            created_commit=ledger.next_commit,
            params=params,
            cut=cut,
        )
        trial = study.add(record)
        ledger.touch(study, trial)
        ledger.touch_study(study)
        ledger.pend(study, trial)
        ledger.event("trial.created", study.record.id, record.number, params=params)

    def _dispatch(self) -> None:
        """Lease waiting trials to free slots, one per agent and round."""
        ledger = self._ledger
        studies = dispatch.studies_by_share(ledger.open.values())
        agents = dispatch.agents_by_room(ledger.agents.values()) if studies else []
        while studies and agents:
            agents = [agent for agent in agents if self._lease_one(agent, studies)]
            studies = dispatch.studies_by_share(studies)

    def _lease_one(self, agent: Agent, studies: list[Study]) -> bool:
        """Lease one trial to *agent*; False if nothing of what waits fits there."""
        record = agent.record
        assert record.offer is not None  # it has free slots
        free = self._ledger.leases.unheld(record.host, record.offer.devices)
        for study in studies:
            if not study.leasable:
                continue
            devices = offers.fit(study.resources, record.offer, free, record.devices, record.labels)
            if devices is not None:
                self._lease(agent, study, devices)
                return True
        return False

    def _lease(self, agent: Agent, study: Study, devices: list[str]) -> None:
        ledger = self._ledger
        trial = study.next_waiting()
        record = trial.record
        offer = agent.record.offer
        assert offer is not None
        study.move_trial(trial, TrialMove.LEASE)
        attempt = AttemptRecord(
            attempt=len(record.attempts) + 1,
            agent=agent.record.id,
            host=agent.record.host,
            token=ledger.mint(),
            leased_at=ledger.wall_s,
            devices=devices,
            assigned_in=ledger.entry(agent),
        )
        trial.begin(attempt)
        record.reason = ""
        agent.assigned(attempt.assigned_in, study.resources, devices)
        deadline_s = ledger.now_s + ledger.leases.ttl_s
        lease = Lease(attempt.token, study.record.id, record.number, agent.record.id, deadline_s)
        ledger.leases.grant(lease, agent.record.host, devices)
        ledger.send(
            agent,
            Assign(
                offer=offer.number,
                study=study.record.id,
                study_name=study.record.name,
                trial=record.number,
                attempt=attempt.attempt,
                token=attempt.token,
                params=record.params,
                job=study.job,
                resources=study.resources,
                devices=devices,
                declared=study.declared,
            ),
        )
        ledger.touch(study, trial)
        ledger.touch_study(study)
        ledger.event(
            "trial.leased", study.record.id, record.number, attempt=attempt.attempt, agent=agent.record.id
        )

    def _prepare(self) -> None:
        """Create trials whose job suggests its own parameters: there is nothing to ask for."""
        for study in self._ledger.open.values():
            if study.record.state is StudyState.RUNNING and not study.declared:
                for _ in range(min(self._wanted(study), study.to_create)):
                    self._create(study, {}, self._ledger.next_commit)

    def _ask(self) -> None:
        """Ask for suggestions ahead, tagged with the commit whose history they will see."""
        ledger = self._ledger
        changes = ledger.changes
        moved = not changes.empty or changes.cursor != ledger.cursor
        cut = changes.commit if moved else ledger.commit
        for study in ledger.open.values():
            if study.record.state is StudyState.RUNNING and study.declared:
                for _ in range(min(self._wanted(study), study.to_create)):
                    ledger.note(Ask(study.record.id, study.record.next_number + study.asked, cut))
                    study.asked += 1

    def _wanted(self, study: Study) -> int:
        return budget.to_ask(study.spec.sampler.type, *self._slots(), study.waiting + study.asked)

    def _slots(self) -> tuple[int, int]:
        """Free and total slots of connected agents."""
        agents = [agent for agent in self._ledger.agents.values() if agent.connected]
        return sum(agent.free_slots for agent in agents), sum(agent.record.slots for agent in agents)

    def _settle(self) -> None:
        """Move studies whose budget is spent, and let go of those that ended."""
        ledger = self._ledger
        for study in list(ledger.open.values()):
            record = study.record
            if record.state is StudyState.DRAINING and study.waiting:
                study.move(StudyMove.RESUME)  # a trial came back to be tried again
                ledger.touch_study(study)
            if record.state is StudyState.RUNNING and not (study.waiting or study.asked or study.to_create):
                study.move(StudyMove.EXHAUST)
                ledger.touch_study(study)
                ledger.event("study.draining", record.id)
            if record.state in {StudyState.DRAINING, StudyState.PAUSED} and study.finished:
                study.move(StudyMove.FINISH)
                ledger.event("study.done", record.id)
            if record.state in STUDY_ENDS and not study.trials:
                ledger.close_study(study)

    # --- for metrics ----------------------------------------------------------------------

    def gauges(self) -> Gauges:
        """Count what is held: trials of open studies by state, agents by state, slots, leases."""
        ledger = self._ledger
        trials: dict[str, int] = {state.value: 0 for state in TrialState}
        studies: dict[str, int] = {state.value: 0 for state in StudyState}
        for study in ledger.studies.values():
            studies[study.record.state.value] += 1
            for state, count in study.record.counts.items():
                trials[state] += count
        agents: dict[str, int] = {"connected": 0, "lost": 0, "left": 0}
        for agent in ledger.agents.values():
            agents[agent.record.state] += 1
        free, total = self._slots()
        return Gauges(
            trials=trials,
            studies=studies,
            agents=agents,
            leases=len(ledger.leases),
            slots_total=total,
            slots_free=free,
            superseded=ledger.superseded,
            asked=sum(study.asked for study in ledger.open.values()),
        )
