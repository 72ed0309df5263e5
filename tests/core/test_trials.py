"""How trials end: values, failures, retries, verdicts, suggestions."""

from __future__ import annotations

from typing import Any

import pytest

from core.test_sessions import running_world
from core.world import World
from sweepd.messages import (
    Decide,
    Finished,
    Leave,
    Number,
    Point,
    Reports,
    Revoke,
    Suggested,
    SuggestParameter,
)
from sweepd.states import AttemptOutcome, FailureClass, StudyState, TrialState, Verdict
from sweepd_coordinator.core.changes import AskOne, OneSuggestion, Suggestion, TrialPending, TrialTold

OUT = AttemptOutcome


@pytest.mark.parametrize(
    ("at", "direction", "reports", "returned", "value"),
    [
        ("last", "maximize", [0.5, 0.9, 0.7], None, 0.7),
        ("best", "maximize", [0.5, 0.9, 0.7], None, 0.9),
        ("best", "minimize", [0.5, 0.9, 0.7], None, 0.5),
        ("best", "maximize", ["nan", 0.4, "nan"], None, 0.4),
        ("best", "minimize", [0.4, "nan"], None, 0.4),
        ("last", "maximize", [0.5], 0.8, 0.8),  # what the job returned wins
        ("last", "maximize", [], 0.8, 0.8),
        ("last", "maximize", ["inf"], None, "inf"),  # infinity is a value
    ],
)
def test_the_value_of_a_trial(
    at: str, direction: str, reports: list[Number], returned: float | None, value: Number
) -> None:
    world, agent = running_world(objectives=[{"metric": "acc", "direction": direction, "at": at}])
    (assign,) = agent.assigned
    for ordinal, reported in enumerate(reports, 1):
        agent.report(assign, ordinal, {"acc": reported})
    agent.finish(assign, values=None if returned is None else {"acc": returned})
    trial = world.trial(0)
    assert (trial.state, trial.values, trial.reason) == (
        TrialState.COMPLETE,
        {"acc": value},
        "reached its own end",
    )
    (end,) = world.records.ends
    assert (end.state, end.outcome, end.values) == (TrialState.COMPLETE, OUT.FINISHED, {"acc": value})
    assert world.records.told[0].value == float(value)


@pytest.mark.parametrize(
    ("reports", "returned", "failure", "words"),
    [
        ([], None, FailureClass.BAD_CONFIG, "never reported 'acc'"),
        ([0.5, "nan"], None, FailureClass.DIVERGED, "acc is NaN"),
        ([0.5], "nan", FailureClass.DIVERGED, "acc is NaN"),
    ],
)
def test_an_end_without_a_usable_value_is_a_failure_that_is_not_retried(
    reports: list[Number], returned: Number | None, failure: FailureClass, words: str
) -> None:
    world, agent = running_world(retry={"max_attempts": 5})
    (assign,) = agent.assigned
    for ordinal, reported in enumerate(reports, 1):
        agent.report(assign, ordinal, {"acc": reported})
    agent.finish(assign, values=None if returned is None else {"acc": returned})
    trial = world.trial(0)
    assert (trial.state, trial.attempts[0].failure) == (TrialState.FAILED, failure)
    assert trial.attempts[0].outcome is OUT.FAILED
    assert words in trial.reason


def test_a_failure_is_tried_again_as_often_as_asked() -> None:
    world, agent = running_world(retry={"max_attempts": 2})
    agent.finish(
        agent.assigned[0], OUT.FAILED, failure=FailureClass.CRASHED, message="Traceback\nValueError: x"
    )
    trial = world.trial(0)
    assert (trial.state, trial.failures) == (TrialState.WAITING, 1)
    assert trial.reason == "crashed: ValueError: x; trying again after 1 of 2"
    agent.offer()
    agent.finish(agent.assigned[-1], OUT.FAILED, failure=FailureClass.CRASHED)
    trial = world.trial(0)
    assert (trial.state, trial.reason) == (TrialState.FAILED, "crashed (attempt 2 of 2)")
    assert [attempt.message for attempt in trial.attempts] == ["Traceback\nValueError: x", ""]


def test_a_failure_without_a_class_is_a_crash() -> None:
    world, agent = running_world()
    agent.finish(agent.assigned[0], OUT.FAILED)
    assert world.trial(0).reason == "crashed"


