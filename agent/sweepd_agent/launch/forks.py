"""What the launcher's forks do: one launches one attempt, and is gone, or is its supervisor.

Imports nemo_run: see `sweepd.job.nemo` first.

`objective` and `command`, and recipes for another interpreter, are a Script of a real NeMo Run
experiment whose command is the supervisor; the supervisor starts the job.

A recipe for this interpreter is the other way round: the fork becomes the supervisor, and its
job is a second fork, with nemo_run imported already, that runs the recipe's experiment. So all
jobs of the experiment, and the user's code that builds it, are under the one supervisor.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import nemo_run as run

from sweepd import processes
from sweepd.job import nemo, recipe
from sweepd.job.experiment import AttemptExperiment
from sweepd_agent.launch import job
from sweepd_agent.launch.job import Attempt, LaunchFailed

OK = b"ok\n"

#: What a supervisor may take from its start to its lock, on a machine that is busy.
SUPERVISOR_START_S = 30.0
LOCK_POLL_MS = 2


def launch(directory: str, supervisor: str) -> int:
    """Fork a process that launches the attempt in *directory*; return a pipe that says how it went.

    The pipe says OK or what went wrong, and ends. *supervisor* is the interpreter that has
    sweepd_agent.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            _launch(directory, supervisor, writer)
        except BaseException as error:
            trace = "" if isinstance(error, LaunchFailed) else "\n" + traceback.format_exc()
            os.write(writer, f"{error}{trace}".encode())
        finally:
            os._exit(1)
    os.close(writer)
    return reader


def _launch(directory: str, supervisor: str, said: int) -> NoReturn:
    _let_go({1, 2, said})
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(directory)
    if Path("supervisor.json").exists():
        raise LaunchFailed(f"the attempt in {directory} was started before, and an attempt runs once")
    attempt = job.read_attempt(directory)
    command = [supervisor, "-I", "-m", "sweepd_agent.supervise", directory]
    if attempt["job"]["kind"] == "nemo" and _is_for_us(attempt["job"]):
        _supervise_recipe(attempt, command, said)
    _run_experiment(Path(directory), command, said)


def _let_go(keep: set[int]) -> None:
    """Close what the launcher has open: its end must be noticed although its forks live on."""
    silence = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silence, 0)
    for file in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if file not in {0, *keep}:
            try:
                os.close(file)
            except OSError:
                pass  # It was the listing's own.


def _is_for_us(task: Mapping[str, Any]) -> bool:
    """Return whether a recipe is for the interpreter that runs this, environment included.

    One that names none is: the launcher's interpreter is known to have nemo_run.
    """
    if task.get("python") is None:
        return True
    named, ours = Path(task["workdir"], task["python"]), Path(sys.executable)
    # The program of a virtual environment is a link to another's: its directory tells them apart.
    return (named.parent.resolve(), named.resolve()) == (ours.parent.resolve(), ours.resolve())


# --- a Script of an experiment --------------------------------------------------------------------


def _run_experiment(directory: Path, command: list[str], said: int) -> NoReturn:
    """Run the supervisor as the job of an experiment and say when it holds the lock."""
    home = directory / "work" / "nemo_run"
    nemo.settle(home)
    # NeMo Run replaces `$$` and `${app_id}` in arguments.
    program, *arguments = [word.replace("$", "$$") for word in command]
    script = run.Script(entrypoint=program, path=arguments[0], args=arguments[1:])
    experiment = AttemptExperiment("trial", serialize_metadata_for_scripts=False)
    with experiment:
        experiment.add(script, name="supervisor")
        experiment.run()
        [pid] = experiment.pids()
        os.write(said, _await_lock(pid, home))
        os._exit(0)


def _await_lock(pid: int, home: Path) -> bytes:
    """Return OK once the supervisor *pid* holds the lock, or why it never will.

    It is no child that could be given a pipe: NeMo Run starts it.
    """
    ended = select.poll()
    ended.register(os.pidfd_open(pid), select.POLLIN)
    deadline = time.monotonic() + SUPERVISOR_START_S
    while not Path("supervisor.json").exists():
        if ended.poll(LOCK_POLL_MS):
            _, status = os.waitpid(pid, 0)
            told = "".join(path.read_text(errors="replace") for path in home.rglob("stderr.log"))
            code = os.waitstatus_to_exitcode(status)
            return f"the supervisor ended with code {code} before it held the lock\n{told[-2000:]}".encode()
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            return f"the supervisor did not hold the lock after {SUPERVISOR_START_S:g} s".encode()
    return OK


# --- a recipe ----------------------------------------------------------------------------------------


def _supervise_recipe(attempt: Attempt, command: list[str], said: int) -> NoReturn:
    """Fork the recipe and become its supervisor."""
    workdir = attempt["job"]["workdir"]
    if not Path(workdir).is_dir():
        raise LaunchFailed(f"the working directory {workdir} does not exist on this node: set task.workdir")
    gate, opener = os.pipe()
    supervisor = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.close(opener)
        os.close(said)
        _be_recipe(attempt, gate, supervisor)
    os.close(gate)
    for file in (opener, said):
        os.set_inheritable(file, True)
    os.execv(command[0], [*command, "--ready", str(said), "--child", str(pid), "--gate", str(opener)])


def _be_recipe(attempt: Attempt, gate: int, supervisor: int) -> NoReturn:
    """Wait for the supervisor, then be what `python -m sweepd.job.recipe` would be."""
    try:
        processes.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() != supervisor or not os.read(gate, 1):
            os._exit(job.NOT_STARTED)
        os.close(gate)
        variables = job.environment(attempt, os.environ)
        job.become(attempt)
        os.environ.clear()
        os.environ.update(variables)
        # What the interpreter would have made of this environment at its start.
        path = [attempt["job"]["workdir"], *filter(None, variables.get("PYTHONPATH", "").split(os.pathsep))]
        sys.path[:] = [*path, *(entry for entry in sys.path if entry not in path)]
        recipe.main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(job.NOT_STARTED)
