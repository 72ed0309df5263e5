"""The storage that samplers see."""

from __future__ import annotations

from collections.abc import Callable

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from sweepd_coordinator.search.mirror import STUDY_ID, STUDY_NAME, Mirror


def trial(number: int, state: TrialState, value: float | None = None) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=state,
        value=value,
        datetime_start=None,
        datetime_complete=None,
        params={"x": 0.5},
        distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=number,
    )


@pytest.fixture
def mirror() -> Mirror:
    trials = [
        trial(2, TrialState.COMPLETE, 3.0),
        trial(5, TrialState.PRUNED, 4.0),
        trial(8, TrialState.RUNNING),
    ]
    return Mirror(False, trials, asking=trial(9, TrialState.RUNNING))


def test_a_study_reads_it(mirror: Mirror) -> None:
    study = optuna.load_study(study_name=STUDY_NAME, storage=mirror)
    assert study.direction is StudyDirection.MINIMIZE
    assert [t.number for t in study.trials] == [2, 5, 8]
    assert [t.number for t in study.get_trials(states=[TrialState.PRUNED])] == [5]
    assert study.best_trial.number == 2
    assert study.user_attrs == {}
    assert [s.study_name for s in optuna.get_all_study_summaries(mirror)] == [STUDY_NAME]


def test_the_id_of_a_trial_is_its_number_also_where_trials_are_left_out(mirror: Mirror) -> None:
    assert mirror.get_trial_id_from_study_id_trial_number(STUDY_ID, 5) == 5
    assert mirror.get_trial(5).number == mirror.get_trial_number_from_id(5) == 5
    assert mirror.get_trial(9).state is TrialState.RUNNING
    with pytest.raises(KeyError, match="trial 4 is not shown"):
        mirror.get_trial(4)


def test_a_copy_is_a_copy(mirror: Mirror) -> None:
    mirror.get_all_trials(STUDY_ID)[0].params["x"] = 9.0
    mirror.get_all_trials(STUDY_ID, deepcopy=False).clear()
    assert mirror.get_all_trials(STUDY_ID, deepcopy=False)[0].params == {"x": 0.5}


def test_a_sampler_may_leave_a_note_on_the_trial_it_suggests(mirror: Mirror) -> None:
    mirror.set_trial_system_attr(9, "tpe:relative_params:0", '{"x": 1.0}')
    assert mirror.get_trial_system_attrs(9) == {"tpe:relative_params:0": '{"x": 1.0}'}
    with pytest.raises(RuntimeError, match="trial 5, which is not the one being suggested"):
        mirror.set_trial_system_attr(5, "a", 1)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.create_new_study([StudyDirection.MINIMIZE]),
        lambda m: m.delete_study(STUDY_ID),
        lambda m: m.set_study_user_attr(STUDY_ID, "a", 1),
        lambda m: m.set_study_system_attr(STUDY_ID, "a", 1),
        lambda m: m.create_new_trial(STUDY_ID),
        lambda m: m.set_trial_param(9, "x", 0.5, optuna.distributions.FloatDistribution(0, 1)),
        lambda m: m.set_trial_state_values(9, TrialState.COMPLETE, [1.0]),
        lambda m: m.set_trial_intermediate_value(9, 1, 0.5),
        lambda m: m.set_trial_user_attr(9, "a", 1),
    ],
)
def test_nothing_else_may_change(mirror: Mirror, change: Callable[[Mirror], object]) -> None:
    with pytest.raises(RuntimeError, match="a sampler may not change what it is shown"):
        change(mirror)
