"""A trial that has not ended, as the engine holds it: its record and its curve."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from sweepd.messages import Number, Point, decode_number, encode_number
from sweepd.records import AttemptRecord, CurvePoint, TrialRecord
from sweepd.space import Parameter
from sweepd.spec import Objective


@dataclass(slots=True)
class Trial:
    """The live side of a TrialRecord. Trials that ended are dropped from memory."""

    record: TrialRecord
    curve: list[CurvePoint] = field(default_factory=list[CurvePoint])
    #: (step -> metrics) of the newest attempt: the first value of each wins
    seen: dict[int, set[str]] = field(default_factory=dict[int, set[str]])
    distributions: dict[str, Parameter] = field(default_factory=dict[str, Parameter])
    #: names of parameters that the search is working on
    asking: set[str] = field(default_factory=set[str])

    @property
    def attempt(self) -> AttemptRecord:
        """The newest attempt; only for trials that have had one."""
        return self.record.attempts[-1]

    def restore(self, curve: list[CurvePoint], objective: Objective) -> None:
        """Take the curve back from the store: a report changes no record, so this recounts them."""
        self.curve = curve
        newest = [point for point in curve if point.attempt == len(self.record.attempts)]
        if self.record.attempts:
            self._restart()
            # Ordinals that held nothing new are not in the curve; sent again they hold nothing new.
            self.attempt.reports = len(newest)
        for point in newest:
            self._absorb(point.step, point.metrics, objective)

    def begin(self, attempt: AttemptRecord) -> None:
        """A new attempt's curve starts empty: it stands for the trial from now on."""
        self.record.attempts.append(attempt)
        self._restart()

    def _restart(self) -> None:
        self.seen = {}
        self.record.reports = 0
        self.record.last_step = None
        self.record.tracked = None

    def accept(self, point: Point, objective: Objective) -> CurvePoint | None:
        """Add a report to the curve; None if all of it was known.

        A point is known by its ordinal (sent again after a reconnect) or by (step, metric):
        the first value wins within an attempt.
        """
        attempt = self.attempt
        if point.ordinal <= attempt.reports:
            return None
        attempt.reports = point.ordinal
        known = self.seen.get(point.step, set[str]())
        fresh = {name: value for name, value in point.metrics.items() if name not in known}
        if not fresh:
            return None
        self._absorb(point.step, fresh, objective)
        accepted = CurvePoint(attempt.attempt, point.step, fresh)
        self.curve.append(accepted)
        return accepted

    def _absorb(self, step: int, metrics: dict[str, Number], objective: Objective) -> None:
        known = self.seen.setdefault(step, set())
        record = self.record
        if not known:
            record.reports += 1
        known.update(metrics)
        record.last_step = step if record.last_step is None else max(record.last_step, step)
        self.attempt.end_step = record.last_step
        if objective.metric in metrics:
            self._track(metrics[objective.metric], objective)

    def _track(self, value: Number, objective: Objective) -> None:
        tracked = self.record.tracked
        if tracked is None:
            self.record.tracked = [value, value]
            return
        best = better(decode_number(tracked[1]), decode_number(value), objective.direction)
        self.record.tracked = [value, encode_number(best)]

    def reported_value(self, objective: Objective) -> float | None:
        """The objective's value by its curve; None if the metric was never reported."""
        if self.record.tracked is None:
            return None
        return decode_number(self.record.tracked[1 if objective.at == "best" else 0])

    def story(self) -> list[str]:
        """What happened to the trial so far, for an error that needs telling."""
        return [
            f"attempt {attempt.attempt} on {attempt.agent}: "
            + (attempt.outcome.value if attempt.outcome else "holds the lease")
            for attempt in self.record.attempts
        ]


def better(left: float, right: float, direction: str) -> float:
    """The better of two values of a metric; NaN is worse than everything."""
    if math.isnan(left):
        return right
    if math.isnan(right):
        return left
    return max(left, right) if direction == "maximize" else min(left, right)
