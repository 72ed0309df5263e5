"""The storage that Optuna's samplers see: a list of trials, for one suggestion.

Samplers read it; the only thing they may write is an attribute of the trial that is being
suggested, which lives as long as the suggestion. Everything else is refused, because our
records are the truth.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from copy import deepcopy as deep_copy
from typing import Any, NoReturn

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

STUDY_ID = 0
STUDY_NAME = "mirror"


class Mirror(BaseStorage):
    """`trials` by number, the one that is being suggested (`asking`) among them or beside them.

    The id of a trial is its number. The numbers may have gaps: not every trial is shown.
    """

    def __init__(self, maximize: bool, trials: list[FrozenTrial], asking: FrozenTrial) -> None:
        self._direction = StudyDirection.MAXIMIZE if maximize else StudyDirection.MINIMIZE
        self._trials = trials
        self._asking = asking

    def get_study_id_from_name(self, study_name: str) -> int:
        return STUDY_ID

    def get_study_name_from_id(self, study_id: int) -> str:
        return STUDY_NAME

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return [self._direction]

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return {}

    def get_all_studies(self) -> list[FrozenStudy]:
        return [FrozenStudy(STUDY_NAME, self._direction, {}, {}, STUDY_ID)]

    def get_trial(self, trial_id: int) -> FrozenTrial:
        if trial_id == self._asking.number:
            return self._asking
        for trial in self._trials:
            if trial.number == trial_id:
                return trial
        raise KeyError(f"trial {trial_id} is not shown to the sampler")

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self.get_trial(trial_number).number

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = self._trials if states is None else [t for t in self._trials if t.state in states]
        return deep_copy(trials) if deepcopy else list(trials)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if trial_id != self._asking.number:
            self._refuse("set_trial_system_attr", f"trial {trial_id}, which is not the one being suggested")
        self._asking.system_attrs[key] = value

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        self._refuse("create_new_study")

    def delete_study(self, study_id: int) -> None:
        self._refuse("delete_study")

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._refuse("set_study_user_attr")

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._refuse("set_study_system_attr")

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        self._refuse("create_new_trial")

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._refuse("set_trial_param")

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        self._refuse("set_trial_state_values")

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._refuse("set_trial_intermediate_value")

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._refuse("set_trial_user_attr")

    def _refuse(self, method: str, of: str = "a study") -> NoReturn:
        raise RuntimeError(f"{method} of {of}: a sampler may not change what it is shown")
