"""The values that a parameter with a step can have: low, low + step, ... up to high.

Counted in decimal, the way a person reads the numbers of a study file: `low: 0.1, step: 0.1`
has 0.3 among its values and not 0.30000000000000004.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Grid:
    """Evenly spaced values; `count` is at least 1."""

    low: Decimal
    step: Decimal
    count: int

    @classmethod
    def of(cls, low: float, high: float, step: float) -> Grid:
        """Return the grid from *low* up to the last value that does not exceed *high*."""
        first, last, width = Decimal(str(low)), Decimal(str(high)), Decimal(str(step))
        return cls(first, width, int((last - first) // width) + 1)

    def at(self, index: int) -> float:
        """Return value *index*, from 0."""
        return float(self.low + index * self.step)

    def index(self, value: float) -> int:
        """Return which value of the grid is nearest to *value*."""
        return min(max(round((value - float(self.low)) / float(self.step)), 0), self.count - 1)
