"""Which edits of a study file leave it the same study."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from core.spec_samples import good, specs
from sweepd import spec
from sweepd.spec import Sampler, StudySpec

#: What changes, and the lines that tell it; those that can be edited first.
EDITS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "budget": ({"budget": {"trials": 20}}, ["budget.trials: 10 -> 20"]),
    "resources": (
        {"resources": {"gpus": 1, "memory": "2GB", "labels": {"pool": "a"}}},
        ["resources.gpus: 0 -> 1", 'resources.memory: 0 -> "2GB"', 'resources.labels.pool: absent -> "a"'],
    ),
    "limits": ({"limits": {"time": "2h"}}, ['limits.time: absent -> "2h"']),
    "retry": ({"retry": {"max_attempts": 3}}, ["retry.max_attempts: 1 -> 3"]),
}
OTHERS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "task": (
        {"task": {"command": ["t", "{args}"]}},
        ['task.objective: "train.py:objective" -> absent', 'task.command: absent -> ["t", "{args}"]'],
    ),
    "env": (
        {"task": {"objective": "train.py:objective", "env": {"A": "1"}}},
        ['task.env.A: absent -> "1"'],
    ),
    "objective": (
        {"objectives": [{"metric": "acc", "direction": "minimize"}]},
        ['objectives[0].direction: "maximize" -> "minimize"'],
    ),
    "a bound": (
        {"space": {"lr": {"type": "float", "low": 0, "high": 2}}},
        ["space.lr.high: 1.0 -> 2.0"],
    ),
    "a parameter": (
        {"space": {"lr": {"type": "float", "low": 0, "high": 1}, "n": {"type": "int", "low": 1, "high": 2}}},
        [
            'space.n.type: absent -> "int"',
            "space.n.low: absent -> 1",
            "space.n.high: absent -> 2",
            "space.n.log: absent -> false",
            "space.n.step: absent -> 1",
        ],
    ),
    "scheduler": (
        {"scheduler": {"type": "asha", "max": 9}},
        ['scheduler.type: "none" -> "asha"', "scheduler.max: absent -> 9"],
    ),
    "seed": ({"sampler": {"seed": 2}}, ["sampler.seed: 1 -> 2"]),
    "executor": ({"executor": {"type": "process"}}, ['executor.type: "local" -> "process"']),
    "what cannot change hides the rest": (
        {"budget": {"trials": 20}, "name": "other"},
        ['name: "digits" -> "other"'],
    ),
}


def study(**change: Any) -> StudySpec:
    return spec.parse(good() | {"sampler": {"seed": 1}} | change)


@pytest.mark.parametrize(("change", "lines"), EDITS.values(), ids=EDITS)
def test_edits_that_a_study_survives(change: dict[str, Any], lines: list[str]) -> None:
    new = study(**change)
    assert spec.difference(study(), new) == spec.Difference(True, lines, new)


@pytest.mark.parametrize(("change", "lines"), OTHERS.values(), ids=OTHERS)
def test_edits_that_make_another_study(change: dict[str, Any], lines: list[str]) -> None:
    compared = spec.difference(study(), study(**change))
    assert (compared.editable, compared.lines) == (False, lines)


def test_choices_of_another_type_are_other_choices() -> None:
    old = study(space={"x": {"type": "categorical", "choices": [1, 0]}})
    new = study(space={"x": {"type": "categorical", "choices": [True, 0.0]}})
    assert spec.difference(old, new).lines == ["space.x.choices: [1, 0] -> [true, 0.0]"]


@pytest.mark.parametrize("sampler", [Sampler(seed=7, seed_drawn=True), Sampler()], ids=["drawn", "absent"])
@pytest.mark.parametrize("drawn", [True, False])
def test_a_seed_that_nobody_wrote_is_no_edit(sampler: Sampler, drawn: bool) -> None:
    old = study(sampler={"seed": 1, "seed_drawn": drawn})
    new = spec.parse(spec.to_builtins(study(budget={"trials": 20})))
    new = spec.parse(
        {**spec.to_builtins(new), "sampler": {"seed": sampler.seed, "seed_drawn": sampler.seed_drawn}}
    )
    compared = spec.difference(old, new)
    assert (compared.editable, compared.lines) == (True, ["budget.trials: 10 -> 20"])
    assert compared.spec.sampler == old.sampler
    assert compared.spec.budget.trials == 20


def test_writing_down_the_seed_that_was_drawn_is_no_edit() -> None:
    old = study(sampler={"seed": 1, "seed_drawn": True})
    assert spec.difference(old, study()) == spec.Difference(True, [], study())


@given(specs(), specs())
def test_a_study_differs_exactly_from_others(one: StudySpec, other: StudySpec) -> None:
    assert spec.difference(one, one) == spec.Difference(True, [], one)
    compared = spec.difference(one, other)
    if compared.editable and not compared.lines:
        assert spec.to_builtins(compared.spec) == spec.to_builtins(one)
