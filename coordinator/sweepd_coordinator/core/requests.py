"""What clients ask for. Every request has an answer, stored under its id: asked again, it is
answered again and not done again."""

from __future__ import annotations

from sweepd import spec as specs
from sweepd.errors import SpecError
from sweepd.messages import (
    CancelStudy,
    ClientRequest,
    PauseStudy,
    Reply,
    ResumeStudy,
    SubmitStudy,
)
from sweepd.records import StudyRecord
from sweepd.states import STUDY_ENDS, AttemptOutcome, StudyMove, StudyState, TrialMove, TrialState
from sweepd_coordinator import schedulers
from sweepd_coordinator.core import budget, retries
from sweepd_coordinator.core.changes import StudyOpened
from sweepd_coordinator.core.ledger import REPLIES_REMEMBERED, Ledger
from sweepd_coordinator.core.study import Study
from sweepd_coordinator.core.trial import Trial


def answer(ledger: Ledger, asked: ClientRequest) -> None:
    """Carry out a request and store its answer."""
    reply = ledger.replies.get(asked.request_id)
    if reply is None:
        match asked.request:
            case SubmitStudy():
                reply = _submit(ledger, asked.request_id, asked.request)
            case PauseStudy(study=study, reason=reason):
                reply = _pause(ledger, asked.request_id, study, reason)
            case ResumeStudy(study=study):
                reply = _resume(ledger, asked.request_id, study)
            case CancelStudy(study=study, reason=reason):  # pragma: no branch
                reply = _cancel(ledger, asked.request_id, study, reason)
        ledger.replies[asked.request_id] = reply
        if len(ledger.replies) > REPLIES_REMEMBERED:
            del ledger.replies[next(iter(ledger.replies))]
    ledger.changes.replies.append(reply)


def _reply(
    request_id: str, study: Study, *, created: bool = False, resumed: bool = False, error: str = ""
) -> Reply:
    record = study.record
    return Reply(request_id, record.id, record.name, created, resumed, record.state.value, error)


def _unknown(request_id: str, study: str) -> Reply:
    return Reply(request_id, error=f"there is no study with the id {study!r}")


def _submit(ledger: Ledger, request_id: str, request: SubmitStudy) -> Reply:
    try:
        spec = specs.parse(request.spec, None)
    except SpecError as error:
        return Reply(request_id, error="\n".join(error.problems))
    old = ledger.studies.get(ledger.names.get(spec.name, ""))
    if old is None or request.new:
        return _reply(request_id, _create(ledger, spec), created=True)
    if old.record.state in {StudyState.CANCELLED, StudyState.FAILED}:
        return _reply(
            request_id,
            old,
            error=f"a study named {spec.name!r} exists and is {old.record.state.value}: "
            "--new creates another, or choose another name",
        )
    difference = specs.difference(old.spec, spec)
    if not difference.editable:
        lines = "\n".join(f"  {line}" for line in difference.lines)
        return _reply(
            request_id,
            old,
            error=f"a study named {spec.name!r} exists with another definition:\n{lines}\n"
            "only budget, resources, limits and retry may change; --new creates another study",
        )
    if difference.lines:
        old.adopt(difference.spec)
        old.record.revision += 1
        ledger.changes.specs[old.record.id] = difference.spec
        ledger.touch_study(old)
        ledger.event("study.edited", old.record.id, lines=difference.lines)
        _take_back(ledger, old)
    return _reply(request_id, old, resumed=resume(ledger, old))


def _take_back(ledger: Ledger, study: Study) -> None:
    """A budget that was cut takes back trials that never ran, the newest first."""
    while study.fresh and budget.created(study.record) > study.spec.budget.trials:
        trial = study.trials[study.fresh[-1]]
        ledger.end_trial(study, trial, retries.Ruling(TrialMove.CANCEL, "the budget was cut"))


def _create(ledger: Ledger, spec: specs.StudySpec) -> Study:
    record = StudyRecord(
        id=f"{spec.name}-{ledger.mint()[:8]}",
        name=spec.name,
        state=StudyState.RUNNING,
        created_at=ledger.wall_s,
        ordinal=1 + max((study.record.ordinal for study in ledger.studies.values()), default=0),
    )
    study = Study(record, spec, schedulers.build(spec))
    ledger.studies[record.id] = ledger.open[record.id] = study
    ledger.names[spec.name] = record.id
    ledger.changes.specs[record.id] = spec
    ledger.touch_study(study)
    ledger.note(StudyOpened(record.id, spec))
    ledger.event("study.submitted", record.id, name=spec.name)
    return study


def _pause(ledger: Ledger, request_id: str, study_id: str, reason: str) -> Reply:
    study = ledger.studies.get(study_id)
    if study is None:
        return _unknown(request_id, study_id)
    state = study.record.state
    if state in STUDY_ENDS:
        return _reply(request_id, study, error=f"the study is {state.value}: there is nothing to pause")
    if state is not StudyState.PAUSED:
        study.move(StudyMove.PAUSE)
        study.record.reason = reason or "paused on request"
        ledger.touch_study(study)
        ledger.revoke_running(study, AttemptOutcome.PREEMPTED, study.record.reason)
        ledger.event("study.paused", study_id, reason=study.record.reason)
    return _reply(request_id, study)


def _resume(ledger: Ledger, request_id: str, study_id: str) -> Reply:
    study = ledger.studies.get(study_id)
    if study is None:
        return _unknown(request_id, study_id)
    if study.record.state in {StudyState.CANCELLED, StudyState.FAILED}:
        return _reply(
            request_id, study, error=f"the study is {study.record.state.value}: it cannot be resumed"
        )
    return _reply(request_id, study, resumed=resume(ledger, study))


def resume(ledger: Ledger, study: Study) -> bool:
    """Let a study go on if there is something left to do; True if its state changed."""
    state = study.record.state
    done = state is StudyState.DONE
    if state not in {StudyState.PAUSED, StudyState.DRAINING, StudyState.DONE}:
        return False
    if state is not StudyState.PAUSED and not study.to_create:
        return False
    study.move(StudyMove.RESUME)
    study.record.reason = study.record.failure = ""
    study.record.failure_check = False
    study.record.finished_at = None
    ledger.touch_study(study)
    ledger.event("study.resumed", study.record.id)
    if done:
        # What its trials taught left the memory with its end.
        ledger.open[study.record.id] = study
        ledger.changes.reload = True
    return True


def _cancel(ledger: Ledger, request_id: str, study_id: str, reason: str) -> Reply:
    study = ledger.studies.get(study_id)
    if study is None:
        return _unknown(request_id, study_id)
    state = study.record.state
    if state is StudyState.CANCELLED:
        return _reply(request_id, study)
    if state in STUDY_ENDS:
        return _reply(request_id, study, error=f"the study is {state.value}: there is nothing to cancel")
    study.move(StudyMove.CANCEL)
    end_study(ledger, study, reason or "cancelled on request", "study.cancelled")
    return _reply(request_id, study)


def end_study(ledger: Ledger, study: Study, reason: str, event: str) -> None:
    """Take down a study that was cancelled or failed: waiting trials end, running ones are told."""
    study.record.reason = reason
    study.asked = 0
    waiting: list[Trial] = [t for t in study.trials.values() if t.record.state is not TrialState.RUNNING]
    for trial in waiting:
        ledger.end_trial(study, trial, retries.Ruling(TrialMove.CANCEL, reason))
    ledger.revoke_running(study, AttemptOutcome.CANCELLED, reason)
    ledger.touch_study(study)
    ledger.event(event, study.record.id, reason=reason)
