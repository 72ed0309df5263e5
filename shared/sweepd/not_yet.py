"""Words of study files that are known, but not available yet: refused by name, never ignored.

A key is the place of a word (`*`: any name); after `=` stands a value of the word. Each sentence
completes "... is known, but not available yet; ".
"""

from __future__ import annotations

from collections.abc import Mapping

_TRIALS_ONLY = "remove it; trials is what bounds a study"
_SAMPLERS = "write tpe or random"
_SCHEDULERS = "write asha or none"
_EXECUTORS = "write local or process, and start an agent on each machine that shall run jobs"

NOT_YET: Mapping[str, str] = {
    "constraints": "remove it, and let the job raise optuna.TrialPruned where a limit is broken",
    "early_stopping": "remove it; scheduler: {type: asha, max: ...} stops trials early",
    "checkpoints": "remove it; a job may keep files of its own wherever it likes",
    "replicates": "remove it, and let the job average over its own repetitions",
    "duplicates": "remove it; parameters that come up twice are run twice",
    "require": "remove it, and let the job raise optuna.TrialPruned for what is not feasible",
    "warm_start": "remove it",
    "on_limit": "remove it; an attempt that exceeds limits.time fails",
    "max_concurrent": "remove it; the slots of the agents bound what runs at once",
    "priority": "remove it; studies share the agents fairly",
    "cache": "remove it",
    "hyperparameter_optimization": "write the words name, task, objectives, space and budget",
    "on_disconnect=stop": "write continue",
    "task.metrics": "remove it, and let the program call sweepd.report",
    "space.*.length": "write one parameter for each item of the list",
    "space.*.when": "remove it, and let the job ignore the parameter where it means nothing",
    "sampler.type=grid": _SAMPLERS,
    "sampler.type=stratified_grid": _SAMPLERS,
    "sampler.type=qmc": _SAMPLERS,
    "sampler.type=sobol": _SAMPLERS,
    "sampler.type=halton": _SAMPLERS,
    "sampler.type=gp": _SAMPLERS,
    "sampler.type=evolution": _SAMPLERS,
    "sampler.type=cmaes": _SAMPLERS,
    "sampler.type=nsga2": _SAMPLERS,
    "sampler.type=bohb": _SAMPLERS,
    "sampler.type=auto": _SAMPLERS,
    "sampler.type=python": _SAMPLERS,
    "scheduler.type=sha": _SCHEDULERS,
    "scheduler.type=hyperband": _SCHEDULERS,
    "scheduler.type=median": _SCHEDULERS,
    "scheduler.type=percentile": _SCHEDULERS,
    "scheduler.type=threshold": _SCHEDULERS,
    "scheduler.type=patience": _SCHEDULERS,
    "scheduler.type=pasha": _SCHEDULERS,
    "scheduler.type=fidelity_levels": _SCHEDULERS,
    "scheduler.type=pbt": _SCHEDULERS,
    "scheduler.brackets": "remove it; asha has one bracket",
    "budget.time": _TRIALS_ONLY,
    "budget.gpu_hours": _TRIALS_ONLY,
    "budget.cost": _TRIALS_ONLY,
    "budget.energy": _TRIALS_ONLY,
    "budget.target": _TRIALS_ONLY,
    "limits.memory": "remove it; resources.memory reserves memory, but does not bound it",
    "limits.gpu_memory": "remove it; resources.gpu_memory asks for devices of at least that size",
    "executor.type=slurm": _EXECUTORS,
    "executor.type=docker": _EXECUTORS,
    "executor.type=skypilot": _EXECUTORS,
    "executor.type=kubernetes": _EXECUTORS,
    "executor.type=dgxcloud": _EXECUTORS,
    "executor.type=lepton": _EXECUTORS,
}


def words_of(section: str) -> dict[str, str]:
    """Return the sentences of the words of *section*; the whole file is the empty section."""
    found: dict[str, str] = {}
    for place, sentence in NOT_YET.items():
        home, _, word = place.rpartition(".")
        if home == section and "=" not in place:
            found[word] = sentence
    return found


def values_of(place: str) -> dict[str, str]:
    """Return the sentences of the values of the word at *place*."""
    start = f"{place}="
    return {key[len(start) :]: sentence for key, sentence in NOT_YET.items() if key.startswith(start)}
