"""Asynchronous successive halving, as tables: rungs before, report in, decision and rungs after."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepd.states import Verdict
from sweepd_coordinator.schedulers import CONTINUE, Asha, RunToTheEnd
from sweepd_coordinator.schedulers.asha import rung_levels


def asha(*, maximize: bool = True) -> Asha:
    return Asha(minimum=1, maximum=27, eta=3, maximize=maximize)


@pytest.mark.parametrize(
    ("minimum", "maximum", "eta", "levels"),
    [
        (1, 27, 3, [1, 3, 9]),
        (1, 81, 3, [1, 3, 9, 27]),
        (1, 243, 3, [1, 3, 9, 27, 81]),  # int(log(243) / log(3)) is 4 in floating point
        (1, 28, 3, [1, 3, 9, 27]),
        (2, 16, 2, [2, 4, 8]),
        (5, 5, 3, []),
        (4, 100, 4, [4, 16, 64]),
    ],
)
def test_rungs_lie_at_powers_of_eta_below_the_maximum(
    minimum: int, maximum: int, eta: int, levels: list[int]
) -> None:
    assert rung_levels(minimum, maximum, eta) == levels
    assert Asha(minimum=minimum, maximum=maximum, eta=eta, maximize=True).levels == levels


@pytest.mark.parametrize(
    ("before", "value", "goes_on", "reason"),
    [
        # the best of fewer than eta goes on, every other one stops
        ([], 0.1, True, "number 1 of 1, 1 kept"),
        ([0.5], 0.6, True, "number 1 of 2, 1 kept"),
        ([0.5], 0.4, False, "0.4 below the cut 0.5, 1 of 2 kept"),
        # equal to the cut is not below it
        ([0.5], 0.5, True, "number 1 of 2, 1 kept"),
        ([0.5, 0.6], 0.55, False, "0.55 below the cut 0.6, 1 of 3 kept"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.45, True, "number 2 of 6, 2 kept"),
        ([0.1, 0.2, 0.3, 0.4, 0.5], 0.35, False, "0.35 below the cut 0.4, 2 of 6 kept"),
        # infinity is a value, NaN ranks worst
        ([0.1, 0.2], math.inf, True, "inf is number 1 of 3, 1 kept"),
        ([math.nan], 0.1, True, "number 1 of 2, 1 kept"),
        ([0.1], math.nan, False, "nan below the cut 0.1, 1 of 2 kept"),
    ],
)
def test_a_trial_goes_on_while_it_is_among_the_best(
    before: list[float], value: float, goes_on: bool, reason: str
) -> None:
    scheduler = asha()
    for trial, earlier in enumerate(before):
        scheduler.restore(trial, {9: earlier})
    decision = scheduler.report(99, 9, value)
    assert decision.verdict is (Verdict.CONTINUE if goes_on else Verdict.STOP)
    assert decision.ending == ("" if goes_on else "prune")
    assert decision.rung == 9
    assert reason in decision.reason
    assert "at 9 reports: rung 9 of bracket 0" in decision.reason


def test_losses_are_minimized() -> None:
    scheduler = asha(maximize=False)
    assert scheduler.report(1, 1, 0.5).verdict is Verdict.CONTINUE
    worse = scheduler.report(2, 1, 0.7)
    assert worse.verdict is Verdict.STOP
    assert "0.7 above the cut 0.5" in worse.reason
    assert scheduler.report(3, 1, -math.inf).verdict is Verdict.CONTINUE
    assert scheduler.report(4, 1, math.nan).verdict is Verdict.STOP


def test_between_rungs_and_twice_at_one_nothing_is_decided() -> None:
    scheduler = asha()
    scheduler.report(1, 3, 0.9)
    assert scheduler.report(1, 4, 0.1) == CONTINUE
    assert scheduler.report(1, 3, 0.1) == CONTINUE
    assert asha().report(1, 0.5, 0.1) == CONTINUE  # below the first rung


def test_a_coarse_reporter_counts_for_the_highest_rung_it_passed() -> None:
    scheduler = asha()
    scheduler.restore(1, {3: 0.9})
    decision = scheduler.report(2, 5, 0.5)
    assert (decision.rung, decision.verdict) == (3, Verdict.STOP)
    assert scheduler.report(3, 1, 0.1).verdict is Verdict.CONTINUE  # rung 1 is still empty


def test_the_maximum_completes() -> None:
    decision = asha().report(1, 27, 0.1)
    assert (decision.verdict, decision.ending, decision.rung) == (Verdict.STOP, "complete", None)
    assert decision.reason == "complete at 27 reports: the maximum is 27"


def test_one_report_is_not_many() -> None:
    scheduler = asha()
    scheduler.report(1, 1, 0.9)
    assert scheduler.report(2, 1, 0.1).reason.startswith("stopped at 1 report: rung 1")


def test_without_a_scheduler_every_trial_runs_to_its_end() -> None:
    scheduler = RunToTheEnd()
    scheduler.restore(1, {1: 0.5})
    assert scheduler.report(1, 1_000, math.nan) == CONTINUE


values = st.floats(allow_nan=True)


@given(st.lists(values, min_size=1, max_size=60), st.integers(2, 5), st.booleans())
def test_decisions_follow_from_the_rung_alone(reports: list[float], eta: int, maximize: bool) -> None:
    """Against the definition: continue iff fewer than max(1, n // eta) entries are strictly better."""
    scheduler = Asha(minimum=1, maximum=100, eta=eta, maximize=maximize)
    losses: list[float] = []
    for trial, value in enumerate(reports):
        loss = math.inf if math.isnan(value) else (-value if maximize else value)
        losses.append(loss)
        goes_on = sum(other < loss for other in losses) < max(1, len(losses) // eta)
        verdict = scheduler.report(trial, 1, value).verdict
        assert verdict is (Verdict.CONTINUE if goes_on else Verdict.STOP)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 30), values), max_size=60))
def test_a_restored_scheduler_decides_as_the_one_that_lived(
    history: list[tuple[int, int, float]],
) -> None:
    lived = asha()
    recorded: dict[int, dict[int, float]] = {}
    for trial, resource, value in history:
        decision = lived.report(trial, resource, value)
        if decision.rung is not None and decision.value is not None:
            recorded.setdefault(trial, {})[decision.rung] = decision.value
        for level in (1, 3, 9):
            restored = asha()
            for number, rungs in recorded.items():
                restored.restore(number, rungs)
            # A trial that no rung has seen asks what is next: both must answer alike.
            assert restored.report(1_000, level, value) == copy.deepcopy(lived).report(1_000, level, value)
