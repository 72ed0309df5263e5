"""Asynchronous successive halving, the stopping form.

Li, Jamieson, Rostamizadeh, Gonina, Hardt, Recht, Talwalkar: A System for Massively Parallel
Hyperparameter Tuning (MLSys 2020, arXiv 1810.05934). Algorithm 2 of the paper promotes paused
trials; the stopping form, which needs no checkpoints, lets a trial run on while it is among the
best 1/eta of all that have reached its rung so far.

Where we differ: until a rung has eta entries 1/eta of them is less than one; then the best one
goes on (as Optuna does), so that the first trial is never stopped by the lack of others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sortedcontainers import SortedList

from sweepd.states import Verdict
from sweepd_coordinator.schedulers.base import CONTINUE, Decision


def rung_levels(minimum: int, maximum: int, eta: int) -> list[int]:
    """Return minimum * eta**k for k = 0, 1, ... below *maximum*, in integer arithmetic."""
    levels: list[int] = []
    level = minimum
    while level < maximum:
        levels.append(level)
        level *= eta
    return levels


@dataclass(slots=True)
class _Rung:
    """Everything compared at one level; losses are minimized, NaN is the worst."""

    level: int
    losses: SortedList = field(default_factory=SortedList)
    values: dict[int, float] = field(default_factory=dict[int, float])


class Asha:
    """One bracket of asynchronous successive halving.

    *minimum*, *maximum*: in units of the resource; *maximum* ends a trial as complete.
    *unit*: what the resource is called in reasons ("reports").
    """

    def __init__(
        self, *, minimum: int, maximum: int, eta: int, maximize: bool, unit: str = "reports"
    ) -> None:
        self.eta = eta
        self.maximum = maximum
        self.maximize = maximize
        self.unit = unit
        self._rungs = [_Rung(level) for level in rung_levels(minimum, maximum, eta)]

    @property
    def levels(self) -> list[int]:
        """The rungs' levels, ascending, without the maximum."""
        return [rung.level for rung in self._rungs]

    def restore(self, trial: int, rungs: Mapping[int, float]) -> None:
        for rung in self._rungs:
            if rung.level in rungs:
                self._enter(rung, trial, rungs[rung.level])

    def report(self, trial: int, resource: float, value: float) -> Decision:
        if resource >= self.maximum:
            reason = f"complete at {self._amount(resource)}: the maximum is {self.maximum}"
            return Decision(Verdict.STOP, "complete", reason)
        rung = self._reached(resource)
        if rung is None or trial in rung.values:
            return CONTINUE
        # A coarse reporter may have skipped rungs below: a value of more training than theirs
        # would be unfair to the others there, so it counts for the highest rung alone.
        loss = self._enter(rung, trial, value)
        kept = max(1, len(rung.losses) // self.eta)
        better = rung.losses.bisect_left(loss)
        if better < kept:
            return Decision(
                Verdict.CONTINUE,
                reason=f"went on at {self._amount(resource)}: rung {rung.level} of bracket 0, "
                f"{value:.6g} is number {better + 1} of {len(rung.losses)}, {kept} kept",
                rung=rung.level,
                value=value,
            )
        cut = self._value(rung.losses[kept - 1])
        side = "below" if self.maximize else "above"
        return Decision(
            Verdict.STOP,
            "prune",
            f"stopped at {self._amount(resource)}: rung {rung.level} of bracket 0, "
            f"{value:.6g} {side} the cut {cut:.6g}, {kept} of {len(rung.losses)} kept",
            rung=rung.level,
            value=value,
        )

    def _amount(self, resource: float) -> str:
        unit = self.unit.removesuffix("s") if resource == 1 else self.unit
        return f"{resource:g} {unit}"

    def _reached(self, resource: float) -> _Rung | None:
        for rung in reversed(self._rungs):
            if resource >= rung.level:
                return rung
        return None

    def _enter(self, rung: _Rung, trial: int, value: float) -> float:
        loss = self._loss(value)
        rung.values[trial] = value
        rung.losses.add(loss)
        return loss

    def _loss(self, value: float) -> float:
        if math.isnan(value):
            return math.inf
        return -value if self.maximize else value

    def _value(self, loss: float) -> float:
        return -loss if self.maximize else loss
