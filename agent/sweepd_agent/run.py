"""One attempt as the agent keeps it: its state machine, its files, and what was said of it.

What is said of an attempt follows from its state and from what was said in this session already,
so that a new session says everything again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import anyio

from sweepd.messages import (
    AgentMessage,
    Assign,
    Decline,
    Finished,
    Reports,
    RunningAttempt,
    Started,
    SuggestParameter,
)
from sweepd_agent.core.attempt import Attempt, Patience, Stage
from sweepd_agent.directory import AttemptDirectory
from sweepd_agent.reports import ReportTail


@dataclass(eq=False)
class Run:
    """See the module. `ending`: what is owed to the coordinator, once it is durable."""

    assign: Assign
    directory: AttemptDirectory
    machine: Attempt
    tail: ReportTail
    since_s: float  #: when it was assigned, on the loop's clock
    device_memory_mib: dict[str, int | None] = field(default_factory=dict[str, "int | None"])
    oom_kills: int = 0  #: of the kernel, before it began
    job_pid: int | None = None  #: of the job's process; 0 if it is not known
    ending: Finished | Decline | None = None
    #: parameters that the job waits for, by name: their distributions
    asking: dict[str, dict[str, Any]] = field(default_factory=dict[str, "dict[str, Any]"])
    #: its directory is complete, or never will be
    prepared: anyio.Event = field(default_factory=anyio.Event)
    #: its supervisor was heard
    heard: anyio.Event = field(default_factory=anyio.Event)
    timer: asyncio.TimerHandle | None = None
    declined: bool = False
    ending_said: bool = False
    _started_said: bool = False
    _asked: set[str] = field(default_factory=set[str])

    @classmethod
    def of(cls, assign: Assign, directory: AttemptDirectory, patience: Patience, now_s: float) -> Run:
        return cls(assign, directory, Attempt(patience), ReportTail(directory.reports), now_s)

    @property
    def token(self) -> str:
        return self.assign.token

    @property
    def live(self) -> bool:
        """Whether anything of it may still run, or start."""
        return not self.declined and self.machine.stage is not Stage.ENDED

    @property
    def as_running(self) -> RunningAttempt:
        assign = self.assign
        return RunningAttempt(assign.study, assign.trial, assign.attempt, assign.token)

    def begin_session(self) -> None:
        """Nothing of this attempt was said to the coordinator yet."""
        self.ending_said = self._started_said = False
        self._asked.clear()
        self.tail.rewind()

    @property
    def ending_due(self) -> bool:
        """Whether its end is durable and still to be said."""
        return self.ending is not None and not self.ending_said

    def ask_again(self) -> None:
        """Ask once more for what the job waits for; asked twice, a coordinator answers once."""
        self._asked.clear()

    def answered(self, name: str) -> None:
        """The job has its parameter; it may ask again."""
        self.asking.pop(name, None)
        self._asked.discard(name)

    def next_message(self) -> AgentMessage | None:
        """Return the next thing to say of this attempt; its end comes after all its reports."""
        assign = self.assign
        if self.job_pid is not None and not self._started_said:
            self._started_said = True
            return Started(
                assign.study,
                assign.trial,
                assign.attempt,
                assign.token,
                self.job_pid,
                str(self.directory.output),
            )
        for name, distribution in self.asking.items():
            if name not in self._asked:
                self._asked.add(name)
                return SuggestParameter(
                    assign.study, assign.trial, assign.attempt, assign.token, name, distribution
                )
        if points := self.tail.read():
            return Reports(assign.study, assign.trial, assign.attempt, assign.token, points)
        if self.ending_due:
            self.ending_said = True
            return self.ending
        return None

    def __str__(self) -> str:
        assign = self.assign
        return f"study={assign.study} trial={assign.trial} attempt={assign.attempt}"
