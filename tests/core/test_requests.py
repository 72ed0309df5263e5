"""What clients ask for, and that asking twice does it once."""

from __future__ import annotations

from typing import Any

import pytest

from core.test_sessions import running_world
from core.world import World, study_spec
from sweepd.messages import CancelStudy, PauseStudy, ResumeStudy, Revoke, SubmitStudy
from sweepd.states import AttemptOutcome, StudyState, TrialState
from sweepd_coordinator.core.changes import StudyClosed, StudyOpened, TrialTold

OUT = AttemptOutcome


def finished_world(**spec: Any) -> tuple[World, Any]:
    """A study of three trials that is done."""
    world, agent = running_world(slots=3, **spec)
    for assign in agent.assigned:
        agent.report(assign, 1, {"acc": assign.trial / 10})
        agent.finish(assign)
    assert world.study().state is StudyState.DONE
    return world, agent


def test_a_submitted_study_exists_once_however_often_it_is_asked_for() -> None:
    world = World()
    first = world.request(SubmitStudy(study_spec()), "r1")
    again = world.request(SubmitStudy(study_spec()), "r1")
    assert first == again
    assert (first.created, first.name, first.state, first.error) == (True, "digits", "running", "")
    assert len(world.records.studies) == 1


def test_answers_survive_the_coordinator() -> None:
    world = World()
    first = world.request(SubmitStudy(study_spec()), "r1")
    world.restart()
    assert world.request(SubmitStudy(study_spec()), "r1") == first
    assert len(world.records.studies) == 1


