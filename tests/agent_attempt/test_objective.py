"""An Optuna objective as a job: the trial is Optuna's own, the rest is ours."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import optuna
import pytest
from agent_attempt.attempts import (
    Agent,
    Attempts,
    Message,
    end_of,
    output,
    reports_of,
    result_of,
    run,
    supervise,
    wait_for_output,
)
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from waiting import wait_until

from sweepd.job import attempt
from sweepd.job import objective as runner
from sweepd.job.objective import values_of
from sweepd.job.parameters import fit, to_spec
from sweepd.job.result import BadConfig, Diverged
from sweepd.job.session import JobSession

PARAMS = {"lr": 0.01, "layers": 3, "activation": "relu"}
SUGGEST = """
    lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
    layers = trial.suggest_int("layers", 1, 5)
    activation = trial.suggest_categorical("activation", ["relu", "tanh"])
"""


Here = Callable[[str], Message]


def objective(
    attempts: Attempts, body: str, params: Message | None = None, head: str = "", **settings: Any
) -> Message:
    """Run `def objective(trial): body` as a job; return its end with its result and its output."""
    attempts.program("train.py", f"import math, optuna\n{head}\ndef objective(trial):\n{body}")
    directory = attempts.make("objective", "train.py:objective", params or {}, **settings)
    end = run(directory)
    return {**end, **result_of(directory), "output": output(directory), "directory": directory}


@pytest.fixture
def here(attempts: Attempts, monkeypatch: pytest.MonkeyPatch) -> Iterator[Here]:
    """As `objective`, in this process and so without a supervisor: the target, the result."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def here(target: str) -> Message:
        directory = attempts.make("objective", target)
        monkeypatch.setenv("SWEEPD_ATTEMPT", str(directory / "attempt.json"))
        found = attempt.load()
        assert found is not None
        return runner.run(JobSession(found))

    yield here
    for name in set(sys.modules) - before:
        del sys.modules[name]


# --- the trial ---------------------------------------------------------------------------------------


def test_the_trial_is_optunas_own(attempts: Attempts) -> None:
    """All that an unmodified objective may call on it."""
    body = f"""{SUGGEST}
    import datetime
    assert type(trial) is optuna.Trial, type(trial)
    assert isinstance(trial.study, optuna.Study)
    assert trial.study.study_name == "digits"
    assert trial.study.direction.name == "MINIMIZE"
    assert (lr, layers, activation) == (0.01, 3, "relu")
    # The same name is the same value, however often it is asked for.
    assert trial.suggest_int("layers", 1, 5) == 3
    assert trial.params == {PARAMS}
    assert trial.distributions["layers"] == optuna.distributions.IntDistribution(1, 5)
    assert trial.number == 7
    assert isinstance(trial.datetime_start, datetime.datetime)
    assert trial.relative_params == {{}}
    trial.set_user_attr("model", "mlp")
    trial.set_user_attr("shape", (1, 2))
    assert trial.user_attrs["model"] == "mlp"
    trial.report(0.5, 0)
    trial.report(0.4, 1)
    assert not trial.should_prune()
    assert [one.number for one in trial.study.trials] == [7]
    assert trial.study.get_trials(states=[optuna.trial.TrialState.COMPLETE]) == []
    trial.study.set_user_attr("a", 1)
    assert trial.study.user_attrs == {{"a": 1}}
    return lr * layers
"""
    end = objective(attempts, body, PARAMS)
    assert end["code"] == 0, end["output"]
    assert end["values"] == {"loss": pytest.approx(0.03)}
    assert end["attributes"] == {"model": "mlp", "shape": [1, 2]}
    reports = [(report["step"], report["metrics"]) for report in reports_of(end["directory"])]
    assert reports == [(0, {"loss": 0.5}), (1, {"loss": 0.4})]


def test_an_objective_may_have_a_study_of_its_own(attempts: Attempts) -> None:
    body = """
    inner = optuna.create_study()
    inner.optimize(lambda t: t.suggest_float("x", 0, 1), n_trials=3)
    return float(len(inner.trials))
"""
    assert objective(attempts, body)["values"] == {"loss": 3.0}


