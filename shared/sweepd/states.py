"""Where a study, a trial and an attempt are, and which moves exist.

Each kind of thing has one enum and one table. A move that is not in the table raises
:class:`ImpossibleMove` and changes nothing: the table is the documentation.

The standard library only: this module is imported inside training jobs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum

from sweepd.errors import ImpossibleMove


class TrialState(str, Enum):
    """Where a trial is."""

    WAITING = "waiting"  #: it has (or will suggest) its parameters and waits for a slot
    RUNNING = "running"  #: one attempt of it holds a lease
    PAUSED = "paused"  #: it stopped at a rung with a checkpoint and may be promoted
    COMPLETE = "complete"  #: it reached its own end, or the scheduler's maximum, with a value
    PRUNED = "pruned"  #: the scheduler ended it early; its value is the last one reported
    FAILED = "failed"  #: its last allowed attempt failed
    CANCELLED = "cancelled"  #: somebody asked for its end; it does not count against the budget


class TrialMove(str, Enum):
    """What happens to a trial."""

    LEASE = "lease"
    COMPLETE = "complete"
    PRUNE = "prune"
    FAIL = "fail"
    CANCEL = "cancel"
    PAUSE = "pause"
    REQUEUE = "requeue"


class StudyState(str, Enum):
    """Where a study is."""

    RUNNING = "running"  #: trials are created and leased
    PAUSED = "paused"  #: nothing new is leased until somebody resumes it
    DRAINING = "draining"  #: its budget is spent; running trials go to their end
    DONE = "done"  #: its budget is spent and every trial ended
    CANCELLED = "cancelled"  #: somebody ended it
    FAILED = "failed"  #: it cannot go on, and the reason says why


class StudyMove(str, Enum):
    """What happens to a study."""

    PAUSE = "pause"
    RESUME = "resume"
    EXHAUST = "exhaust"
    FINISH = "finish"
    CANCEL = "cancel"
    FAIL = "fail"


class AttemptOutcome(str, Enum):
    """What became of one attempt of a trial."""

    FINISHED = "finished"
    PAUSED = "paused"
    PRUNED = "pruned"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"  #: another attempt of the trial holds the lease
    LOST = "lost"  #: its lease ran out, or its agent came back without it
    PREEMPTED = "preempted"  #: its agent or its study was told to give the slot back
    FAILED = "failed"  #: see FailureClass


class FailureClass(str, Enum):
    """Why an attempt failed."""

    OOM = "oom"
    GPU_OOM = "gpu_oom"
    TIMEOUT = "timeout"
    LIMIT = "limit"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    BAD_CONFIG = "bad_config"
    LAUNCH_ERROR = "launch_error"


class Verdict(str, Enum):
    """What the scheduler says to a report."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


TRIAL_MOVES: Mapping[TrialState, Mapping[TrialMove, TrialState]] = {
    TrialState.WAITING: {
        TrialMove.LEASE: TrialState.RUNNING,
        TrialMove.CANCEL: TrialState.CANCELLED,
    },
    TrialState.RUNNING: {
        TrialMove.COMPLETE: TrialState.COMPLETE,
        TrialMove.PRUNE: TrialState.PRUNED,
        TrialMove.FAIL: TrialState.FAILED,
        TrialMove.CANCEL: TrialState.CANCELLED,
        TrialMove.PAUSE: TrialState.PAUSED,
        TrialMove.REQUEUE: TrialState.WAITING,
    },
    TrialState.PAUSED: {
        TrialMove.LEASE: TrialState.RUNNING,
        TrialMove.PRUNE: TrialState.PRUNED,
        TrialMove.CANCEL: TrialState.CANCELLED,
    },
    TrialState.COMPLETE: {},
    TrialState.PRUNED: {},
    TrialState.FAILED: {},
    TrialState.CANCELLED: {},
}

STUDY_MOVES: Mapping[StudyState, Mapping[StudyMove, StudyState]] = {
    StudyState.RUNNING: {
        StudyMove.PAUSE: StudyState.PAUSED,
        StudyMove.EXHAUST: StudyState.DRAINING,
        StudyMove.CANCEL: StudyState.CANCELLED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.PAUSED: {
        StudyMove.RESUME: StudyState.RUNNING,
        StudyMove.FINISH: StudyState.DONE,  # its last running trials ended meanwhile
        StudyMove.CANCEL: StudyState.CANCELLED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.DRAINING: {
        StudyMove.FINISH: StudyState.DONE,
        # A trial that was counted came back to be retried, or the budget grew.
        StudyMove.RESUME: StudyState.RUNNING,
        StudyMove.PAUSE: StudyState.PAUSED,
        StudyMove.CANCEL: StudyState.CANCELLED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    # A study whose budget grew, or that somebody submits again, goes on.
    StudyState.DONE: {StudyMove.RESUME: StudyState.RUNNING},
    StudyState.CANCELLED: {},
    StudyState.FAILED: {},
}

TRIAL_ENDS = frozenset(state for state, moves in TRIAL_MOVES.items() if not moves)
STUDY_ENDS = frozenset({StudyState.DONE, StudyState.CANCELLED, StudyState.FAILED})


def move_trial(state: TrialState, move: TrialMove, story: Sequence[str] = ()) -> TrialState:
    """Return the state after *move*; raise :class:`ImpossibleMove` with *story* if there is none."""
    after = TRIAL_MOVES[state].get(move)
    if after is None:
        raise ImpossibleMove("trial", state.value, move.value, story)
    return after


def move_study(state: StudyState, move: StudyMove, story: Sequence[str] = ()) -> StudyState:
    """Return the state after *move*; raise :class:`ImpossibleMove` with *story* if there is none."""
    after = STUDY_MOVES[state].get(move)
    if after is None:
        raise ImpossibleMove("study", state.value, move.value, story)
    return after
