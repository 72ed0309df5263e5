"""Parameters: which are sound, what they contain, and how choices are told apart."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepd import space
from sweepd.errors import SpecError
from sweepd.space import Categorical, Float, Int, Parameter


@pytest.mark.parametrize(
    "parameter",
    [
        Float(0.0, 1.0),
        Float(1.0, 1.0),
        Float(1e-5, 1e-2, log=True),
        Float(0.0, 1.0, step=0.1),  # in decimals; as binary fractions 0.1 does not divide 1
        Float(0.1, 0.7, step=0.2),
        Float(1e-300, 1e300),
        Int(1, 5),
        Int(-3, 3, step=2),
        Int(1, 1024, log=True),
        Categorical([1, True, 1.0, "1", None, [1], {"a": 1}]),
        Categorical([None]),
    ],
)
def test_sound_parameters(parameter: Parameter) -> None:
    assert space.check(parameter, "space.x") == []


@pytest.mark.parametrize(
    ("parameter", "problem"),
    [
        (Float(1.0, 0.0), "space.x.low: is 1.0, above high (0.0); exchange them"),
        (Float(math.nan, 1.0), "space.x: reaches from nan to 1.0; write finite bounds"),
        (Float(0.0, 1.0, step=-0.1), "space.x.step: is -0.1; write a number of more than 0"),
        (Float(0.0, 1.0, step=math.inf), "space.x.step: is inf; write a number of more than 0"),
        (Int(0, 5, step=0), "space.x.step: is 0; write a number of more than 0"),
        (Int(2, 5, log=True, step=3), "space.x.step: is 3, and log is true; remove one of the two"),
        (
            Categorical([]),
            "space.x.choices: is a list; write a list of at least one item such as [16, 32, 64]",
        ),
    ],
)
def test_unsound_parameters(parameter: Parameter, problem: str) -> None:
    assert space.check(parameter, "space.x") == [problem]


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Float(0.0, 1.0), [0.0, 0, 0.5, 1], [-0.1, 1.1, math.nan, math.inf, True, "0.5", None]),
        (Float(0.0, 1.0, step=0.1), [0.3, 0.1 + 0.2, 0.7000000000000001, 1.0], [0.25, 0.05]),
        (Float(1e6, 2e6, step=0.1), [1e6 + 12345.6], [1e6 + 12345.65]),
        (Int(1, 9, step=2), [1, 3, 9], [2, 0, 10, 3.0, True, "3"]),
        (Categorical([1, "a", None, [1, 2]]), [1, "a", None, [1, 2]], [1.0, True, "b", [1], (1,), {1}]),
        (Categorical([{"a": 1, "b": 2}]), [{"b": 2, "a": 1}], [{"a": 1}, {"a": 1, "b": 2.0}]),
    ],
)
def test_contains(parameter: Parameter, inside: list[Any], outside: list[Any]) -> None:
    assert [value for value in inside if not space.contains(parameter, value)] == []
    assert [value for value in outside if space.contains(parameter, value)] == []


def test_choices_are_told_apart_by_value_and_type() -> None:
    choices = [1, True, 1.0, "1", 0, False, 0.0, None]
    assert len({space.identity(choice) for choice in choices}) == len(choices)
    assert space.identity({"a": 1, "b": 2}) == space.identity({"b": 2, "a": 1})


@pytest.mark.parametrize(
    ("data", "parameter"),
    [
        (
            {"type": "float", "low": 1, "high": 2, "log": False, "step": None},
            Float(1.0, 2.0),
        ),
        ({"type": "int", "low": 1, "high": 8, "log": True, "step": 1}, Int(1, 8, log=True)),
        ({"type": "categorical", "choices": ["a", None]}, Categorical(["a", None])),
    ],
)
def test_a_distribution_of_a_job(data: dict[str, Any], parameter: Parameter) -> None:
    assert space.from_distribution(data, "x") == parameter


@pytest.mark.parametrize(
    ("data", "problems"),
    [
        ({"type": "int", "low": 3, "high": 1}, ["x.low: is 3, above high (1); exchange them"]),
        ({"type": "normal"}, ["x.type: is the text 'normal'; write float, int or categorical"]),
        ([], ["x: is a list; write {type: categorical, choices: [...]} with these choices"]),
    ],
)
def test_a_wrong_distribution_of_a_job(data: object, problems: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        space.from_distribution(data, "x")
    assert caught.value.problems == problems


@given(st.integers(-1000, 1000), st.integers(1, 400), st.integers(1, 9), st.integers(0, 3))
def test_every_value_of_a_grid_written_in_decimals_is_inside(
    low: int, count: int, step: int, digits: int
) -> None:
    scale = 10**digits
    parameter = Float(low / scale, (low + count * step) / scale, step=step / scale)
    assert space.check(parameter, "x") == []
    assert all(space.contains(parameter, (low + i * step) / scale) for i in range(count + 1))
    middle = (low + step / 2) / scale
    assert not space.contains(parameter, middle)
