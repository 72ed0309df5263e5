"""What goes into one turn of the engine, and what comes out of it.

A turn is everything that waited: inbox entries, finished suggestions, the time. What comes out
is one `Changes`: the shell makes it durable in one commit and only then acts on the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sweepd.messages import Envelope, Event, OutboxEntry, Reply
from sweepd.records import AgentRecord, CurvePoint, EndRecord, StudyRecord, TrialRecord
from sweepd.space import Parameter
from sweepd.spec import StudySpec


@dataclass(frozen=True, slots=True)
class Ask:
    """Suggest all parameters of a new trial. The answer is a function of (seed, number, cut)."""

    study: str
    number: int
    cut: int


@dataclass(frozen=True, slots=True)
class AskOne:
    """Suggest one parameter that the job of a running trial asked for."""

    study: str
    number: int
    cut: int
    attempt_token: str
    name: str
    distribution: Parameter


@dataclass(frozen=True, slots=True)
class Suggestion:
    """The answer to Ask; `error` instead of params when the sampler raised."""

    study: str
    number: int
    cut: int
    params: dict[str, Any]
    error: str = ""


@dataclass(frozen=True, slots=True)
class OneSuggestion:
    """The answer to AskOne."""

    ask: AskOne
    value: Any
    error: str = ""


# What the search needs to know, in the order it happened. Ask and AskOne stand in the same
# sequence, so that a sampler sees exactly the history before its question: the cut.


@dataclass(frozen=True, slots=True)
class StudyOpened:
    """A study runs: its space, sampler and directions."""

    study: str
    spec: StudySpec


@dataclass(frozen=True, slots=True)
class StudyClosed:
    """A study ended; its mirror may be forgotten."""

    study: str


@dataclass(frozen=True, slots=True)
class TrialPending:
    """A trial has these parameters and no value yet (again, after a parameter was added)."""

    study: str
    number: int
    params: dict[str, Any]
    distributions: dict[str, Parameter]  #: of undeclared parameters


@dataclass(frozen=True, slots=True)
class TrialTold:
    """A trial ended: the sampler's `tell`. `value` is None for failed and cancelled ones.

    `state`: complete, pruned, failed or cancelled. A pruned trial's value is the objective's
    metric tracked so far; `step` its last step.
    """

    study: str
    number: int
    params: dict[str, Any]
    distributions: dict[str, Parameter]
    state: str
    value: float | None
    step: int | None


SearchNote = StudyOpened | StudyClosed | TrialPending | TrialTold | Ask | AskOne


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything that waited when a turn of the loop began.

    `now_s`: the coordinator's monotonic clock. `wall_s`: seconds since 1970, for records only.
    `read_through_s`: the inbox has been read to a tail seen at this time (same clock as now_s);
    leases whose deadline lies after it are not judged. `entries`: (inbox id, envelope), None
    for an entry that could not be decoded.
    """

    now_s: float
    wall_s: float
    read_through_s: float
    entries: list[tuple[str, Envelope | None]] = field(default_factory=list)
    suggestions: list[Suggestion | OneSuggestion] = field(default_factory=list)


@dataclass(slots=True)
class Changes:
    """What one turn changes. Empty changes need no commit."""

    commit: int
    cursor: str
    at: float
    studies: dict[str, StudyRecord] = field(default_factory=dict)
    specs: dict[str, StudySpec] = field(default_factory=dict)
    trials: dict[tuple[str, int], TrialRecord] = field(default_factory=dict)
    #: points of running trials, to append in this order
    points: dict[tuple[str, int], list[CurvePoint]] = field(default_factory=dict)
    #: whole curves of trials that ended; their lists of points are deleted
    curves: dict[tuple[str, int], list[CurvePoint]] = field(default_factory=dict)
    agents: dict[str, AgentRecord] = field(default_factory=dict)
    outboxes: dict[str, OutboxEntry] = field(default_factory=dict)
    outbox_seen: dict[str, int] = field(default_factory=dict)
    replies: list[Reply] = field(default_factory=list)
    ends: list[EndRecord] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    #: for the search, in order; handed on after the commit went through
    notes: list[SearchNote] = field(default_factory=list)
    #: a study that had ended goes on: after the commit everything is loaded from the store again
    reload: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing durable would change (the cursor alone is worth a commit)."""
        return not (
            self.studies
            or self.specs
            or self.trials
            or self.points
            or self.curves
            or self.agents
            or self.outboxes
            or self.outbox_seen
            or self.replies
            or self.ends
            or self.events
        )


@dataclass(slots=True)
class Snapshot:
    """What the store holds, as a new leader loads it.

    `trials`: of studies that are not finished. `points`: of their trials that have had an attempt
    and no end.
    """

    commit: int
    cursor: str
    studies: dict[str, StudyRecord] = field(default_factory=dict)
    specs: dict[str, StudySpec] = field(default_factory=dict)
    trials: dict[str, list[TrialRecord]] = field(default_factory=dict)
    points: dict[tuple[str, int], list[CurvePoint]] = field(default_factory=dict)
    agents: dict[str, AgentRecord] = field(default_factory=dict)
    replies: dict[str, Reply] = field(default_factory=dict)
