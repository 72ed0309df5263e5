"""The demo study: one search told in three ways, each of which trains for real."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from msgspec.structs import asdict

import sweepd.examples.digits
from sweepd import study_file
from sweepd.space import Categorical, Float, Int, Parameter
from sweepd.spec import StudySpec
from sweepd_coordinator.search.random import RandomSearch

HERE = Path(sweepd.examples.digits.__path__[0])
FORMS = ("objective", "recipe", "command")
EPOCHS = 27

# The demo's trial 10, drawn by chance before TPE has seen enough: what it finds it finds with every
# number of slots, and nothing in its training is near a rounding error. The promise of 0.97 rests on it.
GOOD: dict[str, Any] = {
    "learning_rate": 0.003613927280748112,
    "alpha": 3.1113707113160904e-05,
    "hidden": 36,
    "layers": 3,
    "batch_size": 64,
    "activation": "tanh",
}


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Return a function that imports a file of the example as a job does, by its bare name."""
    monkeypatch.syspath_prepend(HERE)
    before = set(sys.modules)
    yield importlib.import_module
    for name in ("model", *FORMS):
        if name not in before:
            sys.modules.pop(name, None)


def spec(form: str) -> StudySpec:
    return study_file.load(HERE / f"{form}.yaml")


def accuracies(printed: str) -> list[tuple[int, float]]:
    """Return the step and val_accuracy of each report that a dry run printed."""
    found = re.findall(r"sweepd: step (\d+): .*val_accuracy=([\d.]+)", printed)
    return [(int(step), float(accuracy)) for step, accuracy in found]


def test_three_files_one_search() -> None:
    studies = [asdict(spec(form)) for form in FORMS]
    assert [study.pop("name") for study in studies] == ["digits", "digits-recipe", "digits-command"]
    assert [study.pop("task").kind for study in studies] == ["objective", "nemo", "command"]
    assert studies[0] == studies[1] == studies[2]


@pytest.mark.parametrize("form", FORMS)
def test_the_study_is_the_one_that_is_promised(form: str) -> None:
    study = spec(form)
    assert study.budget.trials == 40
    assert (study.sampler.type, study.sampler.seed) == ("tpe", 42)
    assert (study.scheduler.type, study.scheduler.rungs, study.scheduler.max) == ("asha", (1, 3, 9), EPOCHS)
    assert study.task.env == {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    assert study.task.workdir == str(HERE)
    assert RandomSearch(study.space, 42).suggest(10) == pytest.approx(GOOD)


def test_good_settings_are_good_and_bad_ones_visibly_bad(load: Callable[[str], Any]) -> None:
    network = load("model").Network
    good, bad = network(**GOOD), network(**{**GOOD, "learning_rate": 1e-5})
    curve = [good.train_epoch() for _ in range(EPOCHS)]
    assert curve[-1]["val_accuracy"] >= 0.97
    assert curve[0]["val_loss"] > 3 * curve[-1]["val_loss"]
    assert curve[0]["val_accuracy"] < curve[-1]["val_accuracy"]
    assert [bad.train_epoch()["val_accuracy"] for _ in range(9)][-1] < 0.5


def test_the_same_settings_give_the_same_network(load: Callable[[str], Any]) -> None:
    network = load("model").Network
    one, other = network(**GOOD), network(**GOOD)
    assert [one.train_epoch() for _ in range(2)] == [other.train_epoch() for _ in range(2)]


def distribution(parameter: Parameter) -> optuna.distributions.BaseDistribution:
    match parameter:
        case Categorical():
            return optuna.distributions.CategoricalDistribution(parameter.choices)
        case Int():
            return optuna.distributions.IntDistribution(parameter.low, parameter.high, log=parameter.log)
        case Float():
            return optuna.distributions.FloatDistribution(parameter.low, parameter.high, log=parameter.log)


def test_the_objective_is_an_optuna_objective(load: Callable[[str], Any]) -> None:
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(lower=0.5))
    study.enqueue_trial(GOOD)
    study.enqueue_trial({**GOOD, "learning_rate": 1e-5})
    study.optimize(load("objective").objective, n_trials=2)
    good, bad = study.trials
    assert good.state is optuna.trial.TrialState.COMPLETE
    assert list(good.intermediate_values) == list(range(1, EPOCHS + 1))
    assert good.value == good.intermediate_values[EPOCHS] >= 0.97
    assert bad.state is optuna.trial.TrialState.PRUNED
    assert list(bad.intermediate_values) == [1]
    # What it suggests is what the study file declares: else sweepd would ask the sampler again.
    assert good.distributions == {name: distribution(p) for name, p in spec("objective").space.items()}


@pytest.mark.nemo
def test_the_recipe_returns_a_partial_that_trains(
    load: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    run = pytest.importorskip("nemo_run")
    import fiddle

    target = spec("recipe").task.nemo
    assert target == "recipe.py:digits"
    task = load("recipe").digits()
    assert isinstance(task, run.Partial)
    assert set(spec("recipe").space) <= set(task.__arguments__)
    for name, value in GOOD.items():
        setattr(task, name, value)
    fiddle.build(task)()
    reports = accuracies(capsys.readouterr().out)
    assert [step for step, _ in reports] == list(range(1, EPOCHS + 1))
    assert reports[-1][1] >= 0.97


def test_the_command_trains() -> None:
    study = spec("command")
    assert study.task.command is not None
    python, *arguments = [word.format(**GOOD) for word in study.task.command]
    assert python == "python"
    assert len(arguments) == 1 + len(study.space)
    done = subprocess.run(
        [sys.executable, *arguments], cwd=study.task.workdir, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    reports = accuracies(done.stdout)
    assert [step for step, _ in reports] == list(range(1, EPOCHS + 1))
    assert reports[-1][1] >= 0.97


def test_the_command_says_what_is_wrong_with_an_argument() -> None:
    done = subprocess.run(
        [sys.executable, "train.py", "--activation=sigmoid"],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert "--activation: invalid choice: 'sigmoid'" in done.stderr
