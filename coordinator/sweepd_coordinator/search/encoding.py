"""A parameter between us and Optuna.

Optuna looks a categorical value up by equality, so `[1, True, 1.0]` would be one choice, and it
warns about lists and dicts. It therefore gets the position of the choice, and the choice itself
never leaves this side. So it is with real numbers that have a step, whose values are not quite
what adding up steps gives.
"""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweepd.space import Categorical, Float, Int, Parameter, identity
from sweepd_coordinator.search.grid import Grid

NARROW = 1e-12  #: a range smaller than this part of its ends has too few floats in it
TINY, HUGE = 1e-290, 1e300  #: beyond these, sums and quotients of a range's ends are 0 or infinite
MANY = 2**40  #: whole numbers


class Encoding:
    """One parameter as Optuna sees it."""

    def __init__(self, parameter: Parameter) -> None:
        self.parameter = parameter
        self._positions: dict[str, int] = {}
        self._grid: Grid | None = None
        self.distribution: BaseDistribution
        if isinstance(parameter, Categorical):
            # setdefault: of two equal choices the first stands for both.
            for position, choice in enumerate(parameter.choices):
                self._positions.setdefault(identity(choice), position)
            self.distribution = CategoricalDistribution(range(len(parameter.choices)))
        elif isinstance(parameter, Int):
            # Optuna warns about a range that its step does not divide; the last value is the end.
            high = parameter.low + (parameter.high - parameter.low) // parameter.step * parameter.step
            self.distribution = IntDistribution(parameter.low, high, parameter.log, parameter.step)
        elif parameter.step is not None:
            self._grid = Grid.of(parameter.low, parameter.high, parameter.step)
            self.distribution = IntDistribution(0, self._grid.count - 1)
        else:
            self.distribution = FloatDistribution(parameter.low, parameter.high, parameter.log)

    @property
    def modelled(self) -> bool:
        """Whether there is something for a model to choose; else the parameter is left to chance.

        There is nothing where only one value is allowed, and Optuna's arithmetic ends in NaN
        where the ends of a range are almost the same number or almost overflow, and where one of
        so many whole numbers has no probability that a float can tell from 0.
        """
        if self.distribution.single():
            return False
        if isinstance(self.parameter, Categorical):
            return True
        if (
            isinstance(self.distribution, IntDistribution)
            and self.distribution.high - self.distribution.low > MANY
        ):
            return False
        low, high = float(self.parameter.low), float(self.parameter.high)
        size = max(abs(low), abs(high), TINY)
        return size < HUGE and high - low > NARROW * size

    def encode(self, value: Any) -> int | float | None:
        """Return *value* as Optuna has it; None if the parameter does not allow it."""
        parameter = self.parameter
        if isinstance(parameter, Categorical):
            return self._positions.get(identity(value))
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if not parameter.low <= value <= parameter.high:
            return None
        return value if self._grid is None else self._grid.index(value)

    def decode(self, value: Any) -> Any:
        """Return the value that Optuna means by *value*."""
        parameter = self.parameter
        if isinstance(parameter, Categorical):
            return parameter.choices[int(value)]
        if isinstance(parameter, Int):
            return int(value)
        if self._grid is not None:
            return self._grid.at(int(value))
        # The logarithm and back may end a rounding error outside.
        return min(max(float(value), parameter.low), parameter.high)


def compatible(old: Parameter, new: Parameter) -> bool:
    """Return whether values seen under *old* say something about *new*, as Optuna judges it.

    The same kind on the same scale, whatever the range; of a categorical the same choices.
    """
    if isinstance(old, Categorical) and isinstance(new, Categorical):
        return [identity(choice) for choice in old.choices] == [identity(choice) for choice in new.choices]
    if isinstance(old, Int) and isinstance(new, Int):
        return old.log == new.log
    if isinstance(old, Float) and isinstance(new, Float):
        return old.log == new.log
    return False