@pytest.mark.parametrize(
    "call",
    [
        "trial.study.tell(trial, 1.0)",
        "trial.study.enqueue_trial({'x': 1})",
        "trial.study.optimize(lambda t: 1.0, n_trials=1)",
        "optuna.create_study(storage=trial.storage)",
    ],
)
def test_the_study_of_the_trial_is_run_by_sweepd(attempts: Attempts, here: Here, call: str) -> None:
    attempts.program("train.py", f"import optuna\ndef objective(trial): {call}\n")
    end = here("train.py:objective")
    assert end["class"] == "crashed"
    assert "for a study of its own it calls optuna.create_study()" in end["error"]


def test_attributes_that_are_no_json_are_left_out_and_said(attempts: Attempts) -> None:
    body = """
    import numpy
    trial.set_user_attr("object", object())
    trial.set_user_attr("nan", math.nan)
    trial.set_user_attr("numpy", numpy.float64(0.5))
    return 1.0
"""
    end = objective(attempts, body)
    assert end["attributes"] == {"numpy": 0.5}
    assert "the user attribute 'object' is no JSON and is not recorded" in end["output"]


# --- pruning -------------------------------------------------------------------------------------------

UNTIL_PRUNED = """
import optuna, time
def objective(trial):
    print("ready", flush=True)
    while not trial.should_prune():
        time.sleep(0.001)
    raise optuna.TrialPruned
"""


@pytest.mark.parametrize(("word", "seen"), [("stop", True), ("pause", False)])
def test_a_verdict_is_what_should_prune_says(attempts: Attempts, agent: Agent, word: str, seen: bool) -> None:
    attempts.program("train.py", UNTIL_PRUNED)
    directory = attempts.make("objective", "train.py:objective")
    with supervise(directory):
        wait_for_output(directory, "ready")
        agent.next("job").send({"type": "verdict", "verdict": word, "reports": 1, "reason": ""})
    assert end_of(directory)["code"] == 0
    assert result_of(directory) == {"pruned": True, "attributes": {}}
    assert (directory / "stop_seen").exists() is seen


def test_an_objective_may_prune_itself(attempts: Attempts) -> None:
    end = objective(attempts, "    trial.set_user_attr('a', 1)\n    raise optuna.TrialPruned()\n")
    assert (end["code"], end["pruned"], end["attributes"]) == (0, True, {"a": 1})


# --- parameters that the space does not declare ----------------------------------------------------------


def test_an_undeclared_parameter_is_asked_for(attempts: Attempts, agent: Agent) -> None:
    asked: list[Message] = []
    values = {"dropout": 0.25, "units": 64, "optimizer": "sgd"}

    def answer(message: Message) -> Message:
        asked.append(message)
        return {"value": values[message["name"]]}

    agent.answer = answer
    body = """
    assert trial.suggest_float("dropout", 0, 0.5) == 0.25
    assert trial.suggest_int("units", 32, 512, step=32) == 64
    assert trial.suggest_categorical("optimizer", ["adam", "sgd", None, (1, 2)]) == "sgd"
    assert trial.suggest_float("dropout", 0, 0.5) == 0.25
    assert trial.suggest_float("fixed", 2, 2) == 2
    return 1.0
"""
    assert objective(attempts, body)["code"] == 0
    assert [(message["name"], message["distribution"]) for message in asked] == [
        ("dropout", {"type": "float", "low": 0, "high": 0.5, "log": False, "step": None}),
        ("units", {"type": "int", "low": 32, "high": 512, "log": False, "step": 32}),
        ("optimizer", {"type": "categorical", "choices": ["adam", "sgd", None, [1, 2]]}),
    ]


def test_a_question_outlives_the_agent_that_heard_it(attempts: Attempts, agent: Agent) -> None:
    attempts.program("train.py", "def objective(trial): return trial.suggest_float('x', 0, 1)")
    directory = attempts.make("objective", "train.py:objective")
    heard: list[Message] = []
    agent.answer = lambda message: heard.append(message)
    with supervise(directory):
        wait_until(lambda: heard, 30)
        agent.go_away()
        agent.lines.clear()
        agent.answer = lambda _: {"value": 0.5}
        agent.listen()
    assert end_of(directory)["code"] == 0
    assert result_of(directory)["values"] == {"loss": 0.5}


