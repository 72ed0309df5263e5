"""Attempts as real experiments of NeMo Run, through the real launcher child."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
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
    wait_for_output,
)
from waiting import wait_until, wait_until_async

from sweepd import processes
from sweepd_agent.launch.client import Launcher

pytestmark = pytest.mark.nemo


class Child:
    """The launcher child, spoken to directly."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sweepd_agent.launch", "--supervisor", sys.executable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=home,
            start_new_session=True,
            text=True,
        )
        self._asked = 0
        self.hello = self.listen()

    def listen(self) -> Message:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def ask(self, **request: Any) -> Message:
        assert self.process.stdin is not None
        self._asked += 1
        self.process.stdin.write(json.dumps({"id": self._asked, **request}) + "\n")
        self.process.stdin.flush()
        answer = self.listen()
        assert answer.pop("id") == self._asked
        return answer

    def launch(self, directory: Path) -> Message:
        return self.ask(op="launch", attempt=str(directory / "attempt.json"))

    def start(self, directory: Path) -> Path:
        assert self.launch(directory) == {"ok": True}
        return directory

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(30) == 0


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    child = Child(tmp_path_factory.mktemp("launcher"))
    assert child.hello["ready"], child.hello
    yield child
    child.close()


def test_the_child_answers(child: Child) -> None:
    assert child.hello == {"ready": True, "nemo_run": "0.11.1"}
    assert child.ask(op="ping") == {"ok": True}


# --- commands and objectives -------------------------------------------------------------------------


def test_a_command_is_a_job_of_an_experiment(child: Child, attempts: Attempts, agent: Agent) -> None:
    program = attempts.program(
        "train.py",
        "import os, sweepd\n"
        "sweepd.report({'loss': sweepd.params()['lr']}, step=1)\n"
        "print(os.environ['MINE'], os.getcwd())\n"
        "print([name for name in ('NEMORUN_HOME', 'NO_VCS_VERSION') if name in os.environ])\n"
        "raise SystemExit(3)\n",
    )
    directory = child.start(
        attempts.make("command", ["python", program.name], {"lr": 0.5}, env={"MINE": "$$ ${app_id} \"'"})
    )
    assert agent.next("supervisor").received[0]["token"] == "token-1"
    assert end_of(directory)["code"] == 3
    assert output(directory) == f"$$ ${{app_id}} \"' {attempts.workdir}\n[]\n"
    assert reports_of(directory)[0]["metrics"] == {"loss": 0.5}
    # NeMo Run's own record of it, at home in the attempt's directory.
    experiments = list((directory / "work" / "nemo_run" / "experiments").glob("*/*/_TASKS"))
    assert len(experiments) == 1


def test_an_objective_is_a_job_of_an_experiment(child: Child, attempts: Attempts) -> None:
    attempts.program("train.py", "def objective(trial): return trial.suggest_float('lr', 0, 1)\n")
    directory = child.start(attempts.make("objective", "train.py:objective", {"lr": 0.5}))
    assert end_of(directory)["code"] == 0
    assert result_of(directory)["values"] == {"loss": 0.5}


def test_a_directory_may_be_called_anything(child: Child, tmp_path: Path, attempts: Attempts) -> None:
    home = tmp_path / "a $$ ${app_id} 'b' \"c"
    home.mkdir()
    oddly = Attempts(home, attempts.workdir, tmp_path / "none.sock")
    assert end_of(child.start(oddly.shell("exit 4")))["code"] == 4


def test_what_cannot_be_launched_is_said(child: Child, attempts: Attempts) -> None:
    directory = attempts.shell("true")
    (directory / "attempt.json").write_text("{")
    answer = child.launch(directory)
    assert (answer["ok"], answer["class"]) == (False, "launch_error")
    assert f"cannot read {directory / 'attempt.json'}" in answer["error"]


def test_an_attempt_is_launched_once(child: Child, attempts: Attempts) -> None:
    directory = child.start(attempts.shell("echo once"))
    end_of(directory)
    answer = child.launch(directory)
    assert "was started before, and an attempt runs once" in answer["error"]
    assert output(directory) == "once\n"


def test_a_supervisor_that_cannot_start_is_quoted(child: Child, attempts: Attempts) -> None:
    directory = attempts.shell("true")
    (directory / "lock").mkdir()
    answer = child.launch(directory)
    assert "the supervisor ended with code 1 before it held the lock" in answer["error"]
    assert "Is a directory" in answer["error"]