def test_only_so_many_answers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go first: asked again, such a request is carried out again."""
    monkeypatch.setattr("sweepd_coordinator.core.requests.REPLIES_REMEMBERED", 2)
    world = World()
    study = world.submit().study
    world.request(PauseStudy(study), "first")
    world.request(ResumeStudy(study), "second")
    assert world.request(PauseStudy(study), "first").state == "paused"
    assert world.study().state is StudyState.RUNNING  # remembered: not done again
    world.request(ResumeStudy(study), "third")
    world.request(PauseStudy(study), "first")
    assert world.study().state is StudyState.PAUSED  # forgotten: done again


def test_a_wrong_spec_is_answered_with_all_its_errors_and_changes_nothing() -> None:
    world = World()
    reply = world.request(SubmitStudy(study_spec(budget={"trials": 0}, objectives=[{"metric": "acc"}])))
    assert "budget.trials" in reply.error
    assert "objectives" in reply.error
    assert world.records.studies == {}


def test_the_same_study_again_goes_on_with_the_one_there_is() -> None:
    world = World()
    first = world.submit()
    again = world.submit()
    assert (again.study, again.created, again.resumed) == (first.study, False, False)


def test_another_definition_under_the_same_name_shows_the_difference_and_the_way_out() -> None:
    world = World()
    world.submit()
    reply = world.submit(space={"x": {"type": "float", "low": 0.0, "high": 2.0}})
    assert "space.x.high" in reply.error
    assert "--new" in reply.error
    created = world.submit(space={"x": {"type": "float", "low": 0.0, "high": 2.0}}, new=True)
    assert created.created
    assert world.study().id == created.study
    assert len(world.records.studies) == 2


def test_a_larger_budget_lets_a_finished_study_go_on_with_all_it_learned() -> None:
    world, agent = finished_world(scheduler={"type": "asha", "min": 1, "max": 9, "eta": 3})
    world.notes.clear()
    reply = world.submit(budget={"trials": 5}, scheduler={"type": "asha", "min": 1, "max": 9, "eta": 3})
    assert (reply.resumed, reply.state) == (True, "running")
    record = world.study()
    assert (record.revision, record.finished_at) == (2, None)
    world.settle()
    agent.offer()
    world.settle()
    assert world.study().counts["running"] == 2
    told = [note.number for note in world.notes if isinstance(note, TrialTold)]
    assert told == [0, 1, 2]  # the search hears the history again
    # and the rungs are back: 0.05 is worse than all that reached rung 1 before
    agent.report(agent.assigned[-1], 1, {"acc": 0.05})
    world.turn()
    assert world.trial(agent.assigned[-1].trial).stop == "prune"


def test_a_budget_that_is_cut_takes_back_what_never_ran() -> None:
    world, agent = running_world(budget={"trials": 8})
    assert world.study().counts == {"running": 1, "waiting": 7}
    world.submit(budget={"trials": 3})
    assert world.study().counts == {"running": 1, "waiting": 2, "cancelled": 5}
    assert world.trial(7).reason == "the budget was cut"
    agent.finish(agent.assigned[0], values={"acc": 0.5})
    for number in (1, 2):
        agent.offer()
        assert agent.assigned[-1].trial == number
        agent.finish(agent.assigned[-1], values={"acc": 0.5})
    assert world.study().state is StudyState.DONE


def test_the_same_budget_lets_a_finished_study_rest() -> None:
    world, _ = finished_world()
    reply = world.submit()
    assert (reply.resumed, reply.state) == (False, "done")


def test_an_edit_of_a_running_study_holds_from_the_next_lease_on() -> None:
    world, agent = running_world()
    world.submit(limits={"time": "2h"})
    agent.finish(agent.assigned[0], values={"acc": 1.0})
    agent.offer()
    assert [assign.job.time_limit_s for assign in agent.assigned] == [None, 7200.0]


def test_a_budget_that_is_cut_holds_for_suggestions_on_their_way() -> None:
    world = World()
    world.submit(budget={"trials": 8})
    asks, world.asks = world.asks, []
    assert len(asks) > 2
    world.submit(budget={"trials": 2})
    world.asks = asks
    world.settle()
    assert sorted(number for _, number in world.records.trials) == [0, 1]
    world.submit(budget={"trials": 7})
    world.settle()
    assert sorted(number for _, number in world.records.trials) == list(range(7))


def test_pause_gives_the_slots_back_and_resume_goes_on() -> None:
    world, agent = running_world()
    study = world.study().id
    reply = world.request(PauseStudy(study))
    assert reply.state == "paused"
    assert world.study().reason == "paused on request"
    (revoke,) = agent.told(Revoke)
    assert (revoke.token, revoke.outcome) == (agent.assigned[0].token, OUT.PREEMPTED)
    agent.finish(agent.assigned[0], OUT.PREEMPTED)
    agent.offer()
    assert len(agent.assigned) == 1
    assert world.trial(0).state is TrialState.WAITING
    assert world.request(PauseStudy(study)).state == "paused"  # it is so already
    assert world.request(ResumeStudy(study)).resumed
    world.settle()
    assert (agent.assigned[-1].trial, agent.assigned[-1].attempt) == (0, 2)
    assert not world.request(ResumeStudy(study)).resumed


def test_suggestions_on_their_way_reach_a_paused_study() -> None:
    world = World()
    reply = world.submit()
    world.request(PauseStudy(reply.study))
    world.settle()
    assert world.study().counts == {"waiting": 3}


def test_a_study_that_paused_itself_is_not_looked_at_again_after_resume() -> None:
    world = World()
    world.submit(budget={"trials": 6})
    agent = world.agent()
    agent.join()
    for _ in range(3):
        world.settle()
        agent.finish(agent.assigned[-1], OUT.FAILED, message="KeyError: 1")
        agent.offer()
    assert world.study().state is StudyState.PAUSED
    assert world.submit(budget={"trials": 6}).resumed
    assert (world.study().reason, world.study().failure) == ("", "")
    for _ in range(3):
        world.settle()
        agent.finish(agent.assigned[-1], OUT.FAILED, message="KeyError: 1")
        agent.offer()
    world.settle()
    assert world.study().state is StudyState.DONE
    assert world.study().counts["failed"] == 6


def test_cancel_ends_what_waits_and_asks_what_runs_to_stop() -> None:
    world, agent = running_world()
    study = world.study().id
    reply = world.request(CancelStudy(study, "enough"))
    assert reply.state == "cancelled"
    record = world.study()
    assert record.counts == {"running": 1, "waiting": 0, "cancelled": 2}
    assert (record.reason, record.finished_at) == ("enough", None)
    assert [revoke.outcome for revoke in agent.told(Revoke)] == [OUT.CANCELLED]
    agent.finish(agent.assigned[0], OUT.CANCELLED)
    assert world.study().finished_at == world.now_s
    assert StudyClosed(study) in world.notes
    assert world.request(CancelStudy(study)).error == ""


def test_a_trial_of_a_cancelled_study_is_not_tried_again() -> None:
    world, agent = running_world(retry={"max_attempts": 3})
    world.request(CancelStudy(world.study().id))
    agent.finish(agent.assigned[0], OUT.FAILED, message="KeyError: 1")
    assert world.trial(0).state is TrialState.CANCELLED
    assert world.trial(0).attempts[0].outcome is OUT.FAILED


def test_cancel_before_the_suggestions_came() -> None:
    world = World()
    reply = world.submit()
    world.request(CancelStudy(reply.study))
    world.settle()
    assert world.study().state is StudyState.CANCELLED
    assert world.study().finished_at is not None


@pytest.mark.parametrize("request_type", [PauseStudy, ResumeStudy, CancelStudy])
def test_an_unknown_study_is_named(request_type: Any) -> None:
    assert World().request(request_type("nope")).error == "there is no study with the id 'nope'"


def test_what_has_ended_cannot_be_paused_cancelled_or_resumed() -> None:
    world, _ = finished_world()
    study = world.study().id
    assert "nothing to pause" in world.request(PauseStudy(study)).error
    assert "nothing to cancel" in world.request(CancelStudy(study)).error
    assert world.request(ResumeStudy(study)).error == ""  # done is done
    other = world.submit(name="other")
    world.request(CancelStudy(other.study))
    world.settle()
    assert "cannot be resumed" in world.request(ResumeStudy(other.study)).error
    assert "--new" in world.submit(name="other").error
    assert "nothing to pause" in world.request(PauseStudy(other.study)).error


def test_a_drained_study_whose_trial_comes_back_runs_again() -> None:
    world, agent = running_world(slots=3)
    assert world.study().state is StudyState.DRAINING
    agent.finish(agent.assigned[0], OUT.LOST)
    assert world.study().state is StudyState.RUNNING
    agent.offer(slots=1)
    assert world.study().state is StudyState.DRAINING
    for assign in agent.assigned[1:]:
        agent.finish(assign, values={"acc": 1.0})
    assert world.study().state is StudyState.DONE


def test_a_paused_study_whose_last_trial_ended_is_done() -> None:
    world, agent = running_world(slots=3)
    world.request(PauseStudy(world.study().id))
    for assign in agent.assigned:
        assert world.study().state is StudyState.PAUSED
        agent.finish(assign, values={"acc": 1.0})  # they reached their ends first
    assert world.study().state is StudyState.DONE


def test_the_search_hears_of_every_study() -> None:
    world, _ = finished_world()
    study = world.study().id
    kinds = [type(note) for note in world.notes]
    assert kinds[0] is StudyOpened
    assert StudyClosed(study) in world.notes
