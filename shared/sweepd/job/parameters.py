"""Parameters as a study file writes them, and as a call of Optuna's `suggest_*` expects them."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from sweepd.job.result import BadConfig


def to_spec(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    """Return *distribution* in the shape of a parameter in a study file; raises :class:`BadConfig`."""
    if isinstance(distribution, FloatDistribution):
        kind = "float"
    elif isinstance(distribution, IntDistribution):
        kind = "int"
    elif isinstance(distribution, CategoricalDistribution):
        choices = [to_json(choice) for choice in distribution.choices]
        if None in choices:
            raise BadConfig(
                f"the choices of the parameter {name!r} must be JSON: give them names and look the objects "
                f"up in the objective; they are {list(distribution.choices)!r:.200}"
            )
        return {"type": "categorical", "choices": [json.loads(choice) for choice in choices if choice]}
    else:
        raise BadConfig(
            f"the parameter {name!r} has a distribution that sweepd does not know: {distribution!r}"
        )
    return {
        "type": kind,
        "low": distribution.low,
        "high": distribution.high,
        "log": distribution.log,
        "step": distribution.step,
    }


def fit(name: str, value: Any, distribution: BaseDistribution) -> Any:
    """Return *value* as the objective's call of `suggest_*` expects it.

    A choice is the caller's own object. The study's space rules where the two differ; raises
    :class:`BadConfig` if the call does not allow the value at all.
    """
    if isinstance(distribution, CategoricalDistribution):
        for same in (_same_json, _same_number):
            for choice in distribution.choices:
                if same(choice, value):
                    return choice
        _misfit(name, value, f"one of {list(distribution.choices)!r:.200}")
    if not isinstance(distribution, (FloatDistribution, IntDistribution)):
        return value
    whole = isinstance(distribution, IntDistribution)
    asked = f"{'an int' if whole else 'a float'} from {distribution.low} to {distribution.high}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _misfit(name, value, asked)
    if whole and value != int(value):
        _misfit(name, value, asked)
    if not distribution.low <= value <= distribution.high:
        _misfit(name, value, asked)
    return int(value) if whole else float(value)


def to_json(value: Any) -> str | None:
    """Return *value* as JSON text, numbers of numpy and torch included; None if it is none."""
    try:
        return json.dumps(value, allow_nan=False, default=_item)
    except (TypeError, ValueError):
        return None


def _item(value: Any) -> Any:
    if not hasattr(value, "item"):
        raise TypeError(f"{type(value).__name__} is no JSON")
    return value.item()


def _misfit(name: str, value: Any, asked: str) -> NoReturn:
    raise BadConfig(
        f"the parameter {name!r} is {value!r} by the study's space, but the objective asks for {asked}: "
        f"make space.{name} and the call agree"
    )


def _same_json(choice: Any, value: Any) -> bool:
    """[1, true, 1.0] are three choices; a tuple and a list of the same are one."""
    text = to_json(choice)
    return text is not None and text == to_json(value)


def _same_number(choice: Any, value: Any) -> bool:
    """A study file may say 1 where the code says 1.0."""
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (choice, value))
    return numbers and choice == value