def test_a_parameter_that_cannot_be_suggested_says_why(attempts: Attempts, agent: Agent) -> None:
    agent.answer = lambda _: {"error": "the study's sampler is grid"}
    end = objective(attempts, "    return trial.suggest_float('x', 0, 1)\n")
    assert "no value for the parameter 'x': the study's sampler is grid" in end["error"]
    assert "return trial.suggest_float('x', 0, 1)" in end["error"]
    assert "site-packages" not in end["error"]


# --- where the study and the code differ -----------------------------------------------------------------

FITS: dict[str, tuple[Any, Any, Any]] = {
    "a float": (0.5, FloatDistribution(0, 1), 0.5),
    "a float on its bound": (1e-2, FloatDistribution(1e-5, 1e-2, log=True), 1e-2),
    "an int for a float": (1, FloatDistribution(0, 1), 1.0),
    "an int": (3, IntDistribution(1, 5), 3),
    "a whole float for an int": (3.0, IntDistribution(1, 5), 3),
    "a narrower space": (0.5, FloatDistribution(-10, 10), 0.5),
    "text": ("b", CategoricalDistribution(["a", "b"]), "b"),
    "the int of three ones": (1, CategoricalDistribution([True, 1.0, 1]), 1),
    "the float of three ones": (1.0, CategoricalDistribution([True, 1, 1.0]), 1.0),
    "the truth of three ones": (True, CategoricalDistribution([1, 1.0, True]), True),
    "an int where the code has a float": (1, CategoricalDistribution([0.5, 1.0]), 1.0),
    "nothing": (None, CategoricalDistribution(["a", None]), None),
}


@pytest.mark.parametrize(("value", "distribution", "fitted"), FITS.values(), ids=FITS)
def test_a_value_fits_the_call(value: Any, distribution: Any, fitted: Any) -> None:
    found = fit("x", value, distribution)
    assert (type(found), found) == (type(fitted), fitted)


def test_a_choice_is_the_callers_own_object() -> None:
    tuples: Any = [(1, 2), (3, 4)]
    with pytest.warns(UserWarning, match="persistent"):
        choices = CategoricalDistribution(tuples)
    assert fit("x", [3, 4], choices) is choices.choices[1]


MISFITS: dict[str, tuple[Any, Any, str]] = {
    "too large": (2.0, FloatDistribution(0, 1), "a float from 0.0 to 1.0"),
    "too small": (0, IntDistribution(1, 5), "an int from 1 to 5"),
    "between": (2.5, IntDistribution(1, 5), "an int from 1 to 5"),
    "text for a number": ("1", FloatDistribution(0, 1), "a float from 0.0 to 1.0"),
    "truth for a number": (True, IntDistribution(0, 1), "an int from 0 to 1"),
    "another choice": ("c", CategoricalDistribution(["a", "b"]), r"one of \['a', 'b'\]"),
    "truth for the number one": (True, CategoricalDistribution([1, 2]), r"one of \[1, 2\]"),
}


@pytest.mark.parametrize(("value", "distribution", "asked"), MISFITS.values(), ids=MISFITS)
def test_a_value_that_the_call_does_not_allow_is_an_error(value: Any, distribution: Any, asked: str) -> None:
    with pytest.raises(BadConfig, match=f"'x' is .* but the objective asks for {asked}: make space.x and"):
        fit("x", value, distribution)


def test_the_study_and_the_code_must_agree_also_on_a_single_value(attempts: Attempts) -> None:
    end = objective(attempts, "    return trial.suggest_float('lr', 0.5, 0.5)\n", PARAMS)
    assert end["class"] == "bad_config"
    assert "the parameter 'lr' is 0.01 by the study's space" in end["error"]


def test_choices_that_are_no_json_must_get_names() -> None:
    types: Any = [int, float]
    with pytest.warns(UserWarning, match="persistent"):
        distribution = CategoricalDistribution(types)
    with pytest.raises(BadConfig, match="the choices of the parameter 'x' must be JSON: give them names"):
        to_spec("x", distribution)