def test_the_child_keeps_nothing_of_what_it_launched(child: Child, attempts: Attempts) -> None:
    def state() -> tuple[int, int, int]:
        home = Path(f"/proc/{child.process.pid}")
        return (
            len(list((home / "fd").iterdir())),
            len(list((home / "task").iterdir())),
            len(processes.descendants(child.process.pid)),
        )

    before = state()
    for directory in [child.start(attempts.shell("true")) for _ in range(3)]:
        end_of(directory)
    wait_until(lambda: state() == before, describe=state)


def test_jobs_outlive_their_launcher_and_another_takes_over(attempts: Attempts, tmp_path: Path) -> None:
    """Through the agent's client, with the launcher killed while a job runs."""
    os.mkfifo(attempts.workdir / "fifo")
    first = attempts.shell("echo started; read x < fifo; echo $x")
    second = attempts.shell("echo second")

    async def main() -> None:
        async with Launcher(tmp_path / "launcher") as launcher:
            await launcher.launch(first)
            await wait_until_async(lambda: "started" in output(first))
            (pid,) = [
                one.pid
                for one in processes.descendants(os.getpid())
                if Path(f"/proc/{one.pid}/cwd").readlink() == tmp_path / "launcher"
            ]
            os.kill(pid, signal.SIGKILL)
            await launcher.launch(second)

    anyio.run(main)
    assert end_of(second)["code"] == 0
    (attempts.workdir / "fifo").write_text("go on\n")
    assert end_of(first)["code"] == 0
    assert output(first) == "started\ngo on\n"


# --- recipes -----------------------------------------------------------------------------------------

RECIPES = """
import nemo_run as run
from dataclasses import dataclass
from helper import NAME

@dataclass
class Optimizer:
    lr: float = 0.1

def train(optimizer: Optimizer, steps: int = 2):
    import sweepd
    for step in range(steps):
        sweepd.report({"loss": optimizer.lr}, step=step)
    print(NAME, sweepd.params())

def finetune():
    return run.Partial(train, optimizer=run.Config(Optimizer))

def script(text="hello", code=0):
    return run.Script(inline=f"echo {text} $LR; exit {code}")

def several(code=0):
    return [script("one"), script("two", code), run.Script("print.sh", args=["three"])]

def hanging():
    return [run.Script(inline="sleep 60"), run.Script(inline="exit 5")]

def patient():
    return run.Script(inline="trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.01; done")

def number(): return 7
def nothing(): return []
def missing(): return run.Script("x", entrypoint="no-such-program")
READY = run.Script(inline="echo ready made")
"""


@pytest.fixture
def recipes(attempts: Attempts) -> Attempts:
    folder = attempts.workdir / "recipes"
    folder.mkdir()
    (folder / "recipes.py").write_text(RECIPES)
    (folder / "helper.py").write_text("NAME = 'trained'\n")
    attempts.program("print.sh", "echo $1\n")
    return attempts


def recipe(attempts: Attempts, name: str, params: Message | None = None, **settings: Any) -> Path:
    return attempts.make("nemo", f"recipes/recipes.py:{name}", params, **settings)


def test_a_partial_is_trained_with_its_parameters(child: Child, recipes: Attempts, agent: Agent) -> None:
    directory = child.start(recipe(recipes, "finetune", {"optimizer.lr": 0.25, "steps": 3}))
    assert end_of(directory, 60)["code"] == 0, output(directory)
    reports = [(report["step"], report["metrics"]) for report in reports_of(directory)]
    assert reports == [(0, {"loss": 0.25}), (1, {"loss": 0.25}), (2, {"loss": 0.25})]
    assert output(directory) == "trained {'optimizer.lr': 0.25, 'steps': 3}\n"
    assert agent.next("supervisor").received[0]["job"] > 0
    assert agent.next("job").received[0]["token"] == "token-1"


def test_a_script_takes_parameters_as_arguments_and_variables(child: Child, recipes: Attempts) -> None:
    directory = child.start(recipe(recipes, "script", {"env.LR": 0.5, "text": "hi"}, args={"code": 3}))
    assert end_of(directory)["code"] == 3
    assert output(directory) == "hi 0.5\n"


def test_a_list_is_one_experiment_that_ends_when_all_have(child: Child, recipes: Attempts) -> None:
    directory = child.start(recipe(recipes, "several"))
    assert end_of(directory)["code"] == 0
    assert sorted(output(directory).split()) == ["one", "three", "two"]
    assert len(list((directory / "work" / "nemo_run" / "experiments").glob("*/*/_TASKS"))) == 1


