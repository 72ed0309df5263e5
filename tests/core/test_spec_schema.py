"""The JSON Schema that editors get: it agrees with the parser as far as a schema can."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator

from core.spec_samples import good, specs
from sweepd import spec
from sweepd.spec import StudySpec

SCHEMA = spec.json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def complaints(data: Any) -> list[str]:
    """Return the places that the schema complains about."""
    return sorted({error.json_path for error in VALIDATOR.iter_errors(data)})


def test_it_is_a_schema_and_json() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


@given(specs())
def test_what_the_parser_accepts_is_valid(study: StudySpec) -> None:
    assert complaints(spec.to_builtins(study)) == []


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "unknown word": ({"samplr": {}}, "$"),
    "no objectives": ({"objectives": []}, "$.objectives"),
    "several objectives": ({"objectives": good()["objectives"] * 2}, "$.objectives"),
    "name": ({"name": "a b"}, "$.name"),
    "no task": ({"task": {}}, "$.task"),
    "two tasks": ({"task": {"objective": "t.py:f", "nemo": "p:f"}}, "$.task"),
    "command": ({"task": {"command": "python t.py"}}, "$.task.command"),
    "env": ({"task": {"objective": "t.py:f", "env": {"A": 1}}}, "$.task.env.A"),
    "parameter's name": ({"space": {"a b": {"type": "int", "low": 1, "high": 2}}}, "$.space"),
    "parameter's type": ({"space": {"a": {"type": "uniform"}}}, "$.space.a.type"),
    "parameter's word": ({"space": {"a": {"type": "int", "low": 1, "high": 2, "hi": 2}}}, "$.space.a"),
    "words of another type": (
        {"space": {"a": {"type": "float", "low": 1, "high": 2, "choices": [1]}}},
        "$.space.a",
    ),
    "no choices": ({"space": {"a": {"type": "categorical", "choices": []}}}, "$.space.a.choices"),
    "sampler": ({"sampler": {"type": "gp"}}, "$.sampler.type"),
    "asha without max": ({"scheduler": {"type": "asha"}}, "$.scheduler"),
    "none with max": ({"scheduler": {"type": "none", "max": 9}}, "$.scheduler"),
    "trials": ({"budget": {"trials": 0}}, "$.budget.trials"),
    "gpus": ({"resources": {"gpus": 0.5}}, "$.resources.gpus"),
    "memory": ({"resources": {"memory": 16}}, "$.resources.memory"),
    "time": ({"limits": {"time": "12:30"}}, "$.limits.time"),
    "no time": ({"limits": {"time": 0}}, "$.limits.time"),
    "executor": ({"executor": {"type": "slurm"}}, "$.executor.type"),
    "on_disconnect": ({"on_disconnect": "stop"}, "$.on_disconnect"),
}


@pytest.mark.parametrize(("change", "place"), BAD.values(), ids=BAD)
def test_what_the_parser_refuses_is_not(change: dict[str, Any], place: str) -> None:
    assert complaints(good()) == []
    assert complaints(good() | change) == [place]


def test_every_word_is_explained() -> None:
    silent: list[str] = []

    def walk(node: object, place: str) -> None:
        if not isinstance(node, dict):
            return
        for name, inner in node.get("properties", {}).items():
            # The branches for each type explain `type` where it is required.
            if not inner.get("description") and name != "type":
                silent.append(f"{place}.{name}")
            walk(inner, f"{place}.{name}")
        walk(node.get("items"), f"{place}[]")
        walk(node.get("additionalProperties"), f"{place}.*")
        for branch in node.get("allOf", []):
            walk(branch["then"], place)

    walk(SCHEMA, "")
    assert silent == []