def test_a_distribution_of_another_kind_is_named() -> None:
    class Strange(optuna.distributions.BaseDistribution):
        def to_internal_repr(self, param_value_in_external_repr: Any) -> float:
            return 0.0

        def single(self) -> bool:
            return False

        def _contains(self, param_value_in_internal_repr: float) -> bool:
            return True

    with pytest.raises(BadConfig, match="a distribution that sweepd does not know"):
        to_spec("x", Strange())


# --- what it returns -----------------------------------------------------------------------------------

RETURNED: dict[str, tuple[Any, list[str], Message]] = {
    "a number": (0.5, ["a"], {"a": 0.5}),
    "an int": (1, ["a"], {"a": 1.0}),
    "a number of numpy": (numpy.float32(0.5), ["a"], {"a": 0.5}),
    "an array of one": (numpy.array(0.5), ["a"], {"a": 0.5}),
    "infinity": (math.inf, ["a"], {"a": "inf"}),
    "a tuple": ((1, 2), ["a", "b"], {"a": 1.0, "b": 2.0}),
    "a list of one": ([1], ["a"], {"a": 1.0}),
    "a dict": ({"b": 2, "a": 1}, ["a", "b"], {"a": 1.0, "b": 2.0}),
    "a dict with more": ({"a": 1, "latency": 5}, ["a"], {"a": 1.0, "latency": 5.0}),
}


@pytest.mark.parametrize(("returned", "metrics", "values"), RETURNED.values(), ids=RETURNED)
def test_what_an_objective_returns_is_named(returned: Any, metrics: list[str], values: Message) -> None:
    assert values_of(returned, metrics) == values


WRONG: dict[str, tuple[Any, list[str], str]] = {
    "nothing": (None, ["a", "b"], "the objective returned None: return a, b"),
    "text": ("0.5", ["a"], "what the objective returned for 'a' must be a number, not '0.5'"),
    "nothing in a dict": (
        {"a": None},
        ["a"],
        "what the objective returned for 'a' must be a number, not None",
    ),
    "too few": ((1,), ["a", "b"], "the objective returned 1 values, and the study has 2: a, b"),
    "one of two": (1.0, ["a", "b"], "the objective returned 1 values, and the study has 2: a, b"),
    "too many": ((1, 2), ["a"], "the objective returned 2 values, and the study has 1: a"),
    "another name": ({"los": 1}, ["loss"], "returned a dict without 'loss'; did you mean 'los'"),
}


