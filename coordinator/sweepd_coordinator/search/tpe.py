"""TPE (Bergstra et al., 2011), Optuna's implementation, over the trials that `history.py` shows.

Optuna's multivariate form (Falkner et al., 2018), with the constant liar: pending trials count
as bad ones, so that many questions in a row do not all get one answer. A sampler is built
afresh for each suggestion and seeded with (seed, number): a suggestion is a function of these
and of the finished and pending trials at the cut, and of nothing else.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from sweepd.space import Parameter
from sweepd_coordinator.core.changes import TrialPending, TrialTold
from sweepd_coordinator.search.chance import numpy_seed
from sweepd_coordinator.search.encoding import Encoding, compatible
from sweepd_coordinator.search.history import History
from sweepd_coordinator.search.mirror import STUDY_NAME, Mirror
from sweepd_coordinator.search.random import RandomSearch

STARTUP = 10  #: finished trials before the model is asked; Optuna's default

#: Distributions of one undeclared parameter that are kept in Optuna's form. Jobs mostly ask with one;
#: one that asks with another range each time costs it the translation, and no memory.
KEPT_ENCODINGS = 8

# Optuna prints to stderr with colours of its own; what it has to say belongs in our log. Before
# version 5 it calls the multivariate form and the constant liar experimental; both are standard
# since, and a filter for good is safer here than one around each call, which other threads see.
optuna.logging.disable_default_handler()
optuna.logging.enable_propagation()
logging.getLogger("optuna").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


class TpeSearch:
    """TPE over one study."""

    def __init__(self, space: Mapping[str, Parameter], maximize: bool, seed: int) -> None:
        self._maximize = maximize
        self._seed = seed
        self._encodings = {name: Encoding(parameter) for name, parameter in space.items()}
        #: of parameters that jobs asked for, the latest of each name first
        self._undeclared: dict[str, list[Encoding]] = {}
        self._chance = RandomSearch(space, seed)
        self._history = History(maximize)
        #: trials as Optuna has them, by number, with the note each was made of
        self._seen: dict[int, tuple[TrialPending | TrialTold, FrozenTrial]] = {}

    def pending(self, note: TrialPending) -> None:
        """Take a trial that has parameters and no value yet."""
        self._history.pending(note)

    def told(self, note: TrialTold) -> None:
        """Take the end of a trial."""
        self._history.told(note)

    def suggest(self, number: int) -> dict[str, Any]:
        """Return all parameters of trial *number*, in the order of the space."""
        if len(self._history) < STARTUP:
            return self._chance.suggest(number)
        asked = {name: e.distribution for name, e in self._encodings.items() if e.modelled}
        params = self._chance.suggest(number)
        if asked:
            sampler, study, trial = self._ask(number, self._shown(), numpy_seed(self._seed, number))
            for name, value in sampler.sample_relative(study, trial, asked).items():
                params[name] = self._encodings[name].decode(value)
        return params

    def suggest_one(self, number: int, name: str, distribution: Parameter) -> Any:
        """Return one parameter of trial *number*, from the trials that had it on the same scale."""
        encoding = self._encoding(name, distribution)
        if len(self._history) < STARTUP or not encoding.modelled:
            return self._chance.suggest_one(number, name, distribution)
        trials = self._shown_for(name, encoding)
        sampler, study, trial = self._ask(number, trials, numpy_seed(self._seed, number, name))
        return encoding.decode(sampler.sample_independent(study, trial, name, encoding.distribution))

    def _ask(
        self, number: int, trials: list[FrozenTrial], seed: int
    ) -> tuple[TPESampler, optuna.Study, FrozenTrial]:
        sampler = TPESampler(seed=seed, n_startup_trials=STARTUP, multivariate=True, constant_liar=True)
        trial = _frozen(number, TrialState.RUNNING, {}, {})
        mirror = Mirror(self._maximize, trials, trial)
        return sampler, optuna.load_study(study_name=STUDY_NAME, storage=mirror, sampler=sampler), trial

    def _shown(self) -> list[FrozenTrial]:
        """Return the trials of the history by number, each translated once."""
        seen: dict[int, tuple[TrialPending | TrialTold, FrozenTrial]] = {}
        for note in (*self._history.finished(), *self._history.unfinished()):
            known = self._seen.get(note.number)
            seen[note.number] = known if known and known[0] is note else (note, self._translate(note))
        self._seen = dict(sorted(seen.items()))
        return [trial for _, trial in self._seen.values()]

    def _shown_for(self, name: str, encoding: Encoding) -> list[FrozenTrial]:
        """Return the trials with parameter *name* in the terms of *encoding*, or without it.

        Those whose job asked for it just so, mostly all, are the ones of `_shown` as they are.
        """
        trials = self._shown()
        for index, (note, trial) in enumerate(self._seen.values()):
            distribution = trial.distributions.get(name)
            if distribution is None or distribution is encoding.distribution:
                continue
            old = note.distributions[name] if name in note.distributions else self._encodings[name].parameter
            value = encoding.encode(note.params[name]) if compatible(old, encoding.parameter) else None
            params = {} if value is None else {name: value}
            distributions = dict.fromkeys(params, encoding.distribution)
            reports = trial.intermediate_values
            trials[index] = _frozen(trial.number, trial.state, params, distributions, trial.value, reports)
        return trials

    def _encoding(self, name: str, distribution: Parameter) -> Encoding:
        """Return the encoding of *distribution*, the same object for equal ones as long as they last."""
        known = self._undeclared.setdefault(name, [])
        for encoding in known:
            if encoding.parameter == distribution:
                return encoding
        encoding = Encoding(distribution)
        known.insert(0, encoding)
        del known[KEPT_ENCODINGS:]
        return encoding

    def _translate(self, note: TrialPending | TrialTold) -> FrozenTrial:
        params: dict[str, Any] = {}
        distributions: dict[str, optuna.distributions.BaseDistribution] = {}
        for name, value in note.params.items():
            encoding = self._encodings.get(name)
            if name in note.distributions:
                encoding = self._encoding(name, note.distributions[name])
            encoded = None if encoding is None else encoding.encode(value)
            if encoding is not None and encoded is not None:
                params[name] = encoded
                distributions[name] = encoding.distribution
        if isinstance(note, TrialPending):
            return _frozen(note.number, TrialState.RUNNING, params, distributions)
        if note.state == "complete":
            return _frozen(note.number, TrialState.COMPLETE, params, distributions, note.value)
        reports = {} if note.value is None else {note.step or 0: note.value}
        return _frozen(note.number, TrialState.PRUNED, params, distributions, note.value, reports)


def _frozen(
    number: int,
    state: TrialState,
    params: dict[str, Any],
    distributions: dict[str, optuna.distributions.BaseDistribution],
    value: float | None = None,
    reports: dict[int, float] | None = None,
) -> FrozenTrial:
    return FrozenTrial(
        number=number,
        state=state,
        value=value,
        datetime_start=None,
        datetime_complete=None,
        params=params,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=reports or {},
        trial_id=number,
    )
