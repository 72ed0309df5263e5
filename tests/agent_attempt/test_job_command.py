"""The command line and the environment of a job."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from agent_attempt.attempts import Attempts, output, run

from sweepd_agent.launch import job

PARAMS = {"lr": 1e-05, "layers": 3, "name": "a b; c", "fast": True, "none": None, "sizes": [1, 2]}


def attempt(target: Any, kind: str = "command", **settings: Any) -> dict[str, Any]:
    return {
        "params": PARAMS,
        "directory": "/attempt",
        "devices": settings.pop("devices", []),
        **{name: settings.pop(name) for name in ("sweepd_path",) if name in settings},
        "job": {"kind": kind, "target": target, "python": None, "workdir": "/w", "env": {}, **settings},
    }


COMMANDS: dict[str, tuple[list[str], list[str]]] = {
    "a value": (["t", "--lr={lr}", "{layers}"], ["t", "--lr=1e-05", "3"]),
    "text as it is, without a shell": (["t", "{name}"], ["t", "a b; c"]),
    "other values as JSON": (["t", "{fast}", "{none}", "{sizes}"], ["t", "true", "null", "[1, 2]"]),
    "several in one": (["t", "{lr}/{layers}"], ["t", "1e-05/3"]),
    "all, one element each": (
        ["t", "{args}", "x"],
        [
            "t",
            "--lr=1e-05",
            "--layers=3",
            "--name=a b; c",
            "--fast=true",
            "--none=null",
            "--sizes=[1, 2]",
            "x",
        ],
    ),
    "other braces stay": (
        ["t", '{"a": 1}', "{}", "${HOME}", "{unknown}"],
        ["t", '{"a": 1}', "{}", "${HOME}", "{unknown}"],
    ),
}


@pytest.mark.parametrize(("target", "argv"), COMMANDS.values(), ids=COMMANDS)
def test_parameters_stand_in_the_command(target: list[str], argv: list[str]) -> None:
    assert job.command(attempt(target)) == argv


def test_a_value_is_not_looked_into() -> None:
    given = attempt(["t", "{a}"])
    given["params"] = {"a": "{b}", "b": "no"}
    assert job.command(given) == ["t", "{b}"]


def test_all_in_the_middle_of_a_text_are_one_text() -> None:
    given = attempt(["sh", "-c", "train {args}"])
    given["params"] = {"a": 1, "b": 2}
    assert job.command(given) == ["sh", "-c", "train --a=1 --b=2"]


def test_python_is_the_python_of_the_job() -> None:
    assert job.command(attempt(["python", "train.py"])) == [sys.executable, "train.py"]
    assert job.command(attempt(["python", "train.py"], python="v/bin/python")) == ["v/bin/python", "train.py"]
    assert job.command(attempt(["echo", "python"])) == ["echo", "python"]


def test_objectives_and_recipes_have_a_program_of_ours() -> None:
    assert job.command(attempt("train.py:objective", "objective")) == [
        sys.executable,
        "-m",
        "sweepd.job.objective",
    ]
    assert job.command(attempt("r.py:recipe", "nemo", python="p")) == ["p", "-m", "sweepd.job.recipe"]


def test_an_empty_command_is_refused() -> None:
    with pytest.raises(job.LaunchFailed, match="empty"):
        job.command(attempt([]))


def test_the_environment_is_the_agents_without_its_settings() -> None:
    base = {"HOME": "/h", "SWEEPD_REDIS": "redis://secret", "PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": "0,1"}
    assert job.environment(attempt(["t"], python="/v/bin/python"), base) == {
        "HOME": "/h",
        "PATH": "/v/bin:/usr/bin",
        "PYTHONUNBUFFERED": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SWEEPD_ATTEMPT": "/attempt/attempt.json",
    }


def test_a_task_adds_to_the_environment_and_devices_are_those_leased() -> None:
    env = {"A": "$$ ${x} \"q'", "N": 1, "CUDA_VISIBLE_DEVICES": "7", "SWEEPD_ATTEMPT": "mine"}
    made = job.environment(attempt(["t"], env=env, devices=["GPU-a", "GPU-b"]), {"PATH": "/usr/bin"})
    assert made["A"] == "$$ ${x} \"q'"
    assert made["N"] == "1"
    assert made["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert made["SWEEPD_ATTEMPT"] == "/attempt/attempt.json"


def test_a_path_that_has_the_interpreter_stays_in_its_order() -> None:
    made = job.environment(attempt(["t"], python="/usr/bin/python3"), {"PATH": "/opt/bin:/usr/bin"})
    assert made["PATH"] == "/opt/bin:/usr/bin"


def test_an_interpreter_without_sweepd_finds_it_after_everything_else(
    attempts: Attempts, tmp_path: Path
) -> None:
    links = tmp_path / "path"
    links.mkdir()
    import sweepd

    (links / "sweepd").symlink_to(Path(sweepd.__file__).parent)
    directory = attempts.make(
        "command",
        [sys.executable, "-S", "-c", "import sweepd, sys; sweepd.report(1); print(sys.path)"],
        sweepd_path=str(links),
        env={"PYTHONPATH": "/mine"},
    )
    assert run(directory)["code"] == 0, output(directory)
    paths = output(directory)
    assert paths.index("'/mine'") < paths.index(f"'{links}'")


def test_a_job_gets_all_of_it(attempts: Attempts) -> None:
    """Through the supervisor, the kernel and the job."""
    program = attempts.program(
        "show.py", "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]))"
    )
    directory = attempts.make(
        "command", ["python", program.name, "{args}"], {"lr": 0.1, "name": "a 'b\" $c"}, env={"MINE": "ä $$"}
    )
    assert run(directory)["code"] == 0
    argv, environment, cwd = json.loads(output(directory))
    assert argv == ["--lr=0.1", "--name=a 'b\" $c"]
    assert environment["MINE"] == "ä $$"
    assert environment["SWEEPD_ATTEMPT"] == str(directory / "attempt.json")
    assert cwd == str(attempts.workdir)