@pytest.mark.parametrize(("returned", "metrics", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_no_value_is_an_error(returned: Any, metrics: list[str], problem: str) -> None:
    with pytest.raises(BadConfig, match=problem):
        values_of(returned, metrics)


def test_not_a_number_is_a_divergence() -> None:
    with pytest.raises(Diverged, match="the objective returned NaN for a"):
        values_of((math.nan, 1), ["a", "b"])
    assert values_of({"a": 1, "other": math.nan}, ["a"]) == {"a": 1.0, "other": "nan"}


def test_several_objectives_have_directions(attempts: Attempts) -> None:
    end = objective(
        attempts,
        "    assert [d.name for d in trial.study.directions] == ['MAXIMIZE', 'MINIMIZE']\n    return 1, 2\n",
        objectives=[["accuracy", "maximize"], ["latency", "minimize"]],
    )
    assert end["values"] == {"accuracy": 1.0, "latency": 2.0}


# --- how it fails ----------------------------------------------------------------------------------------


def test_an_error_shows_the_authors_frames_and_not_ours(attempts: Attempts) -> None:
    end = objective(
        attempts,
        "    try:\n        helper()\n    except KeyError as e:\n        raise ValueError('no') from e\n",
        head="def helper(): {}['a']",
    )
    assert (end["code"], end["class"]) == (1, "crashed")
    lines = end["error"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1] == "ValueError: no"
    assert "in helper" in end["error"]
    assert "KeyError: 'a'" in end["error"]
    assert "sweepd" not in end["error"].replace(str(attempts.workdir), "")
    assert end["error"] in end["output"]


FAILURES: dict[str, tuple[str, str, str]] = {
    "a number that is none": ("return math.nan", "diverged", "the objective returned NaN for loss"),
    "nothing": ("pass", "bad_config", "the objective returned None: return loss"),
    "an exit": ("import sys; sys.exit(3)", "crashed", "the objective called sys.exit(3)"),
    "no memory": ("raise MemoryError", "oom", "MemoryError"),
    "no memory on the device": (
        "raise RuntimeError('CUDA out of memory. Tried to allocate')",
        "gpu_oom",
        "CUDA out of memory",
    ),
    "a report that is none": ("import sweepd; sweepd.report({})", "crashed", "at least one metric"),
}


@pytest.mark.parametrize(("body", "failure", "text"), FAILURES.values(), ids=FAILURES)
def test_a_failure_has_a_class(attempts: Attempts, here: Here, body: str, failure: str, text: str) -> None:
    attempts.program("train.py", f"import math\ndef objective(trial):\n    {body}\n")
    end = here("train.py:objective")
    assert end["class"] == failure
    assert text in end["error"]


TARGETS: dict[str, tuple[str, str, str]] = {
    "no function": ("train.py", "bad_config", "write FILE.py:FUNCTION or MODULE:FUNCTION"),
    "no file": ("gone.py:objective", "bad_config", "there is no file"),
    "no module": ("gone.away:objective", "bad_config", "there is no module 'gone.away'"),
    "a typo": ("train.py:objektive", "bad_config", "train.py has no 'objektive'; did you mean 'objective'?"),
    "no callable": ("train.py:CONSTANT", "bad_config", "train.py:CONSTANT is a int and not a function"),
    "a name that is taken": ("json.py:objective", "bad_config", "rename the file"),
    "broken code": ("broken.py:objective", "crashed", "SyntaxError"),
    "an import that fails": ("needy:objective", "crashed", "No module named 'no_such_package'"),
}


@pytest.mark.parametrize(("target", "failure", "text"), TARGETS.values(), ids=TARGETS)
def test_what_cannot_be_found_is_said(
    attempts: Attempts, here: Here, target: str, failure: str, text: str
) -> None:
    attempts.program("train.py", "CONSTANT = 1\ndef objective(trial): return 1.0\n")
    attempts.program("json.py", "")
    attempts.program("broken.py", "def objective(trial:\n")
    attempts.program("needy.py", "import no_such_package\n")
    end = here(target)
    assert end["class"] == failure, end
    assert text in end["error"]


def test_a_module_and_a_file_elsewhere_are_found(attempts: Attempts, here: Here) -> None:
    package = attempts.workdir / "package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("VALUE = 2.0\n")
    (package / "train.py").write_text(
        "class Study:\n    @staticmethod\n    def objective(trial):\n"
        "        from package.helper import VALUE\n        return VALUE\n"
    )
    (package / "plain.py").write_text("def objective(trial):\n    import helper\n    return helper.VALUE\n")
    for target in ("package.train:Study.objective", "package/plain.py:objective"):
        assert here(target).get("values") == {"loss": 2.0}


def test_workers_of_an_objective_find_its_functions(attempts: Attempts) -> None:
    """Spawned processes import what was pickled by name."""
    end = objective(
        attempts,
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        return pool.map(double, [2.0])[0]\n",
        head="import multiprocessing\ndef double(x): return 2 * x\n",
    )
    assert end["code"] == 0, end["output"]
    assert end["values"] == {"loss": 4.0}


def test_an_interpreter_without_optuna_is_told_what_to_do(attempts: Attempts) -> None:
    attempts.program("train.py", "def objective(trial): return 1.0\n")
    directory = attempts.make("objective", "train.py:objective")
    program = (
        "import sys\nsys.modules['optuna'] = None\n"
        "from sweepd.job import objective\nsys.exit(objective.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"SWEEPD_ATTEMPT": str(directory / "attempt.json")},
        cwd=attempts.workdir,
        capture_output=True,
    )
    assert done.returncode == 1
    result = json.loads((directory / "result.json").read_text())
    assert result["class"] == "bad_config"
    assert f"run `{sys.executable} -m pip install 'optuna>=4'`, or set task.python" in result["error"]


def test_the_runner_runs_in_a_job_only() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sweepd.job.objective"], capture_output=True, text=True, env={}
    )
    assert done.returncode == 1
    assert "runs inside a job of sweepd only: SWEEPD_ATTEMPT is not set" in done.stderr
