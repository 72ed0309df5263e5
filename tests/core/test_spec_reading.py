"""What study files may say, what becomes of it, and what is not available yet."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given

from core.spec_samples import good, specs
from sweepd import spec, strict_yaml
from sweepd.errors import SpecError
from sweepd.not_yet import NOT_YET
from sweepd.space import Categorical, Float, Int
from sweepd.spec import (
    Budget,
    ExecutorSpec,
    Limits,
    Objective,
    ResourceSpec,
    Retry,
    Sampler,
    Scheduler,
    StudySpec,
    Task,
)

EVERYTHING = r"""
name: digits
task:                                    # exactly one of objective, nemo, command
  objective: train.py:objective          # an Optuna objective, unmodified
  # nemo: pkg.recipes:finetune
  # command: [python, train.py, "--lr={learning_rate}", "{args}"]
  args: {}                               # arguments of the recipe factory
  python: .venv/bin/python               # interpreter, working directory and environment of the job
  workdir: .
  env: {}
  metrics: {pattern: 'step=(?P<step>\d+) .*val_loss=(?P<val_loss>\S+)'}
objectives: [{metric: val_accuracy, direction: maximize, at: last}]
constraints: [{metric: latency_ms, max: 20}]
space:
  learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}
  batch_size: {type: categorical, choices: [16, 32, 64]}
  layers: {type: int, low: 1, high: 5}
  hidden: {type: int, low: 32, high: 512, length: layers}
  beta2: {type: float, low: 0.9, high: 0.999, when: {optimizer: [adam, adamw]}}
