"""TPE over our history: allowed, better than chance, and a function of what it is shown."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from search.studies import SPACE, allowed, pending, spaces, told

from sweepd.space import Categorical, Float, Int, Parameter
from sweepd_coordinator.core.changes import TrialPending, TrialTold
from sweepd_coordinator.search.random import RandomSearch
from sweepd_coordinator.search.samplers import StudySampler
from sweepd_coordinator.search.tpe import KEPT_ENCODINGS, STARTUP, TpeSearch


def filled(space: Mapping[str, Parameter], count: int, seed: int = 3, maximize: bool = False) -> TpeSearch:
    """Return a search that was told *count* random trials, a third complete and the others pruned."""
    search, chance = TpeSearch(space, maximize, seed), Random(seed)
    for number, params in enumerate(map(RandomSearch(space, seed).suggest, range(count))):
        complete = number % 3 == 0
        state, step = ("complete", 27) if complete else ("pruned", number % 9 + 1)
        search.told(told(number, chance.random(), params, state=state, step=step))
    return search


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(space=spaces, seed=st.integers(0, 2**63))
def test_every_suggestion_is_allowed(space: dict[str, Parameter], seed: int) -> None:
    search = filled(space, STARTUP + 2, seed)
    for number in (100, 101):
        params = search.suggest(number)
        assert list(params) == list(space)
        for name, parameter in space.items():
            assert allowed(parameter, params[name]), (name, parameter, params[name])
        search.pending(pending(number, params))


def test_before_the_model_it_is_random_search() -> None:
    search, chance = filled(SPACE, STARTUP - 1), RandomSearch(SPACE, 3)
    assert search.suggest(50) == chance.suggest(50)
    assert search.suggest_one(50, "z", Float(0, 1)) == chance.suggest_one(50, "z", Float(0, 1))
    search.told(told(STARTUP, 0.1, chance.suggest(STARTUP)))
    assert search.suggest(50) != chance.suggest(50)


def best_of(search: StudySampler, objective: Callable[[dict[str, Any]], float], trials: int) -> float:
    best = math.inf
    for number in range(trials):
        params = search.suggest(number)
        value = objective(params)
        search.told(told(number, value, params))
        best = min(best, value)
    return best


def test_better_than_random_search() -> None:
    """Twelve paired runs; chance alone wins ten or more of them once in 50 cases."""
    space: dict[str, Parameter] = {
        "x": Float(-5, 5),
        "rate": Float(1e-5, 1e-1, log=True),
        "layers": Int(1, 8),
        "kind": Categorical(["a", "b", "c"]),
    }

    def objective(params: dict[str, Any]) -> float:
        penalty = {"a": 2.0, "b": 0.0, "c": 1.0}[params["kind"]]
        return (
            (params["x"] - 1) ** 2
            + (math.log10(params["rate"]) + 3) ** 2
            + (params["layers"] - 3) ** 2
            + penalty
        )

    wins = 0
    for seed in range(12):
        ours = best_of(TpeSearch(space, False, seed), objective, 100)
        chance = best_of(RandomSearch(space, seed), objective, 100)
        wins += ours < chance
    assert wins >= 10


def test_maximizing_is_minimizing_the_negative() -> None:
    space: dict[str, Parameter] = {"x": Float(0, 1), "c": Categorical(["a", "b"])}
    small, large = TpeSearch(space, False, 5), TpeSearch(space, True, 5)
    for number in range(30):
        params = RandomSearch(space, 1).suggest(number)
        small.told(told(number, params["x"], params))
        large.told(told(number, -params["x"], params))
    assert [small.suggest(n) for n in range(100, 110)] == [large.suggest(n) for n in range(100, 110)]


def test_many_questions_in_a_row_do_not_collapse() -> None:
    """64 pending trials: spread out, where the same questions without them pile up on one place."""
    space: dict[str, Parameter] = {"x": Float(0, 1), "y": Float(0, 1)}

    def told_thirty() -> TpeSearch:
        search = TpeSearch(space, False, 11)
        for number in range(30):
            params = RandomSearch(space, 2).suggest(number)
            search.told(told(number, (params["x"] - 0.5) ** 2 + (params["y"] - 0.5) ** 2, params))
        return search

    def cells(points: list[dict[str, Any]]) -> int:
        return len({(int(p["x"] * 8), int(p["y"] * 8)) for p in points})

    search, points = told_thirty(), []
    for number in range(100, 164):
        params = search.suggest(number)
        search.pending(pending(number, params))
        points.append(params)
    blind = told_thirty()
    alone = [blind.suggest(number) for number in range(100, 164)]
    assert len({tuple(p.values()) for p in points}) == 64
    assert cells(points) >= 2 * cells(alone)


REPLAY = """
import json, sys
from sweepd.space import Categorical, Float, Int
from sweepd_coordinator.search.tpe import TpeSearch
from search.studies import SPACE
from search.test_tpe import filled
from search.studies import pending
search = filled(SPACE, 40)
search.pending(pending(40, search.suggest(40)))
print(json.dumps([search.suggest(41), search.suggest_one(41, "extra", Float(0, 1))]))
"""


def test_the_same_in_another_process() -> None:
    said: set[str] = set()
    for hash_seed in ("0", "1", "4242"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        done = subprocess.run(
            [sys.executable, "-c", REPLAY], env=environment, capture_output=True, text=True, check=True
        )
        said.add(done.stdout)
    search = filled(SPACE, 40)
    search.pending(pending(40, search.suggest(40)))
    assert said == {json.dumps([search.suggest(41), search.suggest_one(41, "extra", Float(0, 1))]) + "\n"}


@settings(max_examples=15, deadline=None)
@given(order=st.randoms(use_true_random=False))
def test_a_function_of_what_happened_not_of_its_order(order: Random) -> None:
    notes: list[TrialTold | TrialPending] = []
    for number in range(40):
        params = RandomSearch(SPACE, 9).suggest(number)
        if number % 8 == 7:
            notes.append(pending(number, params))
        else:
            state = ("complete", "pruned", "failed")[number % 3]
            notes.append(told(number, number % 5 / 5, params, state=state, step=number % 4 + 1))

    def answer(history: list[TrialTold | TrialPending], asked_before: int) -> dict[str, Any]:
        search = TpeSearch(SPACE, False, 1)
        for note in history:
            if isinstance(note, TrialPending):
                search.pending(note)
            else:
                search.told(note)
        for number in range(asked_before):
            search.suggest(100 + number)
        return search.suggest(77)

    shuffled = list(notes)
    order.shuffle(shuffled)
    assert answer(shuffled, asked_before=2) == answer(notes, asked_before=0)


def test_a_suggestion_follows_from_all_it_should() -> None:
    base = filled(SPACE, 40)
    asked = base.suggest(50)
    assert filled(SPACE, 40).suggest(50) == asked
    assert base.suggest(51) != asked
    assert filled(SPACE, 40, seed=4).suggest(50) != asked
    base.pending(pending(45, asked))
    assert base.suggest(50) != asked


def test_equal_choices_stay_different_for_the_model() -> None:
    """Only `True` is good among [1, True, 1.0]; Optuna by itself would call all three the first."""
    space: dict[str, Parameter] = {"flag": Categorical([1, True, 1.0])}
    search = TpeSearch(space, False, 0)
    for number in range(30):
        value = [1, True, 1.0][number % 3]
        search.told(told(number, 0.0 if value is True else 1.0, {"flag": value}))
    suggested = [search.suggest(100 + n)["flag"] for n in range(30)]
    assert sum(value is True for value in suggested) >= 20


@pytest.mark.parametrize(
    "parameter",
    [
        Float(9.0, 9.000000000000002, log=True),
        Float(9.0, 9.00000001, log=True),
        Float(0, 5e-324),
        Float(0, 1e-9),
        Float(-1e200, 1e200),
        Float(-1.7e308, 1.7e308),
        Float(5e-324, 1.7e308, log=True),
        Int(2**60, 2**60 + 1),
        Int(0, 2**63),
        Int(0, 2**40),
        Int(1, 2**40, log=True),
        Float(0, 1e6, step=1e-6),
    ],
)
def test_ranges_at_the_limits_of_arithmetic(parameter: Float | Int) -> None:
    """Alone and beside another parameter, told of in the space and asked for by a job."""
    space: dict[str, Parameter] = {"edge": parameter, "x": Float(0, 1)}
    search = filled(space, 30)
    for number in range(20):
        assert allowed(parameter, search.suggest(100 + number)["edge"])
        assert allowed(parameter, search.suggest_one(100 + number, "edge", parameter))


def test_a_space_with_nothing_to_choose() -> None:
    space: dict[str, Parameter] = {"a": Categorical(["only"]), "b": Int(3, 3)}
    assert filled(space, 20).suggest(50) == {"a": "only", "b": 3}
    assert TpeSearch({}, False, 0).suggest(0) == {}


def test_a_value_that_is_not_in_the_space_is_left_out() -> None:
    search, like = filled(SPACE, 20), filled(SPACE, 20)
    strange = {**RandomSearch(SPACE, 1).suggest(0), "learning_rate": 55.0, "choice": "unheard of", "gone": 1}
    search.told(told(30, 0.5, strange))
    like.told(told(30, 0.5))
    assert search.suggest(50) == like.suggest(50)


def asked_for(number: int, value: float, parameter: Parameter, x: Any, state: str = "complete") -> TrialTold:
    return TrialTold("s", number, {"x": x}, {"x": parameter}, state, value, 1)


def suggestions(search: TpeSearch, parameter: Parameter, count: int = 40) -> list[Any]:
    return [search.suggest_one(1000 + number, "x", parameter) for number in range(count)]


def test_a_parameter_that_jobs_ask_for_is_learned() -> None:
    parameter = Float(0, 1)
    search = TpeSearch({}, False, 0)
    for number in range(40):
        x = number / 40
        search.told(asked_for(number, (x - 0.8) ** 2, parameter, x))
    # An equal distribution, as each message brings its own.
    values = suggestions(search, Float(0, 1))
    assert all(allowed(parameter, value) for value in values)
    assert sum(abs(value - 0.8) < 0.2 for value in values) >= 30


def test_another_range_of_it_learns_from_what_lies_inside() -> None:
    search = TpeSearch({}, False, 0)
    for number in range(40):
        x = number / 40
        search.told(asked_for(number, (x - 0.3) ** 2, Float(0, 1), x))
    narrow = Float(0.1, 0.9)
    values = suggestions(search, narrow)
    assert all(allowed(narrow, value) for value in values)
    assert sum(abs(value - 0.3) < 0.15 for value in values) >= 25


def test_another_scale_of_it_learns_nothing() -> None:
    """Trials with the old scale count as trials, and say nothing of the parameter."""
    old, bare = TpeSearch({}, False, 0), TpeSearch({}, False, 0)
    for number in range(40):
        old.told(asked_for(number, number / 40, Float(0.1, 1), 0.1 + number / 50))
        bare.told(TrialTold("s", number, {}, {}, "complete", number / 40, 1))
    log = Float(0.1, 1, log=True)
    assert suggestions(old, log, 10) == suggestions(bare, log, 10)


def test_other_choices_of_it_learn_nothing() -> None:
    old, bare = TpeSearch({}, False, 0), TpeSearch({}, False, 0)
    for number in range(40):
        old.told(asked_for(number, number % 3, Categorical(["a", "b", "c"]), "abc"[number % 3]))
        bare.told(TrialTold("s", number, {}, {}, "complete", number % 3, 1))
    other = Categorical(["c", "b", "a"])
    assert suggestions(old, other, 10) == suggestions(bare, other, 10)


def test_a_declared_parameter_that_a_job_asks_for_otherwise() -> None:
    space: dict[str, Parameter] = {"x": Float(0, 1)}
    search = TpeSearch(space, False, 0)
    for number in range(40):
        search.told(told(number, abs(number / 40 - 0.5), {"x": number / 40}))
    narrow = Float(0.2, 0.9)
    values = suggestions(search, narrow)
    assert all(allowed(narrow, value) for value in values)
    assert sum(abs(value - 0.5) < 0.15 for value in values) >= 25


def test_ranges_that_change_with_every_trial_cost_no_memory() -> None:
    search = TpeSearch({}, False, 0)
    for number in range(60):
        search.told(asked_for(number, number / 60, Float(0, 1 + number / 100), number / 60))
    values = suggestions(search, Float(0, 5), 3)
    assert all(0 <= value <= 5 for value in values)
    assert len(search._undeclared["x"]) == KEPT_ENCODINGS  # pyright: ignore[reportPrivateUsage]


def test_a_parameter_with_one_value_that_a_job_asks_for() -> None:
    assert filled(SPACE, 20).suggest_one(50, "x", Categorical(["only"])) == "only"


def test_optuna_speaks_through_our_log(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    optuna.logging.get_logger("optuna.samplers").warning("something about a sampler")
    optuna.logging.get_logger("optuna.samplers").info("something for Optuna's own users")
    assert caplog.messages == ["something about a sampler"]
    assert capfd.readouterr().err == ""