@pytest.mark.parametrize("outcome", [OUT.LOST, OUT.PREEMPTED, OUT.SUPERSEDED, OUT.PAUSED])
def test_what_is_given_back_is_not_held_against_the_trial(outcome: AttemptOutcome) -> None:
    world, agent = running_world()
    for _ in range(4):
        agent.finish(agent.assigned[-1], outcome)
        trial = world.trial(0)
        assert (trial.state, trial.failures) == (TrialState.WAITING, 0)
        agent.offer()


def test_three_agents_lost_with_the_same_trial_fail_it() -> None:
    world = World()
    world.submit(budget={"trials": 1})
    for name in "abc":
        agent = world.agent(name)
        agent.join()
        world.settle()
        assert len(agent.assigned) == 1
        agent.finish(agent.assigned[0], OUT.LOST)
        agent.say(Leave())
    trial = world.trial(0)
    assert trial.state is TrialState.FAILED
    assert trial.reason == "three agents were lost while they ran it: a, b, c"


def asha(**over: Any) -> dict[str, Any]:
    return {"type": "asha", "min": 1, "max": 9, "eta": 3} | over


def test_verdicts_are_sent_at_rungs_and_the_stopped_trial_is_pruned() -> None:
    world, agent = running_world(slots=2, scheduler=asha())
    good, bad = agent.assigned
    agent.report(good, 1, {"acc": 0.9})
    agent.report(bad, 1, {"acc": 0.1})
    agent.report(good, 2, {"acc": 0.95})  # between rungs nothing is said
    first, second = agent.told(Decide)
    assert (first.token, first.verdict, first.reports) == (good.token, Verdict.CONTINUE, 1)
    assert (second.token, second.verdict) == (bad.token, Verdict.STOP)
    assert "0.1 below the cut 0.9, 1 of 2 kept" in second.reason
    agent.report(bad, 2, {"acc": 0.2})  # it had not heard yet: a point like any other
    agent.finish(bad, OUT.PRUNED)
    trial = world.trial(bad.trial)
    assert (trial.state, trial.values) == (TrialState.PRUNED, {"acc": 0.2})
    assert trial.reason == second.reason
    assert trial.rungs == {1: 0.1}
    told = world.records.told[-1]
    assert (told.state, told.value, told.step) == ("pruned", 0.2, 2)


def test_a_job_that_reaches_its_end_before_it_obeys_is_complete() -> None:
    world, agent = running_world(slots=2, scheduler=asha())
    good, bad = agent.assigned
    agent.report(good, 1, {"acc": 0.9})
    agent.report(bad, 1, {"acc": 0.1})
    agent.finish(bad, values={"acc": 0.1})
    assert world.trial(bad.trial).state is TrialState.COMPLETE


@pytest.mark.parametrize("outcome", [OUT.PRUNED, OUT.FINISHED, OUT.PREEMPTED, OUT.LOST])
def test_reaching_the_maximum_is_complete_however_the_job_stops(outcome: AttemptOutcome) -> None:
    world, agent = running_world(scheduler=asha())
    (assign,) = agent.assigned
    for ordinal in range(1, 10):
        agent.report(assign, ordinal, {"acc": ordinal / 10})
    agent.finish(assign, outcome)
    trial = world.trial(0)
    assert (trial.state, trial.values) == (TrialState.COMPLETE, {"acc": 0.9})
    assert trial.reason == "complete at 9 reports: the maximum is 9"


def test_the_maximum_without_a_value_is_no_complete_trial() -> None:
    world, agent = running_world(scheduler=asha(metric="acc", resource="step"))
    (assign,) = agent.assigned
    agent.report(assign, 1, {"acc": "nan"}, step=9)
    agent.finish(assign, OUT.PRUNED)
    assert world.trial(0).state is TrialState.PRUNED


def test_a_standing_order_outlives_the_agent() -> None:
    world, agent = running_world(slots=2, scheduler=asha())
    good, bad = agent.assigned
    agent.report(good, 1, {"acc": 0.9})
    agent.report(bad, 1, {"acc": 0.1})
    agent.say(Leave())
    assert world.trial(bad.trial).state is TrialState.PRUNED
    assert world.trial(good.trial).state is TrialState.WAITING


