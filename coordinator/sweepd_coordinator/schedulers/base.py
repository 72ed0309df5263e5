"""What every scheduler answers, and the one that never intervenes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from sweepd.states import Verdict

Ending = Literal["", "prune", "complete"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a trial after a report.

    `ending`: what a trial that obeys STOP is: pruned, or complete because it reached the
    scheduler's maximum. `rung`: the level reached by this report, None between rungs; `value`
    is what was compared there.
    """

    verdict: Verdict
    ending: Ending = ""
    reason: str = ""
    rung: int | None = None
    value: float | None = None


CONTINUE = Decision(Verdict.CONTINUE)


class Scheduler(Protocol):
    """One study's scheduler."""

    def report(self, trial: int, resource: float, value: float) -> Decision:
        """Judge a report: *value* of the scheduler's metric once *trial* has spent *resource*.

        Called for every accepted report in inbox order. NaN ranks worst.
        """
        ...

    def restore(self, trial: int, rungs: Mapping[int, float]) -> None:
        """Take back what an earlier coordinator recorded: rung level -> value compared there."""
        ...


class RunToTheEnd:
    """Scheduler `none`: every trial runs to its own end."""

    def report(self, trial: int, resource: float, value: float) -> Decision:
        return CONTINUE

    def restore(self, trial: int, rungs: Mapping[int, float]) -> None:
        return None
