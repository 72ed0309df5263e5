"""The JSON contracts of DESIGN section 6, key by key, and what people read."""

from __future__ import annotations

import json

import pytest
from cli.scripted import AT, attempt_record, study_record, trial_record

from sweepd import explain, results
from sweepd.messages import Device, Usage
from sweepd.records import AgentRecord, BestRecord, CurvePoint
from sweepd.results import BudgetFacts, Holding, ObjectiveFacts, SchedulerFacts, StudyFacts
from sweepd.states import AttemptOutcome, FailureClass, StudyState, TrialState

FACTS = StudyFacts([ObjectiveFacts("accuracy", "maximize")], BudgetFacts(40))


def test_show_has_exactly_the_keys_of_the_contract() -> None:
    record = study_record(
        counts={"complete": 3, "pruned": 2, "waiting": 1, "cancelled": 4, "running": 1},
        best=BestRecord(2, {"accuracy": 0.5}, {"lr": 0.1}),
        finished_at=AT + 60.25,
    )
    assert results.show(record, FACTS) == {
        "id": "digits-1",
        "name": "digits",
        "state": "running",
        "objectives": [{"metric": "accuracy", "direction": "maximize"}],
        "counts": {
            "waiting": 1,
            "running": 1,
            "paused": 0,
            "complete": 3,
            "pruned": 2,
            "failed": 0,
            "cancelled": 4,
        },
        "best": [{"number": 2, "values": {"accuracy": 0.5}, "params": {"lr": 0.1}}],
        "budget": {"trials": {"limit": 40, "used": 6}},
        "created_at": "2023-11-14T22:13:20.000Z",
        "finished_at": "2023-11-14T22:14:20.250Z",
    }


def test_a_study_that_has_nothing_yet_has_an_empty_best_and_no_end() -> None:
    shown = results.show(study_record(), FACTS)
    assert (shown["best"], shown["finished_at"]) == ([], None)
    assert shown["budget"] == {"trials": {"limit": 40, "used": 0}}


def test_trials_have_exactly_the_keys_of_the_contract() -> None:
    first = attempt_record(
        1,
        devices=["GPU-1"],
        ended_at=AT + 11,
        outcome=AttemptOutcome.PREEMPTED,
        end_step=3,
        usage=Usage(wall_s=10),
    )
    second = attempt_record(2, started_at=AT + 20, ended_at=AT + 25, outcome=AttemptOutcome.FINISHED)
    record = trial_record(
        7, attempts=[first, second], values={"accuracy": 0.9}, last_step=5, reports=5, rung=3, reason="done"
    )
    assert results.trial(record, AT + 100) == {
        "number": 7,
        "state": "complete",
        "params": {"lr": pytest.approx(0.8), "kind": "adam"},
        "values": {"accuracy": 0.9},
        "last_step": 5,
        "reports": 5,
        "bracket": 0,
        "rung": 3,
        "reason": "done",
        "duration_s": 15.0,
        "attempts": [
            {
                "attempt": 1,
                "agent": "node-a",
                "outcome": "preempted",
                "gpus": ["GPU-1"],
                "started_at": "2023-11-14T22:13:21.000Z",
                "ended_at": "2023-11-14T22:13:31.000Z",
                "start_step": 0,
                "end_step": 3,
            },
            {
                "attempt": 2,
                "agent": "node-a",
                "outcome": "finished",
                "gpus": [],
                "started_at": "2023-11-14T22:13:40.000Z",
                "ended_at": "2023-11-14T22:13:45.000Z",
                "start_step": 0,
                "end_step": None,
            },
        ],
    }


def test_a_trial_that_never_ran_has_no_duration_and_no_values() -> None:
    shown = results.trial(trial_record(0, TrialState.WAITING), AT)
    assert (shown["duration_s"], shown["values"], shown["attempts"]) == (None, None, [])


def test_a_running_attempt_has_no_outcome_and_its_duration_grows() -> None:
    record = trial_record(0, TrialState.RUNNING, attempts=[attempt_record()])
    shown = results.trial(record, AT + 31)
    assert (shown["duration_s"], shown["attempts"][0]["outcome"]) == (30.0, None)