sampler: {type: tpe, seed: 42}
scheduler: {type: asha, metric: val_accuracy, resource: reports, min: 1, max: 27, eta: 3}
budget: {trials: 100, time: 2h, gpu_hours: 40, cost: 50, energy: 20kWh, target: 0.98}
resources: {gpus: 1, cpus: 4, memory: 16GB, gpu_memory: 24GB, labels: {pool: a100}}
limits: {time: 2h, memory: 32GB, gpu_memory: 24GB}
early_stopping: {monitor: val_loss, mode: min, patience: 10, min_delta: 0.001}
checkpoints: {url: "file:///scratch/ckpt", keep: 2}
replicates: {n: 3, aggregate: mean}
retry: {max_attempts: 3}
executor: {type: local}                  # NeMo Run's; `process` runs without NeMo Run
on_disconnect: continue                  # or stop
duplicates: avoid                        # or reuse, rerun
require: "hidden % heads == 0"
warm_start: {study: other, top: 5}
on_limit: kill
max_concurrent: 4
priority: 1
cache: true
hyperparameter_optimization: {}
"""  #: every word that the design has for a study

EXPECTED = StudySpec(
    name="digits",
    task=Task(objective="train.py:objective", python=".venv/bin/python"),
    objectives=[Objective("val_accuracy", "maximize")],
    space={
        "learning_rate": Float(1e-5, 1e-2, log=True),
        "batch_size": Categorical([16, 32, 64]),
        "layers": Int(1, 5),
        "hidden": Int(32, 512),
        "beta2": Float(0.9, 0.999),
    },
    sampler=Sampler("tpe", 42),
    scheduler=Scheduler("asha", metric="val_accuracy", max=27),
    budget=Budget(100),
    resources=ResourceSpec(gpus=1, cpus=4, memory="16GB", gpu_memory="24GB", labels={"pool": "a100"}),
    limits=Limits("2h"),
    retry=Retry(3),
    executor=ExecutorSpec("local"),
)


def everything() -> dict[str, Any]:
    data = strict_yaml.load(EVERYTHING)
    assert isinstance(data, dict)
    return data  # pyright: ignore[reportUnknownVariableType]


def take_out(data: dict[str, Any], place: str) -> None:
    *sections, word = place.split(".")
    for section in sections:
        data = data[section]
    del data[word]


def test_every_word_of_the_design_is_accepted_or_refused_by_name() -> None:
    data = everything()
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    refused: list[str] = []
    for problem in caught.value.problems:
        place, _, rest = problem.partition(": ")
        assert rest.startswith("is known, but not available yet; ")
        refused.append(place)
    for place in refused:
        take_out(data, place)
    assert spec.parse(data) == EXPECTED
    assert sorted(refused) == [
        "budget.cost",
        "budget.energy",
        "budget.gpu_hours",
        "budget.target",
        "budget.time",
        "cache",
        "checkpoints",
        "constraints",
        "duplicates",
        "early_stopping",
        "hyperparameter_optimization",
        "limits.gpu_memory",
        "limits.memory",
        "max_concurrent",
        "on_limit",
        "priority",
        "replicates",
        "require",
        "space.beta2.when",
        "space.hidden.length",
        "task.metrics",
        "warm_start",
    ]


@pytest.mark.parametrize("key", NOT_YET)
def test_what_is_not_available_yet_is_refused_by_name(key: str) -> None:
    place, _, value = key.partition("=")
    place = place.replace("*", "lr")
    data = good()
    section = data
    *sections, word = place.split(".")
    for name in sections:
        section = section.setdefault(name, {})
    section[word] = value or None  # also a word that says nothing: it is not ignored
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    named = f"{value} is" if value else "is"
    assert caught.value.problems == [f"{place}: {named} known, but not available yet; {NOT_YET[key]}"]


def test_several_objectives_are_not_available_yet() -> None:
    data = good()
    data["objectives"].append({"metric": "latency", "direction": "minimize"})
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    assert caught.value.problems == [
        "objectives: several are known, but not available yet; keep one of the 2"
    ]


def test_groups_of_parameters_are_not_available_yet() -> None:
    data = good()
    data["space"]["optim"] = {"lr": {"type": "float", "low": 0, "high": 1}}
    with pytest.raises(SpecError) as caught:
        spec.parse(data)
    assert caught.value.problems == [
        "space.optim: a group of parameters is known, but not available yet; write optim.lr: {...}"
    ]


def test_defaults() -> None:
    read = spec.parse(good())
    assert read.sampler == Sampler("tpe", None)
    assert read.scheduler == Scheduler("none")
    assert read.retry.max_attempts == 1
    assert read.executor.type == "local"
    assert read.objectives[0].at == "last"
    assert (read.resources.gpus, read.resources.memory_mib, read.resources.gpu_memory_mib) == (0, 0, 0)
    assert read.limits.time_s is None
    assert (read.kind, read.directions) == ("objective", ("maximize",))


def test_words_that_are_left_empty_are_absent() -> None:
    data = good()
    data |= {"sampler": {"type": "random", "seed": None}, "resources": None, "limits": {"time": None}}
    assert spec.parse(data) == spec.parse(good() | {"sampler": {"type": "random"}})


def test_no_memory_needs_no_unit() -> None:
    assert spec.parse(good() | {"resources": {"memory": 0}}).resources.memory_mib == 0


def test_helpers_have_units() -> None:
    data = good()
    data |= {"resources": {"gpus": 1, "memory": "1GiB", "gpu_memory": "24GB"}, "limits": {"time": "1h30m"}}
    read = spec.parse(data)
    assert (read.resources.memory_mib, read.resources.gpu_memory_mib) == (1024, 22889)
    assert read.limits.time_s == 5400
    assert spec.parse(data | {"limits": {"time": 90}}).limits.time_s == 90


@pytest.mark.parametrize(
    ("task", "kind", "target"),
    [
        ({"objective": "src/train.py:objective"}, "objective", "src/train.py:objective"),
        ({"objective": "pkg.train:objective"}, "objective", "pkg.train:objective"),
        (
            {"nemo": "pkg.recipes:finetune", "args": {"nodes": 2, "deep": {"a": [1, None]}}},
            "nemo",
            "pkg.recipes:finetune",
        ),
        (
            {"command": ["python", "t.py", "--lr={lr}", "{args}", "", "{}", "{ lr }"]},
            "command",
            ["python", "t.py", "--lr={lr}", "{args}", "", "{}", "{ lr }"],
        ),
    ],
)
def test_tasks(task: dict[str, Any], kind: str, target: object) -> None:
    read = spec.parse(good() | {"task": task})
    assert (read.kind, read.task.target) == (kind, target)


def test_only_an_objective_can_do_without_a_space() -> None:
    data = good()
    del data["space"]
    assert spec.parse(data).space == {}
    assert spec.parse(data | {"space": {}}).space == {}
    with pytest.raises(SpecError, match="space: is missing"):
        spec.parse(data | {"task": {"command": ["true"]}, "space": {}})


@pytest.mark.parametrize(
    ("scheduler", "rungs"),
    [
        (Scheduler("asha", min=1, max=27, eta=3), (1, 3, 9)),
        (Scheduler("asha", min=1, max=28, eta=3), (1, 3, 9, 27)),
        (Scheduler("asha", min=2, max=16, eta=2), (2, 4, 8)),
        (Scheduler("asha", min=5, max=5), ()),
        (Scheduler(), ()),
    ],
)
def test_rungs(scheduler: Scheduler, rungs: tuple[int, ...]) -> None:
    assert scheduler.rungs == rungs


def test_a_metric_of_a_command_may_be_the_resource() -> None:
    data = good() | {"task": {"command": ["t"]}, "scheduler": {"type": "asha", "max": 9, "resource": "epoch"}}
    assert spec.parse(data).scheduler.resource == "epoch"


@given(specs())
def test_a_study_survives_json(study: StudySpec) -> None:
    text = msgspec.json.encode(spec.to_builtins(study))
    again = spec.parse(msgspec.json.decode(text))
    assert again == study
    assert msgspec.json.encode(spec.to_builtins(again)) == text  # 1, 1.0 and true stay apart


def test_parse_leaves_its_argument_alone() -> None:
    data, same = everything(), everything()
    with pytest.raises(SpecError):
        spec.parse(data)
    assert data == same