def test_a_job_that_prunes_itself_is_pruned() -> None:
    world, agent = running_world()
    agent.finish(agent.assigned[0], OUT.PRUNED)
    trial = world.trial(0)
    assert (trial.state, trial.values, trial.reason) == (TrialState.PRUNED, None, "the job pruned itself")


@pytest.mark.parametrize(
    ("resource", "reports", "rungs"),
    [
        ("reports", [(10, {}), (20, {}), (30, {})], {1: 0.5, 3: 0.5}),
        ("step", [(1, {}), (2, {}), (4, {})], {1: 0.5, 3: 0.5}),
        ("epoch", [(1, {"epoch": 1.0}), (2, {}), (3, {"epoch": 3.5})], {1: 0.5, 3: 0.5}),
    ],
)
def test_the_resource_is_what_the_study_says(
    resource: str, reports: list[tuple[int, dict[str, Number]]], rungs: dict[int, float]
) -> None:
    world, agent = running_world(scheduler=asha(resource=resource))
    (assign,) = agent.assigned
    for ordinal, (step, more) in enumerate(reports, 1):
        agent.report(assign, ordinal, {"acc": 0.5} | more, step=step)
    world.turn()
    assert world.trial(0).rungs == rungs


def test_a_report_without_the_schedulers_metric_is_recorded_and_not_judged() -> None:
    world, agent = running_world(scheduler=asha())
    (assign,) = agent.assigned
    agent.report(assign, 1, {"loss": 0.5})
    assert agent.told(Decide) == []
    assert world.records.points[assign.study, 0][0].metrics == {"loss": 0.5}


def test_reports_sent_again_and_values_reported_twice_count_once() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    agent.report(assign, 1, {"acc": 0.5}, step=1)
    agent.report(assign, 1, {"acc": 0.6}, step=1)  # the same report again
    agent.report(assign, 2, {"acc": 0.7}, step=1)  # another report of the same step: the first wins
    agent.report(assign, 3, {"acc": 0.7, "loss": 0.1}, step=1)  # only the loss is new
    agent.report(assign, 4, {"acc": 0.8}, step=0)  # out of order
    points = world.records.points[assign.study, 0]
    assert [(point.step, point.metrics) for point in points] == [
        (1, {"acc": 0.5}),
        (1, {"loss": 0.1}),
        (0, {"acc": 0.8}),
    ]
    agent.finish(assign)
    trial = world.trial(0)
    assert (trial.reports, trial.last_step, trial.values) == (2, 1, {"acc": 0.8})
    assert [(point.step) for point in world.records.curves[assign.study, 0]] == [1, 1, 0]


def test_a_new_attempt_starts_a_new_curve_and_the_old_points_stay() -> None:
    world, agent = running_world(scheduler=asha())
    (assign,) = agent.assigned
    agent.report(assign, 1, {"acc": 0.5})
    agent.finish(assign, OUT.PREEMPTED)
    agent.offer()
    again = agent.assigned[-1]
    agent.report(again, 1, {"acc": 0.6})
    agent.finish(again)
    trial = world.trial(0)
    assert (trial.reports, trial.values) == (1, {"acc": 0.6})
    assert [point.attempt for point in world.records.curves[assign.study, 0]] == [1, 2]
    assert trial.rungs == {1: 0.5}  # a trial is compared once at a rung


def test_many_points_travel_in_one_message() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    points = [Point(n, n, {"acc": n / 10}) for n in range(1, 6)]
    agent.say(Reports(assign.study, assign.trial, assign.attempt, assign.token, points))
    agent.finish(assign)
    assert world.trial(0).values == {"acc": 0.5}


@pytest.mark.parametrize(
    ("direction", "values", "best"),
    [
        ("maximize", [0.1, 0.9, 0.5], 1),
        ("minimize", [0.5, 0.1, 0.9], 1),
        ("maximize", [0.9, 0.9, 0.9], 0),  # the first of equals stays
        ("maximize", [0.1, "inf", 0.5], 1),
    ],
)
def test_the_best_trial(direction: str, values: list[Number], best: int) -> None:
    world = World()
    world.submit(objectives=[{"metric": "acc", "direction": direction}])
    agent = world.agent(slots=3)
    agent.join()
    world.settle()
    for assign, value in zip(agent.assigned, values, strict=True):
        agent.finish(assign, values={"acc": value})
    record = world.study()
    assert record.best is not None
    assert (record.best.number, record.best.values) == (best, {"acc": values[best]})
    assert record.state is StudyState.DONE
    assert record.finished_at == world.now_s


