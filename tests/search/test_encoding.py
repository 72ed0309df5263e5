"""A parameter between us and Optuna."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from search.studies import allowed, parameters

from sweepd.space import Categorical, Float, Int, Parameter
from sweepd_coordinator.search.encoding import Encoding, compatible
from sweepd_coordinator.search.random import RandomSearch

MIXED = [1, True, 1.0, "1", None, [1], [True], {"a": 1, "b": 2}, {"a": True, "b": 2}]


@given(parameter=parameters)
def test_there_and_back(parameter: Parameter) -> None:
    encoding = Encoding(parameter)
    for number in range(5):
        value = RandomSearch({"p": parameter}, 1).suggest(number)["p"]
        encoded = encoding.encode(value)
        assert encoded is not None
        seen = encoding.distribution.to_external_repr(encoding.distribution.to_internal_repr(encoded))
        assert seen == encoded
        assert encoding.decode(encoded) == value
        assert type(encoding.decode(encoded)) is type(value)


@pytest.mark.parametrize("position", range(len(MIXED)))
def test_choices_that_python_calls_equal_stay_apart(position: int) -> None:
    encoding = Encoding(Categorical(MIXED))
    assert encoding.encode(MIXED[position]) == position
    assert encoding.decode(float(position)) is MIXED[position]


def test_a_choice_is_known_by_what_it_says() -> None:
    encoding = Encoding(Categorical([{"a": 1, "b": [2]}, "x"]))
    assert encoding.encode({"b": [2], "a": 1}) == 0


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Float(0, 1), 1.5),
        (Float(0, 1), -0.5),
        (Float(0, 1), "a"),
        (Float(0, 1), True),
        (Int(1, 5), 6),
        (Int(1, 5), None),
        (Categorical(["a", "b"]), "c"),
        (Categorical([1]), True),
    ],
)
def test_a_value_that_is_not_allowed_has_no_encoding(parameter: Parameter, value: Any) -> None:
    assert Encoding(parameter).encode(value) is None


@pytest.mark.parametrize(
    ("parameter", "low", "high"),
    [
        (Float(0, 1, step=0.3), 0, 3),  # by position
        (Float(0.1, 0.5, step=0.1), 0, 4),
        (Int(1, 10, step=4), 1, 9),
        (Int(1, 10), 1, 10),
    ],
)
def test_a_range_ends_at_its_last_step(parameter: Parameter, low: float, high: float) -> None:
    distribution: Any = Encoding(parameter).distribution
    assert (distribution.low, distribution.high) == (low, high)


@pytest.mark.parametrize(
    ("parameter", "modelled"),
    [
        (Float(2, 2), False),
        (Int(3, 3), False),
        (Int(1, 4, step=9), False),
        (Float(0, 1, step=3), False),
        (Categorical([[]]), False),
        (Float(9.0, 9.000000000000002, log=True), False),
        (Float(0, 5e-324), False),
        (Float(-1.7e308, 1.7e308), False),
        (Int(2**60, 2**60 + 1), False),
        (Float(9.0, 9.00000001, log=True), True),
        (Float(0, 1e-9), True),
        (Float(-1e200, 1e200), True),
        (Int(0, 2**63), False),
        (Float(0, 1e9, step=1e-6), False),
        (Int(0, 2**40), True),
        (Categorical(["a", "b"]), True),
    ],
)
def test_what_is_left_to_chance(parameter: Parameter, modelled: bool) -> None:
    assert Encoding(parameter).modelled is modelled
    assert allowed(parameter, RandomSearch({"p": parameter}, 0).suggest(0)["p"])


def test_rounding_errors_do_not_leave_the_range() -> None:
    assert Encoding(Float(1e-5, 1e-1, log=True)).decode(0.10000000000000002) == 0.1
    stepped = Encoding(Float(0.1, 0.5, step=0.1))
    encoded = stepped.encode(0.30000000000000004)
    assert encoded == 2
    assert stepped.decode(encoded) == 0.3


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (Float(0, 1), Float(5, 9), True),
        (Float(0, 1), Float(0, 1, step=0.1), True),
        (Float(1, 2), Float(1, 2, log=True), False),
        (Int(1, 2), Int(1, 200), True),
        (Int(1, 2), Int(1, 2, log=True), False),
        (Int(1, 2), Float(1, 2), False),
        (Categorical([1, 2]), Categorical([1, 2]), True),
        (Categorical([1, 2]), Categorical([2, 1]), False),
        (Categorical([1]), Categorical([True]), False),
        (Categorical([1]), Int(1, 2), False),
    ],
)
def test_compatible(old: Parameter, new: Parameter, expected: bool) -> None:
    assert compatible(old, new) is expected
