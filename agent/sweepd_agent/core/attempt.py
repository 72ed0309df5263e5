"""One attempt on this machine, from its Assign to the death of its process tree.

Events go in, actions come out; nobody waits in between. `MOVES` says which event leads where.
The deadline is a value: whoever drives this machine looks at `deadline_s` after every event and
sends `Overdue` once that time has come.

An attempt is stopped in three steps, each with its own deadline: the job is told (it reads the
verdict at its next report), its supervisor is told to end it (SIGTERM, then SIGKILL), and when
the supervisor itself does not manage, everything is killed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from sweepd.errors import ImpossibleMove
from sweepd.states import AttemptOutcome, FailureClass, Verdict
from sweepd_agent.core.ends import Orders

STORY_LENGTH = 20  #: how many events an impossible move tells


class Stage(Enum):
    """Where an attempt is."""

    ASSIGNED = "assigned"  #: its directory is being written; nothing of it runs
    LAUNCHING = "launching"  #: its supervisor was asked for and has not been seen
    RUNNING = "running"  #: its supervisor lives
    STOPPING = "stopping"  #: its supervisor was told to end it, or will be once it is seen
    KILLING = "killing"  #: its supervisor did not manage in time: everything of it is killed
    ENDED = "ended"  #: its process tree is dead, or there never was one


@dataclass(frozen=True, slots=True)
class Prepared:
    """Its directory is complete on disk."""


@dataclass(frozen=True, slots=True)
class Refused:
    """It could not be started; nothing of it runs."""

    failure: FailureClass
    message: str


@dataclass(frozen=True, slots=True)
class Supervised:
    """Its supervisor said that it lives (also again, after a lost connection)."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The coordinator's verdict on its trial."""

    verdict: Verdict
    reports: int
    reason: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """It must end now, as `outcome`: the coordinator says so, or this agent leaves."""

    outcome: AttemptOutcome
    reason: str


@dataclass(frozen=True, slots=True)
class Overdue:
    """Its deadline has passed."""


@dataclass(frozen=True, slots=True)
class Gone:
    """Its supervisor is dead and no process of it is left."""


AttemptEvent = Prepared | Refused | Supervised | Decided | Revoked | Overdue | Gone


@dataclass(frozen=True, slots=True)
class Launch:
    """Start its supervisor."""


@dataclass(frozen=True, slots=True)
class TellJob:
    """Say the verdict to the job; the channel says it again to a job that connects again."""

    verdict: Verdict
    reports: int
    reason: str


@dataclass(frozen=True, slots=True)
class StopSupervisor:
    """Tell the supervisor to end the job: SIGTERM, and SIGKILL after `grace_s`."""

    grace_s: float


@dataclass(frozen=True, slots=True)
class KillTree:
    """Kill the supervisor and every process of the attempt."""


@dataclass(frozen=True, slots=True)
class Settle:
    """Judge its end and say so."""


