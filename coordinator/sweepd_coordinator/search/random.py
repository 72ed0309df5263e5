"""Random search: every parameter of every trial drawn for itself, without any history."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sweepd.space import Categorical, Int, Parameter
from sweepd_coordinator.core.changes import TrialPending, TrialTold
from sweepd_coordinator.search.chance import below, bits, unit
from sweepd_coordinator.search.grid import Grid

Draw = Callable[[int], Any]
"""From the bits of `chance.bits` to a value. One draw uses one value of chance."""


def draw_of(parameter: Parameter) -> Draw:
    """Return how *parameter* is drawn: evenly over its values, or over their logarithms.

    A logarithmic whole number is a logarithmic real number in [low - 1/2, high + 1/2) rounded,
    as Optuna does it, so that the two ends are as likely as their neighbours.
    """
    if isinstance(parameter, Categorical):
        choices = parameter.choices
        return lambda drawn: choices[below(drawn, len(choices))]
    if isinstance(parameter, Int):
        return _whole(parameter)
    low, high = parameter.low, parameter.high
    if parameter.step is not None:
        grid = Grid.of(low, high, parameter.step)
        return lambda drawn: grid.at(below(drawn, grid.count))
    if parameter.log:
        first, width = math.log(low), math.log(high) - math.log(low)
        return lambda drawn: min(max(math.exp(first + unit(drawn) * width), low), high)
    # Two products instead of low + u * (high - low): the difference of two finite ends may overflow.
    return lambda drawn: min(max(low * (1.0 - unit(drawn)) + high * unit(drawn), low), high)


def _whole(parameter: Int) -> Draw:
    low, high, step = parameter.low, parameter.high, parameter.step
    if parameter.log:
        first, width = math.log(low - 0.5), math.log(high + 0.5) - math.log(low - 0.5)
        return lambda drawn: min(max(round(math.exp(first + unit(drawn) * width)), low), high)
    count = (high - low) // step + 1
    return lambda drawn: low + below(drawn, count) * step


class RandomSearch:
    """Random search over one study's space; a suggestion is a function of (seed, number)."""

    def __init__(self, space: Mapping[str, Parameter], seed: int) -> None:
        self._seed = seed
        self._draws = [(name, draw_of(parameter)) for name, parameter in space.items()]

    def pending(self, note: TrialPending) -> None:
        """Nothing to learn: random search has no history."""

    def told(self, note: TrialTold) -> None:
        """Nothing to learn: random search has no history."""

    def suggest(self, number: int) -> dict[str, Any]:
        """Return all parameters of trial *number*, in the order of the space."""
        return {name: draw(bits(self._seed, number, name)) for name, draw in self._draws}

    def suggest_one(self, number: int, name: str, distribution: Parameter) -> Any:
        """Return one parameter of trial *number*: what `suggest` gives if the space declares it so."""
        return draw_of(distribution)(bits(self._seed, number, name))
