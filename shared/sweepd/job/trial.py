"""A real `optuna.Trial` for an attempt: Optuna on the user's side, sweepd on the other.

Optuna asks three things of its surroundings: a storage to keep the trial in, a sampler for
values, a pruner for verdicts. Ours keep the one trial of this process, take values from the
attempt (or ask the coordinator for those that the study's space does not declare), and pass
reports and verdicts on. Public interfaces of Optuna >= 4 only: the job's interpreter has its own.
"""

from __future__ import annotations

import copy
import datetime
import json
from collections.abc import Container, Mapping, Sequence
from typing import Any, NoReturn

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from sweepd.job.parameters import fit, to_json, to_spec
from sweepd.job.session import JobSession

STUDY_ID = 0
_DIRECTIONS = {"minimize": StudyDirection.MINIMIZE, "maximize": StudyDirection.MAXIMIZE}


def open_trial(session: JobSession) -> Trial:
    """Return the trial of this attempt; its `study` knows this trial only."""
    study = optuna.load_study(
        study_name=session.attempt.study_name,
        storage=JobStorage(session),
        sampler=JobSampler(session),
        pruner=JobPruner(session),
    )
    return study.ask()


class JobSampler(optuna.samplers.BaseSampler):
    """Answers from the attempt's parameters, else through the channel."""

    def __init__(self, session: JobSession) -> None:
        self._session = session

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        params = self._session.attempt.params
        if param_name in params:
            return fit(param_name, params[param_name], param_distribution)
        value = self._session.channel.suggest(param_name, to_spec(param_name, param_distribution))
        return fit(param_name, value, param_distribution)


class JobPruner(optuna.pruners.BasePruner):
    """Says what the scheduler said."""

    def __init__(self, session: JobSession) -> None:
        self._session = session

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self._session.should_stop()


class JobStorage(optuna.storages.BaseStorage):
    """Holds one study with one trial, in memory; reports go to the reports file.

    The trial's id is its number.
    """

    def __init__(self, session: JobSession) -> None:
        self._session = session
        attempt = session.attempt
        self._directions = [_DIRECTIONS[direction] for _, direction in attempt.objectives]
        self._study_user_attrs: dict[str, Any] = {}
        self._study_system_attrs: dict[str, Any] = {}
        self._trial = FrozenTrial(
            number=attempt.trial,
            trial_id=attempt.trial,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.datetime.now(),
            datetime_complete=None,
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )

    # --- the study -----------------------------------------------------------------------------

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        self._refuse()

    def delete_study(self, study_id: int) -> None:
        self._refuse()

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._study_user_attrs[key] = value

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._study_system_attrs[key] = value

    def get_study_id_from_name(self, study_name: str) -> int:
        if study_name != self._session.attempt.study_name:
            raise KeyError(study_name)
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._session.attempt.study_name

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return list(self._directions)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._study_user_attrs)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return dict(self._study_system_attrs)

    def get_all_studies(self) -> list[Any]:
        self._refuse()

    # --- the trial -----------------------------------------------------------------------------

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Return the trial there is: the coordinator has created it."""
        if template_trial is not None:
            self._refuse()
        return self._trial.number

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        value = distribution.to_external_repr(param_value_internal)
        params = self._session.attempt.params
        if param_name in params:
            # Optuna does not ask for a parameter with one possible value; it may still be the wrong one.
            fit(param_name, params[param_name], distribution)
        self._trial.params = {**self._trial.params, param_name: value}
        self._trial.distributions = {**self._trial.distributions, param_name: distribution}

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return trial_number

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Refuse: `study.tell` would end the trial behind the back of the objective's return."""
        self._refuse()

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._session.report(intermediate_value, step)
        self._trial.intermediate_values[step] = intermediate_value

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trial.user_attrs = {**self._trial.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._trial.system_attrs = {**self._trial.system_attrs, key: value}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return copy.deepcopy(self._trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        if states is not None and self._trial.state not in states:
            return []
        return [copy.deepcopy(self._trial) if deepcopy else self._trial]

    def _refuse(self) -> NoReturn:
        raise NotImplementedError(
            "sweepd runs the study of this trial: an objective takes parameters from the trial, reports, and "
            "returns; for a study of its own it calls optuna.create_study()"
        )


def plain_attributes(trial: Trial) -> tuple[dict[str, Any], list[str]]:
    """Return the trial's user attributes as JSON can carry them, and the names of those it cannot."""
    plain: dict[str, Any] = {}
    lost: list[str] = []
    attributes: Mapping[str, Any] = trial.user_attrs
    for name, value in attributes.items():
        text = to_json(value)
        if text is None:
            lost.append(name)
        else:
            plain[name] = json.loads(text)
    return plain, lost
