"""What an attempt's end means for its trial: one table, and the reasons in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sweepd.messages import Finished, decode_number
from sweepd.spec import StudySpec
from sweepd.states import AttemptOutcome, FailureClass, TrialMove
from sweepd_coordinator.core.trial import Trial

#: Trying again cannot help these.
HOPELESS = frozenset({FailureClass.BAD_CONFIG, FailureClass.DIVERGED})
#: A trial that died with this many different agents is taken for the cause (DESIGN section 5).
DEATHS_ON_AGENTS = 3


@dataclass(frozen=True, slots=True)
class Ruling:
    """What becomes of the trial. `value`: of the objective, for complete and pruned trials."""

    move: TrialMove
    reason: str
    value: float | None = None
    failure: FailureClass | None = None
    message: str = ""
    counts: bool = False  #: the attempt uses up one of retry.max_attempts


def rule(trial: Trial, spec: StudySpec, end: Finished, *, cancelled: bool) -> Ruling:
    """Judge an accepted end of the trial's newest attempt; *cancelled*: its study was taken down."""
    match end.outcome:
        case AttemptOutcome.FINISHED:
            ruling = _finished(trial, spec, end)
        case AttemptOutcome.PRUNED:
            ruling = _stopped(trial, spec, "the job pruned itself")
        case AttemptOutcome.CANCELLED:
            ruling = Ruling(TrialMove.CANCEL, end.message or "cancelled")
        case AttemptOutcome.FAILED:
            ruling = _failed(trial, spec, end.failure or FailureClass.CRASHED, end.message)
        case _:
            ruling = _given_back(trial, spec, end)
    if cancelled and ruling.move is TrialMove.REQUEUE:
        return Ruling(TrialMove.CANCEL, "its study was taken down", None, ruling.failure, ruling.message)
    return ruling


def _finished(trial: Trial, spec: StudySpec, end: Finished) -> Ruling:
    objective = spec.objectives[0]
    if end.values is not None and objective.metric in end.values:
        value = decode_number(end.values[objective.metric])
    else:
        reported = trial.reported_value(objective)
        if reported is None:
            return _failed(
                trial,
                spec,
                FailureClass.BAD_CONFIG,
                f"the job ended well but never reported {objective.metric!r}: report it with "
                f"sweepd.report({{{objective.metric!r}: value}}) or name another metric in objectives",
            )
        value = reported
    if math.isnan(value):
        return _failed(trial, spec, FailureClass.DIVERGED, f"{objective.metric} is NaN")
    if trial.record.stop == "complete":
        return Ruling(TrialMove.COMPLETE, trial.record.reason, value)
    return Ruling(TrialMove.COMPLETE, "reached its own end", value)


def _stopped(trial: Trial, spec: StudySpec, unasked: str) -> Ruling:
    """It was told to stop and did, or stopped by itself."""
    value = trial.reported_value(spec.objectives[0])
    if trial.record.stop == "complete" and value is not None and not math.isnan(value):
        return Ruling(TrialMove.COMPLETE, trial.record.reason, value)
    reason = trial.record.reason if trial.record.stop else unasked
    return Ruling(TrialMove.PRUNE, reason, value)


def _failed(trial: Trial, spec: StudySpec, failure: FailureClass, message: str) -> Ruling:
    allowed = spec.retry.max_attempts
    used = trial.record.failures + 1
    last = last_line(message)
    what = f"{failure.value}: {last}" if last else failure.value
    if failure in HOPELESS or used >= allowed:
        reason = what if allowed == 1 or failure in HOPELESS else f"{what} (attempt {used} of {allowed})"
        return Ruling(TrialMove.FAIL, reason, None, failure, message, counts=True)
    return Ruling(
        TrialMove.REQUEUE,
        f"{what}; trying again after {used} of {allowed}",
        None,
        failure,
        message,
        counts=True,
    )


def _given_back(trial: Trial, spec: StudySpec, end: Finished) -> Ruling:
    """Lost, preempted, superseded: nothing is held against the trial, with one exception."""
    if trial.record.stop:
        return _stopped(trial, spec, "")
    lost = {
        attempt.agent for attempt in trial.record.attempts if attempt.outcome in {None, AttemptOutcome.LOST}
    }
    if end.outcome is AttemptOutcome.LOST and len(lost) >= DEATHS_ON_AGENTS:
        agents = ", ".join(sorted(lost))
        message = f"three agents were lost while they ran it: {agents}"
        return Ruling(TrialMove.FAIL, message, None, FailureClass.CRASHED, message)
    return Ruling(
        TrialMove.REQUEUE, f"{end.outcome.value}: {end.message}" if end.message else end.outcome.value
    )


def last_line(message: str) -> str:
    """The last line of a message that says something, where tracebacks have their error."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
