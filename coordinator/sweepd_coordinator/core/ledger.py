"""Everything the coordinator knows, and the changes of the turn under way.

The engine and the two modules that handle messages (`sessions`, `requests`) share one ledger.
Every change of state goes through a method here, so that what is in memory and what is about
to be committed cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sweepd.messages import CoordinatorMessage, Event, Finished, OutboxEntry, Reply, Revoke, encode_number
from sweepd.records import AttemptRecord, EndRecord
from sweepd.states import STUDY_ENDS, TRIAL_ENDS, AttemptOutcome, StudyMove, StudyState, TrialMove
from sweepd_coordinator.core import retries
from sweepd_coordinator.core.agents import Agent
from sweepd_coordinator.core.changes import Changes, SearchNote, StudyClosed, TrialPending, TrialTold, Turn
from sweepd_coordinator.core.leases import Lease, Leases
from sweepd_coordinator.core.study import Study
from sweepd_coordinator.core.trial import Trial
from sweepd_coordinator.schedulers import RunToTheEnd

#: Answers are remembered as long as the store keeps them (keys.REPLY_TTL_S).
REPLIES_REMEMBERED = 100_000


class Ledger:
    """The state of the engine. *mint* returns a fresh random name at each call."""

    def __init__(self, mint: Callable[[], str], lease_ttl_s: float) -> None:
        self.mint = mint
        self.studies: dict[str, Study] = {}
        #: studies with something left to do or to wait for; the others are only looked up
        self.open: dict[str, Study] = {}
        self.names: dict[str, str] = {}
        self.agents: dict[str, Agent] = {}
        self.leases = Leases(lease_ttl_s)
        self.replies: dict[str, Reply] = {}
        self.commit = 0
        self.cursor = "0-0"
        self.superseded = 0  #: messages whose token held no lease, since start
        self.now_s = 0.0
        self.changes = Changes(1, self.cursor, 0.0)
        self._boxes: dict[str, list[CoordinatorMessage]] = {}
        self._resend: dict[str, int] = {}
        self._held_notes: list[SearchNote] = []

    # --- the turn -------------------------------------------------------------------------

    def open_turn(self, turn: Turn) -> None:
        self.now_s = turn.now_s
        self.changes = Changes(self.commit + 1, self.cursor, turn.wall_s)
        self.changes.notes, self._held_notes = self._held_notes, []

    def close_turn(self) -> Changes:
        """Seal the outboxes and return the changes; the next turn starts after them."""
        changes = self.changes
        for agent_id, messages in self._boxes.items():
            record = self.agents[agent_id].record
            resend = self._resend.get(agent_id)
            if resend is not None and resend <= record.last_seq:
                resend = None  # what was missing came later in the same turn
            changes.outboxes[agent_id] = OutboxEntry(
                number=record.outbox,
                session=record.session,
                acknowledged=record.last_seq,
                messages=messages,
                resend_from=resend,
            )
            changes.agents[agent_id] = record
        self._boxes, self._resend = {}, {}
        if not changes.empty or changes.cursor != self.cursor:
            self.commit = changes.commit
            self.cursor = changes.cursor
        return changes

    @property
    def next_commit(self) -> int:
        return self.changes.commit

    @property
    def wall_s(self) -> float:
        return self.changes.at

    def event(self, kind: str, study: str = "", trial: int | None = None, **more: Any) -> None:
        """Add a line to the feed; `attempt` and `agent` are fields of it, the rest is data."""
        attempt, agent = more.pop("attempt", None), more.pop("agent", "")
        self.changes.events.append(Event(kind, study, trial, attempt, agent, more))

    def note(self, note: SearchNote) -> None:
        """Tell the search, after the commit."""
        self.changes.notes.append(note)

    def note_later(self, note: SearchNote) -> None:
        """Tell the search with the first turn: for what is loaded before there is a turn."""
        self._held_notes.append(note)

    # --- agents ---------------------------------------------------------------------------

    def entry(self, agent: Agent) -> int:
        """The number of this turn's outbox entry for *agent*; asking for it makes sure of one."""
        if agent.record.id not in self._boxes:
            agent.record.outbox += 1
            self._boxes[agent.record.id] = []
        return agent.record.outbox

    def send(self, agent: Agent, message: CoordinatorMessage) -> None:
        self.entry(agent)
        self._boxes[agent.record.id].append(message)

    def ask_again(self, agent: Agent, first_seq: int) -> None:
        self.entry(agent)
        self._resend[agent.record.id] = first_seq

    # --- trials ---------------------------------------------------------------------------

    def touch(self, study: Study, trial: Trial) -> None:
        """The trial's record changed."""
        self.changes.trials[study.record.id, trial.record.number] = trial.record

    def touch_study(self, study: Study) -> None:
        self.changes.studies[study.record.id] = study.record

    def lease_of(self, token: str) -> tuple[Study, Trial, Lease] | None:
        """The study, trial and lease of a token; None if it holds none (any more)."""
        lease = self.leases.get(token)
        if lease is None:
            return None
        study = self.studies[lease.study]
        return study, study.trials[lease.trial], lease

    def pend(self, study: Study, trial: Trial) -> None:
        """The search hears of the parameters of a trial without a value."""
        self.note(
            TrialPending(
                study.record.id, trial.record.number, dict(trial.record.params), dict(trial.distributions)
            )
        )

    def end_attempt(self, lease: Lease, end: Finished) -> None:
        """Accept the end of the attempt that holds *lease*: the only way an attempt ends."""
        study = self.studies[lease.study]
        trial = study.trials[lease.trial]
        ruling = retries.rule(trial, study.spec, end, cancelled=study.record.state in STUDY_ENDS)
        attempt = trial.attempt
        attempt.outcome = AttemptOutcome.FAILED if ruling.failure is not None else end.outcome
        attempt.failure = ruling.failure
        attempt.message = ruling.message or end.message
        attempt.ended_at = self.wall_s
        attempt.usage = end.usage
        trial.record.attributes.update(end.attributes)
        if ruling.counts:
            trial.record.failures += 1
        self.leases.release(lease.token)
        self.event(
            "attempt.ended",
            lease.study,
            lease.trial,
            attempt=attempt.attempt,
            agent=lease.agent,
            outcome=attempt.outcome.value,
            failure=attempt.failure.value if attempt.failure else None,
        )
        if ruling.move is TrialMove.REQUEUE:
            self._requeue(study, trial, ruling.reason)
        else:
            self.end_trial(study, trial, ruling)
        self._log_end(study, trial, attempt)

    def end_trial(self, study: Study, trial: Trial, ruling: retries.Ruling) -> None:
        """Bring a trial to its end: record, curve, sampler, best and the look at first ends."""
        record = trial.record
        study.move_trial(trial, ruling.move)
        assert record.state in TRIAL_ENDS
        record.reason = ruling.reason
        record.ended_at = self.wall_s
        record.ended_commit = self.next_commit
        if ruling.value is not None:
            record.values = {study.objective.metric: encode_number(ruling.value)}
        key = (study.record.id, record.number)
        self.changes.points.pop(key, None)
        self.changes.curves[key] = trial.curve
        self.touch(study, trial)
        self.touch_study(study)
        if ruling.move is TrialMove.COMPLETE and ruling.value is not None:
            study.consider_best(trial, ruling.value)
        self.note(
            TrialTold(
                study.record.id,
                record.number,
                dict(record.params),
                dict(trial.distributions),
                record.state.value,
                ruling.value,
                record.last_step,
            )
        )
        self.event(
            "trial.ended",
            study.record.id,
            record.number,
            state=record.state.value,
            values=record.values,
            reason=record.reason,
        )
        if ruling.move is not TrialMove.CANCEL:
            failure = ruling.failure
            alike = study.note_end("" if failure is None else ruling.reason)
            if alike and study.record.state in {StudyState.RUNNING, StudyState.DRAINING}:
                study.record.failure = ruling.message
                study.record.reason = f"the first three trials failed alike: {ruling.reason}"
                study.move(StudyMove.PAUSE)
                self.event("study.paused", study.record.id, reason=study.record.reason)

    def _requeue(self, study: Study, trial: Trial, reason: str) -> None:
        study.move_trial(trial, TrialMove.REQUEUE)
        trial.record.reason = reason
        trial.record.stop = ""
        self.touch(study, trial)
        self.touch_study(study)
        self.event("trial.requeued", study.record.id, trial.record.number, reason=reason)

    def _log_end(self, study: Study, trial: Trial, attempt: AttemptRecord) -> None:
        assert attempt.outcome is not None
        self.changes.ends.append(
            EndRecord(
                study=study.record.id,
                trial=trial.record.number,
                attempt=attempt.attempt,
                agent=attempt.agent,
                token=attempt.token,
                outcome=attempt.outcome,
                state=trial.record.state,
                commit=self.next_commit,
                at=self.wall_s,
                values=trial.record.values,
                failure=attempt.failure,
            )
        )

    def revoke_running(self, study: Study, outcome: AttemptOutcome, reason: str) -> None:
        """Ask every running attempt of a study to stop; each ends with its own Finished."""
        for trial in study.trials.values():
            if not trial.record.attempts or trial.attempt.outcome is not None:
                continue
            trial.attempt.revoked = outcome
            self.touch(study, trial)
            self.send(self.agents[trial.attempt.agent], Revoke(trial.attempt.token, outcome, reason))

    def close_study(self, study: Study) -> None:
        """A study that ended and whose last trial ended leaves the memory."""
        assert study.record.state in STUDY_ENDS
        study.record.finished_at = self.wall_s
        # Its rungs are no longer needed; a study that is resumed is loaded again with them.
        study.scheduler = RunToTheEnd()
        del self.open[study.record.id]
        self.touch_study(study)
        self.note(StudyClosed(study.record.id))