def test_one_that_fails_ends_the_others(child: Child, recipes: Attempts) -> None:
    end = end_of(child.start(recipe(recipes, "hanging")))
    assert (end["code"], end["reason"]) == (5, "exited")


def test_a_recipe_may_be_ready_made(child: Child, recipes: Attempts) -> None:
    directory = child.start(recipe(recipes, "READY"))
    assert end_of(directory)["code"] == 0
    assert output(directory) == "ready made\n"


def test_a_recipe_that_was_edited_is_the_new_one(child: Child, recipes: Attempts) -> None:
    end_of(child.start(recipe(recipes, "script")))
    file = recipes.workdir / "recipes" / "recipes.py"
    file.write_text(RECIPES.replace('"hello"', '"edited"'))
    directory = child.start(recipe(recipes, "script"))
    assert end_of(directory)["code"] == 0
    assert output(directory) == "edited\n"


def test_a_recipes_job_is_asked_to_end(child: Child, recipes: Attempts, agent: Agent) -> None:
    directory = child.start(recipe(recipes, "patient"))
    wait_for_output(directory, "ready")
    agent.next("supervisor").send({"type": "stop", "grace_s": 30})
    end = end_of(directory)
    assert (end["code"], end["reason"]) == (0, "stopped")
    assert output(directory).endswith("bye\n")


WRONG: dict[str, tuple[str, Message, Message, str]] = {
    "an attribute that is none": (
        "finetune",
        {"optimizer.lrr": 1},
        {},
        "no attribute 'optimizer.lrr' to set to that parameter; did you mean 'optimizer.lr'?",
    ),
    "an argument that is none": (
        "script",
        {},
        {"cod": 1},
        "task.args.cod: recipes/recipes.py:script has no such argument; did you mean 'code'?",
    ),
    "no recipe": ("number", {}, {}, "recipes/recipes.py:number returned a int: return a nemo_run.Partial"),
    "no job": ("nothing", {}, {}, "returned an empty list: there is nothing to run"),
    "no such program": ("missing", {}, {}, "NeMo Run cannot start recipes/recipes.py:missing"),
    "arguments of what is no function": ("READY", {}, {"a": 1}, "task.args are for a function"),
    "no such name": ("finetoon", {}, {}, "has no 'finetoon'; did you mean 'finetune'?"),
}


@pytest.mark.parametrize(("name", "params", "args", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_recipe_is_said(
    child: Child, recipes: Attempts, name: str, params: Message, args: Message, problem: str
) -> None:
    directory = child.start(recipe(recipes, name, params, args=args))
    assert end_of(directory)["code"] == 1
    result = result_of(directory)
    assert result["class"] == "bad_config"
    assert problem in result["error"]
    assert problem in output(directory)


def test_a_recipe_that_raises_shows_its_own_frames(child: Child, recipes: Attempts) -> None:
    recipes.program("broken.py", "def recipe():\n    raise KeyError('model')\n")
    directory = child.start(recipes.make("nemo", "broken.py:recipe"))
    assert end_of(directory)["code"] == 1
    result = result_of(directory)
    assert result["class"] == "crashed"
    assert result["error"].splitlines()[-1] == "KeyError: 'model'"
    assert "sweepd" not in result["error"].replace(str(recipes.workdir), "")


def test_a_recipe_without_a_working_directory_is_not_launched(child: Child, recipes: Attempts) -> None:
    gone = str(recipes.workdir / "gone")
    answer = child.launch(recipe(recipes, "script", workdir=gone))
    assert f"the working directory {gone} does not exist on this node" in answer["error"]


def test_the_environment_of_a_task_reaches_its_recipe(child: Child, recipes: Attempts) -> None:
    extra = recipes.workdir / "extra"
    extra.mkdir()
    (extra / "elsewhere.py").write_text("WORD = 'found'\n")
    recipes.program(
        "reads.py",
        "import os, nemo_run as run, elsewhere\n"
        "def recipe(): return run.Script(inline=f\"echo {elsewhere.WORD} {os.environ['MINE']}\")\n",
    )
    env = {"PYTHONPATH": str(extra), "MINE": "mine"}
    directory = child.start(recipes.make("nemo", "reads.py:recipe", env=env))
    assert end_of(directory)["code"] == 0, output(directory)
    assert output(directory) == "found mine\n"


def test_a_recipe_runs_cold_as_well(recipes: Attempts) -> None:
    """For an interpreter that is not the launcher's: nobody has imported nemo_run for it."""
    directory = recipe(recipes, "script", {"text": "cold"})
    assert run(directory, 60)["code"] == 0, output(directory)
    assert output(directory) == "cold\n"