def test_numbers_that_json_cannot_carry_are_null() -> None:
    points = [CurvePoint(1, 1, {"accuracy": "nan", "loss": "-inf"}), CurvePoint(1, 2, {"accuracy": 0.25})]
    shown = results.trial(trial_record(0, values={"accuracy": "inf"}), AT, points)
    assert shown["values"] == {"accuracy": None}
    assert shown["curve"] == [[1, {"accuracy": None, "loss": None}], [2, {"accuracy": 0.25}]]
    json.dumps(shown, allow_nan=False)


CURVES = [
    # points as (attempt, step), start step of attempt 2, steps of the curve as (attempt, step)
    ([(1, 1), (1, 2)], 0, [(1, 1), (1, 2)]),
    ([(1, 1), (1, 2), (2, 1)], 0, [(2, 1)]),
    ([(1, 1), (1, 2), (1, 3), (2, 3), (2, 4)], 3, [(1, 1), (1, 2), (2, 3), (2, 4)]),
    ([(2, 4), (1, 1), (2, 5)], 4, [(1, 1), (2, 4), (2, 5)]),
    ([], 0, []),
]


@pytest.mark.parametrize(("points", "start", "expected"), CURVES)
def test_a_curve_is_the_newest_attempts_from_its_start_step_on(
    points: list[tuple[int, int]], start: int, expected: list[tuple[int, int]]
) -> None:
    attempts = [attempt_record(1), attempt_record(2, start_step=start)]
    curve = results.curve([CurvePoint(attempt, step, {}) for attempt, step in points], attempts)
    assert [(point.attempt, point.step) for point in curve] == expected


def test_a_running_trial_shows_the_points_of_its_newest_attempt() -> None:
    record = trial_record(0, TrialState.RUNNING, attempts=[attempt_record(1), attempt_record(2)])
    points = [CurvePoint(1, 9, {}), CurvePoint(2, 1, {}), CurvePoint(2, 2, {})]
    shown = results.with_points(record, points)
    assert (shown.reports, shown.last_step) == (2, 2)
    assert record.reports == 0


def test_agents_name_who_leases_each_device() -> None:
    record = AgentRecord(
        "node-a", "host-a", "s", slots=2, devices=[Device("GPU-1", "H200", 141_000)], last_seen_at=AT
    )
    held = [Holding("digits-1", 7, 2, "node-a", ("GPU-1",)), Holding("digits-1", 8, 1, "node-b", ("GPU-9",))]
    assert results.agent(record, AT + 1.5, held) == {
        "id": "node-a",
        "host": "host-a",
        "state": "connected",
        "last_seen_s": 1.5,
        "slots": 2,
        "gpus": [{"uuid": "GPU-1", "name": "H200", "memory_mib": 141_000, "leased_by": ["digits-1", 7, 2]}],
        "running": [["digits-1", 7, 2]],
    }


def test_holdings_are_the_attempts_without_an_end() -> None:
    done = attempt_record(1, outcome=AttemptOutcome.LOST)
    trials = [
        trial_record(0, attempts=[done]),
        trial_record(1, TrialState.RUNNING, attempts=[done, attempt_record(2, devices=["GPU-1"])]),
        trial_record(2, TrialState.WAITING),
    ]
    assert results.holdings("digits-1", trials) == [Holding("digits-1", 1, 2, "node-a", ("GPU-1",))]


@pytest.mark.parametrize(("direction", "expected"), [("maximize", [2, 0, 1, 3]), ("minimize", [1, 0, 2, 3])])
def test_ranking_puts_nan_last_and_trials_without_a_value_nowhere(
    direction: str, expected: list[int]
) -> None:
    values = [0.5, 0.25, 0.75, "nan"]
    trials = [trial_record(n, values={"accuracy": value}) for n, value in enumerate(values)]
    pruned = trial_record(4, TrialState.PRUNED, values={"accuracy": 0.6})
    ranked = results.ranked([pruned, *trials, trial_record(9)], ObjectiveFacts("accuracy", direction))
    assert [trial.number for trial in ranked] == [*expected, 4]


