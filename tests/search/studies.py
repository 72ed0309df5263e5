"""Studies and histories for the tests of the search."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from sweepd.space import Categorical, Float, Int, Parameter
from sweepd.spec import Budget, Objective, Sampler, StudySpec, Task
from sweepd_coordinator.core.changes import TrialPending, TrialTold

SPACE: dict[str, Parameter] = {
    "learning_rate": Float(1e-5, 1e-1, log=True),
    "momentum": Float(0.0, 0.99),
    "dropout": Float(0.0, 0.5, step=0.1),
    "layers": Int(1, 5),
    "hidden": Int(16, 512, log=True),
    "batch": Int(32, 256, step=32),
    "choice": Categorical([1, True, 1.0, [1], {"a": 1}, None]),
}


def spec(
    sampler: str = "random",
    space: Mapping[str, Parameter] = SPACE,
    seed: int | None = 42,
    direction: str = "minimize",
) -> StudySpec:
    """Return a study over *space*."""
    return StudySpec(
        name="test",
        task=Task(command=["true"]),
        objectives=[Objective("loss", direction)],
        space=dict(space),
        sampler=Sampler(sampler, seed),
        budget=Budget(trials=100),
    )


def told(
    number: int,
    value: float | None,
    params: Mapping[str, Any] | None = None,
    *,
    state: str = "complete",
    step: int = 27,
) -> TrialTold:
    """Return the end of a trial."""
    return TrialTold("s", number, dict(params or {}), {}, state, value, step)


def pending(number: int, params: Mapping[str, Any]) -> TrialPending:
    """Return a trial that has parameters and no value."""
    return TrialPending("s", number, dict(params), {})


def allowed(parameter: Parameter, value: Any) -> bool:
    """Return whether *parameter* has *value*, of the right type."""
    if isinstance(parameter, Categorical):
        return any(type(value) is type(choice) and value == choice for choice in parameter.choices)
    if not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, Int):
        return type(value) is int and (value - parameter.low) % parameter.step == 0
    if parameter.step is None:
        return type(value) is float
    steps = (value - parameter.low) / parameter.step
    return type(value) is float and abs(steps - round(steps)) < 1e-6 + 1e-14 * steps


@st.composite
def _floats(draw: st.DrawFn) -> Float:
    low = draw(st.floats(-1e6, 1e6))
    high = low + draw(st.floats(0, 1e6))
    step = draw(st.none() | st.sampled_from([0.1, 0.25, 1.0, 7.0]))
    return Float(low, high, step=step if step is not None and step <= high - low else None)


@st.composite
def _log_floats(draw: st.DrawFn) -> Float:
    low = draw(st.floats(1e-12, 1e6))
    return Float(low, low * draw(st.floats(1.0, 1e12)), log=True)


@st.composite
def _ints(draw: st.DrawFn) -> Int:
    low = draw(st.integers(-(10**9), 10**9))
    return Int(low, low + draw(st.integers(0, 10**9)), step=draw(st.integers(1, 1000)))


@st.composite
def _log_ints(draw: st.DrawFn) -> Int:
    low = draw(st.integers(1, 10**6))
    return Int(low, low + draw(st.integers(0, 10**9)), log=True)


_choices = (
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.floats(-5, 5)
    | st.text(max_size=5)
    | st.lists(st.integers())
)

parameters: st.SearchStrategy[Parameter] = st.one_of(
    _floats(),
    _log_floats(),
    _ints(),
    _log_ints(),
    st.builds(Categorical, st.lists(_choices, min_size=1, max_size=6)),
)
spaces = st.dictionaries(st.text("abcdefghij_", min_size=1, max_size=4), parameters, min_size=1, max_size=5)
