"""A study as the engine holds it: its record, its scheduler, and its trials that have not ended."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from sweepd.messages import Job, Resources, encode_number
from sweepd.records import BestRecord, StudyRecord, TrialRecord
from sweepd.spec import Objective, StudySpec
from sweepd.states import TRIAL_ENDS, StudyMove, StudyState, TrialMove, TrialState, move_study, move_trial
from sweepd_coordinator import schedulers
from sweepd_coordinator.core import budget
from sweepd_coordinator.core.trial import Trial

#: A study is looked at for a common cause when so many trials have ended.
FIRST_ENDS = 3


@dataclass(slots=True)
class Study:
    """The live side of a StudyRecord."""

    record: StudyRecord
    spec: StudySpec
    scheduler: schedulers.Scheduler
    trials: dict[int, Trial] = field(default_factory=dict[int, Trial])
    #: waiting trials: those that ran before go first
    again: deque[int] = field(default_factory=deque[int])
    fresh: deque[int] = field(default_factory=deque[int])
    #: suggestions on their way, for the numbers after the record's next_number
    asked: int = 0
    #: what every attempt takes, and what its agent is told to start
    resources: Resources = field(init=False)
    job: Job = field(init=False)

    def __post_init__(self) -> None:
        self.adopt(self.spec)

    def adopt(self, spec: StudySpec) -> None:
        """Take an edited spec: what agents are told follows it from the next lease on."""
        self.spec = spec
        # Of a budget that was cut: suggestions on their way that nobody waits for any more.
        self.asked = min(self.asked, budget.remaining(self.record, spec, 0))
        task = spec.task
        self.resources = Resources(
            gpus=spec.resources.gpus,
            cpus=spec.resources.cpus,
            memory_mib=spec.resources.memory_mib,
            gpu_memory_mib=spec.resources.gpu_memory_mib,
            labels=spec.resources.labels,
        )
        self.job = Job(
            kind=spec.kind,
            target=task.target,
            args=task.args,
            python=task.python,
            workdir=task.workdir,
            env=task.env,
            executor=spec.executor.type,
            objectives=[[objective.metric, objective.direction] for objective in spec.objectives],
            time_limit_s=spec.limits.time_s,
        )

    @property
    def objective(self) -> Objective:
        return self.spec.objectives[0]

    @property
    def declared(self) -> bool:
        """Whether trials get their parameters before they run."""
        return bool(self.spec.space)

    @property
    def leasable(self) -> bool:
        return self.record.state is StudyState.RUNNING and bool(self.again or self.fresh)

    @property
    def waiting(self) -> int:
        return len(self.again) + len(self.fresh)

    def count(self, state: str) -> int:
        return self.record.counts.get(state, 0)

    @property
    def to_create(self) -> int:
        """Trials that the budget still allows, less those whose suggestion is on its way."""
        return budget.remaining(self.record, self.spec, self.asked)

    def move(self, move: StudyMove) -> None:
        self.record.state = move_study(self.record.state, move)

    def add(self, record: TrialRecord) -> Trial:
        """Take a new waiting trial; its number is the next one."""
        assert record.number == self.record.next_number
        self.record.next_number += 1
        self._count(record.state, 1)
        trial = Trial(record)
        self.trials[record.number] = trial
        self.fresh.append(record.number)
        return trial

    def restore(self, record: TrialRecord) -> Trial | None:
        """Take a trial from the store; None if it has ended. The study's counts are recorded."""
        if record.state in TRIAL_ENDS:
            return None
        trial = Trial(record)
        self.trials[record.number] = trial
        if record.state is TrialState.WAITING:
            (self.again if record.attempts else self.fresh).append(record.number)
        return trial

    def move_trial(self, trial: Trial, move: TrialMove) -> None:
        """Move a trial and everything that depends on its state."""
        record = trial.record
        before = record.state
        record.state = move_trial(before, move, trial.story())
        self._count(before, -1)
        self._count(record.state, 1)
        if before is TrialState.WAITING:
            queue = self.again if record.number in self.again else self.fresh
            queue.remove(record.number)
        if record.state is TrialState.WAITING:
            self.again.append(record.number)
        elif record.state in TRIAL_ENDS:
            del self.trials[record.number]

    def next_waiting(self) -> Trial:
        """The trial to lease next: one to try again before a new one."""
        return self.trials[(self.again or self.fresh)[0]]

    def consider_best(self, trial: Trial, value: float) -> None:
        """Keep the best complete trial; the first of equals stays."""
        best = self.record.best
        objective = self.objective
        if best is not None:
            held = float(best.values[objective.metric])
            if not (value > held if objective.direction == "maximize" else value < held):
                return
        values = {objective.metric: encode_number(value)}
        self.record.best = BestRecord(trial.record.number, values, trial.record.params)

    def note_end(self, how: str) -> bool:
        """Remember how one of the first trials ended; True when they all failed alike just now.

        *how*: empty for a trial that did not fail, else its failure in one line.
        """
        ends = self.record.first_ends
        if len(ends) >= FIRST_ENDS:
            return False
        ends.append(how)
        return len(ends) == FIRST_ENDS and self.record.failure_check and ends[0] != "" and len(set(ends)) == 1

    @property
    def finished(self) -> bool:
        """Whether nothing remains to run or to create."""
        return not self.trials and not self.asked and not self.to_create

    def _count(self, state: TrialState, by: int) -> None:
        counts = self.record.counts
        counts[state.value] = counts.get(state.value, 0) + by