DURATIONS = [
    (0.04, "0.0 s"),
    (9.94, "9.9 s"),
    (59.4, "59 s"),
    (61, "1:01"),
    (3599.7, "1:00:00"),
    (90_061, "1 d 01:01:01"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert explain.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.1234567, "0.123457"), (1e-9, "1e-09"), (3.0, "3"), ("nan", "nan"), ("-inf", "-inf"), (None, "-")],
)
def test_numbers_have_at_most_six_digits(value: float | str | None, text: str) -> None:
    assert explain.number(value) == text


def test_parameters_are_told_apart_by_type() -> None:
    shown = explain.parameters({"a": 1, "b": True, "c": "1", "d": None, "e": [1, 2], "f": 0.000123456})
    assert shown == "a=1  b=true  c=1  d=null  e=[1,2]  f=0.0001235"


def test_why_tells_a_pruned_trial_from_its_suggestion_to_its_end() -> None:
    attempt = attempt_record(
        1,
        devices=["GPU-1", "GPU-2"],
        ended_at=AT + 13.3,
        outcome=AttemptOutcome.PRUNED,
        end_step=9,
        reports=9,
    )
    record = trial_record(
        7,
        TrialState.PRUNED,
        attempts=[attempt],
        cut=12,
        rungs={9: 0.71, 3: 0.6},
        stop="prune",
        reason="stopped at 9 reports: 0.71 below the cut 0.74",
        values={"accuracy": 0.71},
    )
    assert explain.why(record, study_record(), FACTS, AT + 100) == [
        "Trial 7 of digits is pruned: stopped at 9 reports: 0.71 below the cut 0.74.",
        "Its value is accuracy 0.71.",
        "Its parameters were suggested at commit 12: lr=0.8  kind=adam.",
        "Attempt 1 on node-a (host-a) with 2 GPUs ran for 12 s and ended pruned at step 9 after 9 reports.",
        "At the rung of 3 reports it was compared by 0.6.",
        "At the rung of 9 reports it was compared by 0.71.",
        "The scheduler's standing order is to prune it.",
    ]


def test_why_shows_the_traceback_of_a_failure() -> None:
    attempt = attempt_record(
        1,
        ended_at=AT + 2,
        outcome=AttemptOutcome.FAILED,
        failure=FailureClass.CRASHED,
        message="Traceback\n  ValueError: no\n",
    )
    told = explain.why(trial_record(0, TrialState.FAILED, attempts=[attempt]), study_record(), FACTS, AT)
    assert told[2:] == [
        "Attempt 1 on node-a (host-a) ran for 1.0 s and ended failed (crashed).",
        "    Traceback",
        "      ValueError: no",
    ]


def test_why_says_what_a_waiting_and_a_running_trial_wait_for() -> None:
    paused = study_record(state=StudyState.PAUSED, reason="interrupted")
    told = explain.why(trial_record(0, TrialState.WAITING), paused, FACTS, AT)
    assert told[-1] == "The study is paused: interrupted."
    told = explain.why(trial_record(0, TrialState.WAITING), study_record(), FACTS, AT)
    assert told[-1] == "The study is running and no slot took it yet."
    leased = trial_record(0, TrialState.RUNNING, attempts=[attempt_record(started_at=None)])
    told = explain.why(leased, study_record(), FACTS, AT + 4)
    assert told[-1] == "Attempt 1 on node-a (host-a) was leased 4.0 s ago and has not started."
    told_to_stop = attempt_record(revoked=AttemptOutcome.PREEMPTED)
    running = trial_record(0, TrialState.RUNNING, attempts=[told_to_stop])
    told = explain.why(running, study_record(), FACTS, AT + 61)
    assert told[-1] == (
        "Attempt 1 on node-a (host-a) has been running for 1:00 and was told to stop (preempted)."
    )


def test_facts_are_read_from_any_spec_that_is_newer_than_we_are() -> None:
    import msgspec

    data = b"""{"name": "x", "objectives": [{"metric": "loss", "direction": "minimize", "weight": 2}],
                "scheduler": {"type": "new", "resource": "step", "x": 1}, "budget": {"time": "2h"}}"""
    facts = msgspec.json.decode(data, type=StudyFacts)
    assert facts == StudyFacts(
        [ObjectiveFacts("loss", "minimize")], BudgetFacts(), SchedulerFacts("new", "step")
    )
    assert results.budget({"complete": 3}, facts) == {}
