"""What Redis holds: one JSON record per study, trial and agent, readable with redis-cli.

Only the leading coordinator writes them; clients read them. Times are seconds since 1970 of
the coordinator's clock. Numbers that JSON cannot carry are text, as in `messages.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sweepd.messages import Device, Number, Offer, Usage
from sweepd.states import AttemptOutcome, FailureClass, StudyState, TrialState


class AttemptRecord(msgspec.Struct, omit_defaults=True):
    """One lease of a trial, and what became of it."""

    attempt: int  #: from 1
    agent: str
    host: str
    token: str
    leased_at: float
    devices: list[str] = []
    started_at: float | None = None
    ended_at: float | None = None
    outcome: AttemptOutcome | None = None  #: None while it holds the lease
    failure: FailureClass | None = None
    message: str = ""
    log: str = ""
    start_step: int = 0
    end_step: int | None = None
    reports: int = 0
    usage: Usage | None = None
    revoked: AttemptOutcome | None = None  #: it was told to stop, and why
    assigned_in: int = 0  #: number of the outbox entry that carried the Assign


class TrialRecord(msgspec.Struct, omit_defaults=True):
    """A trial. `cut` is the commit whose history the sampler saw."""

    number: int
    state: TrialState
    created_at: float
    created_commit: int
    params: dict[str, Any] = {}
    distributions: dict[str, Any] = {}  #: of parameters that the job suggested as it went
    cut: int = 0
    cuts: dict[str, int] = {}  #: of the same parameters: the cut each was suggested at
    attempts: list[AttemptRecord] = []
    values: dict[str, Number] | None = None
    attributes: dict[str, Any] = {}
    last_step: int | None = None
    reports: int = 0
    bracket: int = 0
    rung: int | None = None  #: the highest rung reached
    rungs: dict[int, Number] = {}  #: rung level -> the value that was compared there
    stop: str = ""  #: the scheduler's standing order: "prune", "complete" or none
    reason: str = ""  #: why it is where it is, for a person
    ended_at: float | None = None
    ended_commit: int | None = None
    failures: int = 0  #: attempts that count against retry.max_attempts
    #: the objective's metric over the curve so far: [last, best]
    tracked: list[Number] | None = None


class BestRecord(msgspec.Struct, omit_defaults=True):
    """The best trial of a study so far."""

    number: int
    values: dict[str, Number]
    params: dict[str, Any]


class StudyRecord(msgspec.Struct, omit_defaults=True):
    """A study without its spec, which is in `specs`."""

    id: str
    name: str
    state: StudyState
    created_at: float
    ordinal: int  #: studies in order of submission
    next_number: int = 0
    counts: dict[str, int] = {}  #: trials by state
    best: BestRecord | None = None
    reason: str = ""  #: why it is paused, failed or cancelled
    failure: str = ""  #: the traceback that paused it
    finished_at: float | None = None
    revision: int = 1  #: of its spec
    first_ends: list[str] = []  #: how the first three trials ended, to see whether they failed alike
    failure_check: bool = True  #: off after somebody resumed a study that had paused itself


class AgentRecord(msgspec.Struct, omit_defaults=True):
    """An agent's session."""

    id: str
    host: str
    session: str
    boot_id: str = ""
    last_seq: int = 0
    outbox: int = 0  #: number of the last outbox entry
    outbox_seen: int = 0
    slots: int = 0
    devices: list[Device] = []
    labels: dict[str, str] = {}
    offer: Offer | None = None  #: what is left of the last offer
    state: str = "connected"  #: connected, lost, left
    last_seen_at: float = 0.0
    version: str = ""


class EndRecord(msgspec.Struct, omit_defaults=True):
    """One accepted end of an attempt, in the end log. `state` is the trial's state after it."""

    study: str
    trial: int
    attempt: int
    agent: str
    token: str
    outcome: AttemptOutcome
    state: TrialState
    commit: int
    at: float
    values: dict[str, Number] | None = None
    failure: FailureClass | None = None


class CurvePoint(msgspec.Struct, array_like=True):
    """A report as the records keep it."""

    attempt: int
    step: int
    metrics: dict[str, Number]