def test_the_first_three_failing_alike_pause_the_study_and_show_why() -> None:
    world = World()
    world.submit(budget={"trials": 10})
    agent = world.agent()
    agent.join()
    for _ in range(3):
        world.settle()
        agent.finish(
            agent.assigned[-1], OUT.FAILED, failure=FailureClass.CRASHED, message="Traceback\nKeyError: 1"
        )
        agent.offer()
    record = world.study()
    assert record.state is StudyState.PAUSED
    assert record.reason == "the first three trials failed alike: crashed: KeyError: 1"
    assert record.failure == "Traceback\nKeyError: 1"
    world.turn()
    assert len(agent.assigned) == 3


@pytest.mark.parametrize("messages", [["KeyError: 1", "KeyError: 2", "KeyError: 1"], ["", None, ""]])
def test_trials_that_end_differently_pause_nothing(messages: list[str | None]) -> None:
    world = World()
    world.submit(budget={"trials": 10})
    agent = world.agent()
    agent.join()
    for message in messages:
        world.settle()
        if message is None:
            agent.finish(agent.assigned[-1], values={"acc": 1.0})
        else:
            agent.finish(agent.assigned[-1], OUT.FAILED, message=message)
        agent.offer()
    assert world.study().state is StudyState.RUNNING


def test_a_budget_of_three_that_fails_alike_is_done_and_still_shows_why() -> None:
    world, agent = running_world(slots=3)
    for assign in agent.assigned:
        agent.finish(assign, OUT.FAILED, message="KeyError: 1")
    record = world.study()
    assert (record.state, record.failure) == (StudyState.DONE, "KeyError: 1")


def test_user_attributes_are_kept() -> None:
    world, agent = running_world()
    assign = agent.assigned[0]
    agent.say(
        Finished(
            assign.study, 0, 1, assign.token, OUT.FINISHED, values={"acc": 1.0}, attributes={"note": [1]}
        )
    )
    assert world.trial(0).attributes == {"note": [1]}


# --- suggestions ----------------------------------------------------------------------------


def test_suggestions_carry_the_commit_that_they_saw() -> None:
    world = World()
    world.submit()
    cuts = {ask.number: ask.cut for ask in world.asks}
    assert cuts == dict.fromkeys(range(3), world.records.commit)  # random: all may be prepared ahead
    world.settle()
    assert [world.trial(number).cut for number in range(3)] == list(cuts.values())


def test_a_sampler_that_learns_is_not_asked_far_ahead() -> None:
    world = World()
    world.submit(sampler={"type": "tpe", "seed": 1}, budget={"trials": 100})
    world.settle()
    assert world.study().counts == {"waiting": 1}
    agent = world.agent(slots=16)
    agent.join()
    world.settle()
    assert world.study().counts == {"waiting": 2, "running": 16}


def test_a_sampler_that_fails_ends_the_study_with_its_reason() -> None:
    world = World()
    reply = world.submit()
    world.raw([], [Suggestion(reply.study, 0, 1, {"x": 0.5})])
    agent = world.agent()
    world.asks = []
    agent.join()
    (assign,) = agent.assigned
    world.raw([], [Suggestion(reply.study, 1, 1, {}, error="ValueError: no")])
    record = world.study()
    assert record.finished_at is None
    assert [revoke.outcome for revoke in agent.told(Revoke)] == [OUT.CANCELLED]
    agent.finish(assign, OUT.FAILED)
    record = world.study()
    assert record.state is StudyState.FAILED
    assert record.reason == "the sampler failed at trial 1: ValueError: no"
    assert record.finished_at is not None


def test_answers_that_nobody_waits_for_are_dropped() -> None:
    world = World()
    reply = world.submit()
    world.settle()
    world.raw([], [Suggestion(reply.study, 99, 1, {"x": 0.5}), Suggestion("gone", 0, 1, {"x": 0.5})])
    assert world.study().counts == {"waiting": 3}


FLOAT = {"type": "float", "low": 0.0, "high": 1.0}


def free_world() -> tuple[World, Any]:
    return running_world(space=None, task={"objective": "train.py:objective"}, executor={"type": "process"})


