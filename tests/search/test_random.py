"""Random search: every value allowed, every value possible, the same for ever."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search.studies import SPACE, allowed, spaces

from sweepd.space import Categorical, Float, Int, Parameter
from sweepd_coordinator.search.random import RandomSearch

# Never to change: a study that goes on with a newer version, `sweepd replay` and the promise that
# a crash is invisible all rest on these. (The logarithm's last digit is the C library's.)
FROZEN: list[tuple[int, int, dict[str, Any]]] = [
    (
        42,
        0,
        {
            "learning_rate": 0.0015481423698368467,
            "momentum": 0.6144739848992894,
            "dropout": 0.0,
            "layers": 5,
            "hidden": 44,
            "batch": 128,
            "choice": 1,
        },
    ),
    (
        42,
        1,
        {
            "learning_rate": 0.004080593473178346,
            "momentum": 0.911630275022298,
            "dropout": 0.0,
            "layers": 3,
            "hidden": 22,
            "batch": 256,
            "choice": 1,
        },
    ),
    (
        42,
        99999,
        {
            "learning_rate": 3.0964867650439516e-05,
            "momentum": 0.887953070190405,
            "dropout": 0.2,
            "layers": 2,
            "hidden": 24,
            "batch": 192,
            "choice": [1],
        },
    ),
    (
        0,
        0,
        {
            "learning_rate": 0.0005149578439996659,
            "momentum": 0.3673239776011274,
            "dropout": 0.5,
            "layers": 2,
            "hidden": 101,
            "batch": 64,
            "choice": 1,
        },
    ),
    (
        9223372036854775807,
        7,
        {
            "learning_rate": 0.0004055158506074592,
            "momentum": 0.5601153854911185,
            "dropout": 0.4,
            "layers": 2,
            "hidden": 66,
            "batch": 96,
            "choice": [1],
        },
    ),
]


def draws(parameter: Parameter, count: int = 2000) -> list[Any]:
    return [RandomSearch({"p": parameter}, 0).suggest(number)["p"] for number in range(count)]


@pytest.mark.parametrize(("seed", "number", "params"), FROZEN)
def test_the_same_for_ever(seed: int, number: int, params: dict[str, Any]) -> None:
    got = RandomSearch(SPACE, seed).suggest(number)
    assert list(got) == list(SPACE)
    for name, value in params.items():
        assert type(got[name]) is type(value), name
        assert got[name] == (pytest.approx(value, rel=1e-14) if isinstance(value, float) else value), name


@given(space=spaces, seed=st.integers(0, 2**63), number=st.integers(0, 10**9))
def test_every_suggestion_is_allowed(space: dict[str, Parameter], seed: int, number: int) -> None:
    search = RandomSearch(space, seed)
    params = search.suggest(number)
    assert list(params) == list(space)
    for name, parameter in space.items():
        assert allowed(parameter, params[name]), (name, parameter, params[name])
        assert search.suggest_one(number, name, parameter) == params[name]


def test_a_parameter_that_is_added_moves_no_other() -> None:
    grown = {"first": Float(0, 1), **dict(reversed(SPACE.items())), "last": Int(0, 9)}
    for number in range(20):
        old, new = RandomSearch(SPACE, 7).suggest(number), RandomSearch(grown, 7).suggest(number)
        assert {name: new[name] for name in SPACE} == old


def test_seeds_numbers_and_names_are_independent() -> None:
    space = {"a": Float(0, 1), "b": Float(0, 1)}
    seen = [
        tuple(RandomSearch(space, seed).suggest(number).values())
        for seed in range(20)
        for number in range(50)
    ]
    values = [value for pair in seen for value in pair]
    assert len(set(values)) == len(values)
    # The correlation of 1,000 independent pairs is within 0.1 but for one case in 600.
    mean = sum((a - 0.5) * (b - 0.5) for a, b in seen) / len(seen)
    assert abs(mean * 12) < 0.1


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        (Int(1, 5), [1, 2, 3, 4, 5]),
        (Int(-7, 7, step=5), [-7, -2, 3]),
        (Float(0.1, 0.5, step=0.1), [0.1, 0.2, 0.3, 0.4, 0.5]),
        (Float(0, 1, step=0.3), [0.0, 0.3, 0.6, 0.9]),
        (Categorical(["x", "y", "z"]), ["x", "y", "z"]),
    ],
)
def test_values_of_a_step_are_equally_likely(parameter: Parameter, values: list[Any]) -> None:
    counts = Counter(draws(parameter))
    assert sorted(counts) == values
    expected = 2000 / len(values)
    chi_squared = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi_squared < 18.5  # 4 degrees of freedom at most: exceeded once in 1,000 cases


def test_equal_choices_of_different_type_stay_different() -> None:
    assert {repr(value) for value in draws(Categorical([1, True, 1.0]), 100)} == {"1", "True", "1.0"}


@pytest.mark.parametrize("parameter", [Float(1e-4, 1e4, log=True), Int(1, 10**8, log=True)])
def test_a_logarithmic_parameter_is_even_over_its_orders_of_magnitude(parameter: Float | Int) -> None:
    orders = Counter(len(str(int(value / parameter.low))) for value in draws(parameter, 4000))
    assert set(orders) == set(range(1, 9)) or set(orders) == set(range(1, 10))
    assert all(400 < orders[order] < 600 for order in range(2, 9))


def test_both_ends_of_a_logarithmic_whole_number_occur() -> None:
    assert set(draws(Int(1, 3, log=True), 500)) == {1, 2, 3}


@pytest.mark.parametrize(
    "parameter", [Float(-1.7e308, 1.7e308), Float(5e-324, 1.7e308, log=True), Int(0, 2**63)]
)
def test_the_widest_ranges(parameter: Float | Int) -> None:
    values = draws(parameter, 500)
    assert all(parameter.low <= value <= parameter.high for value in values)
    assert len(set(values)) == len(values)