Action = Launch | TellJob | StopSupervisor | KillTree | Settle


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what, in seconds."""

    launch_s: float = 120.0  #: from the request to the first sign of a supervisor
    stop_s: float = 30.0  #: from a stop verdict to SIGTERM
    kill_s: float = 10.0  #: from SIGTERM to SIGKILL
    slack_s: float = 20.0  #: after that, for the supervisor to see the last process die


MOVES: Mapping[Stage, Mapping[type[AttemptEvent], Stage]] = {
    Stage.ASSIGNED: {
        Prepared: Stage.LAUNCHING,
        Refused: Stage.ENDED,
        Decided: Stage.ASSIGNED,
        Revoked: Stage.ENDED,
    },
    Stage.LAUNCHING: {
        Supervised: Stage.RUNNING,
        Decided: Stage.LAUNCHING,  # the job may be heard before its supervisor
        Revoked: Stage.STOPPING,
        Refused: Stage.KILLING,  # a launch may fail half-way
        Overdue: Stage.KILLING,
        Gone: Stage.ENDED,
    },
    Stage.RUNNING: {
        Supervised: Stage.RUNNING,
        Decided: Stage.RUNNING,
        Revoked: Stage.STOPPING,
        Refused: Stage.KILLING,
        Overdue: Stage.STOPPING,
        Gone: Stage.ENDED,
    },
    Stage.STOPPING: {
        Supervised: Stage.STOPPING,
        Decided: Stage.STOPPING,
        Revoked: Stage.STOPPING,
        Refused: Stage.KILLING,
        Overdue: Stage.KILLING,
        Gone: Stage.ENDED,
    },
    Stage.KILLING: {
        Supervised: Stage.KILLING,
        Decided: Stage.KILLING,
        Revoked: Stage.KILLING,
        Refused: Stage.KILLING,
        Overdue: Stage.KILLING,
        Gone: Stage.ENDED,
    },
    # News of a launch or a stop that were under way when the end came.
    Stage.ENDED: {
        Prepared: Stage.ENDED,
        Supervised: Stage.ENDED,
        Decided: Stage.ENDED,
        Revoked: Stage.ENDED,
        Refused: Stage.ENDED,
        Gone: Stage.ENDED,
    },
}


class Attempt:
    """The state of one attempt; `handle` is its only door.

    `orders`: what it was told, for the judge. `refusal`: why it was never started, if that is so.
    """

    def __init__(self, patience: Patience) -> None:
        self.stage = Stage.ASSIGNED
        self.orders = Orders()
        self.refusal: tuple[FailureClass, str] | None = None
        self.deadline_s: float | None = None
        self._patience = patience
        self._story: list[str] = []

    def handle(self, event: AttemptEvent, now_s: float) -> list[Action]:
        """Take *event*, which happened at *now_s* (monotonic), and return what to do about it.

        Raises :class:`ImpossibleMove` for an event that the stage does not allow; nothing is changed then.
        """
        before = self.stage
        after = MOVES[before].get(type(event))
        if after is None:
            raise ImpossibleMove("attempt", before.value, type(event).__name__, self._story)
        self._story = [*self._story[1 - STORY_LENGTH :], f"{now_s:.3f} {before.value}: {event}"]
        self.stage = after
        if before is Stage.ENDED:
            return []
        self._remember(event, before)
        return self._enter(before, now_s) if after is not before else self._stay(event, now_s)

    def _remember(self, event: AttemptEvent, before: Stage) -> None:
        if isinstance(event, Decided):
            reason = event.reason if self.orders.outcome is None else self.orders.reason
            self.orders = Orders(event.verdict, self.orders.outcome, reason)
        elif isinstance(event, Revoked):
            self.orders = Orders(self.orders.verdict, event.outcome, event.reason)
        elif isinstance(event, Refused):
            self.refusal = (event.failure, event.message)
        elif isinstance(event, Overdue) and before is Stage.LAUNCHING:
            waited = f"no supervisor was seen within {self._patience.launch_s:g} s of the launch"
            self.refusal = (FailureClass.LAUNCH_ERROR, waited)

    def _enter(self, before: Stage, now_s: float) -> list[Action]:
        patience = self._patience
        if self.stage is Stage.LAUNCHING:
            self.deadline_s = now_s + patience.launch_s
            return [Launch()]
        if self.stage is Stage.RUNNING:
            self.deadline_s = now_s + patience.stop_s if self._told_to_end else None
            return []
        if self.stage is Stage.STOPPING:
            self._have_it_stopped(now_s, None if before is Stage.RUNNING else self.deadline_s)
            # While it is launched, nobody is there to be told.
            return [StopSupervisor(patience.kill_s)] if before is Stage.RUNNING else []
        if self.stage is Stage.KILLING:
            self.deadline_s = now_s + patience.slack_s
            return [KillTree()]
        self.deadline_s = None
        return [Settle()]

    def _stay(self, event: AttemptEvent, now_s: float) -> list[Action]:
        patience = self._patience
        if isinstance(event, Overdue):  # only what is killed can be overdue and stay where it is
            self.deadline_s = now_s + patience.slack_s
            return [KillTree()]
        if isinstance(event, Supervised) and self.stage is Stage.STOPPING:
            # For the first time, or once more after a lost connection, which gains it no time.
            self._have_it_stopped(now_s, self.deadline_s)
            return [StopSupervisor(patience.kill_s)]
        if isinstance(event, Decided) and self.stage not in (Stage.STOPPING, Stage.KILLING):
            if self.stage is Stage.RUNNING:
                earliest_s = self.deadline_s or now_s + patience.stop_s
                self.deadline_s = earliest_s if self._told_to_end else None
            return [TellJob(event.verdict, event.reports, event.reason)]
        return []

    def _have_it_stopped(self, now_s: float, at_latest_s: float | None) -> None:
        deadline_s = now_s + self._patience.kill_s + self._patience.slack_s
        self.deadline_s = deadline_s if at_latest_s is None else min(deadline_s, at_latest_s)

    @property
    def _told_to_end(self) -> bool:
        return self.orders.verdict is not Verdict.CONTINUE