def test_a_job_without_a_declared_space_is_answered_and_the_answer_stays() -> None:
    world, agent = free_world()
    (assign,) = agent.assigned
    assert (assign.declared, assign.params) == (False, {})
    ask = SuggestParameter(assign.study, 0, 1, assign.token, "lr", FLOAT)
    agent.say(ask, ask)  # asked twice before the answer: one question to the sampler
    assert len(world.ones) == 1
    world.turn()
    assert agent.told(Suggested) == [Suggested(assign.token, "lr", 0.5)]
    trial = world.trial(0)
    assert (trial.params, trial.distributions["lr"]["type"], set(trial.cuts)) == (
        {"lr": 0.5},
        "float",
        {"lr"},
    )
    agent.say(ask)
    assert agent.told(Suggested)[-1] == Suggested(assign.token, "lr", 0.5)
    pending = [note for note in world.notes if isinstance(note, TrialPending)]
    assert pending[-1].params == {"lr": 0.5}


def test_a_wrong_distribution_is_answered_with_its_error() -> None:
    world, agent = free_world()
    (assign,) = agent.assigned
    agent.say(
        SuggestParameter(assign.study, 0, 1, assign.token, "lr", {"type": "float", "low": 2, "high": 1})
    )
    (answer,) = agent.told(Suggested)
    assert "lr" in answer.error
    assert world.ones == []


def test_a_sampler_that_fails_at_a_parameter_tells_the_job() -> None:
    world, agent = free_world()
    (assign,) = agent.assigned
    agent.say(SuggestParameter(assign.study, 0, 1, assign.token, "lr", FLOAT))
    (ask,) = world.ones
    world.ones = []
    world.raw([], [OneSuggestion(ask, None, "ValueError: no")])
    assert agent.told(Suggested) == [Suggested(assign.token, "lr", error="ValueError: no")]
    assert world.trial(0).params == {}


def test_an_answer_after_the_attempt_is_kept_for_the_next_one() -> None:
    world, agent = free_world()
    (assign,) = agent.assigned
    agent.say(SuggestParameter(assign.study, 0, 1, assign.token, "lr", FLOAT))
    (ask,) = world.ones
    world.ones = []
    agent.finish(assign, OUT.PREEMPTED)
    world.raw([], [OneSuggestion(ask, 0.25)])
    assert agent.told(Suggested) == []
    assert world.trial(0).params == {"lr": 0.25}
    agent.offer()
    again = agent.assigned[-1]
    agent.say(SuggestParameter(again.study, 0, 2, again.token, "lr", FLOAT))
    assert agent.told(Suggested) == [Suggested(again.token, "lr", 0.25)]


def test_an_answer_for_a_trial_that_ended_is_dropped() -> None:
    world, agent = free_world()
    (assign,) = agent.assigned
    agent.say(SuggestParameter(assign.study, 0, 1, assign.token, "lr", FLOAT))
    (ask,) = world.ones
    world.ones = []
    agent.finish(assign, values={"acc": 1.0})
    world.raw(
        [], [OneSuggestion(ask, 0.25), OneSuggestion(AskOne("gone", 0, 1, "t", "lr", ask.distribution), 1)]
    )
    assert world.trial(0).params == {}
    assert isinstance(world.records.told[0], TrialTold)


def test_cancelled_attempts_end_their_trials() -> None:
    world, agent = running_world()
    agent.finish(agent.assigned[0], OUT.CANCELLED, message="by hand")
    assert (world.trial(0).state, world.trial(0).reason) == (TrialState.CANCELLED, "by hand")
    world.settle()
    assert world.study().counts["waiting"] == 3  # cancelled trials do not count against the budget
    assert agent.told(Revoke) == []


def test_the_feed_hears_of_the_newest_report_of_a_message_and_how_many_there_were() -> None:
    _, agent = running_world()
    (assign,) = agent.assigned
    points = [Point(n, n, {"acc": n / 10}) for n in (1, 2, 3)]
    changes = agent.say(Reports(assign.study, assign.trial, assign.attempt, assign.token, points))
    (event,) = changes.events
    assert (event.kind, event.data) == ("trial.reported", {"step": 3, "metrics": {"acc": 0.3}, "count": 3})
    again = agent.say(Reports(assign.study, assign.trial, assign.attempt, assign.token, points))
    assert again.events == []
