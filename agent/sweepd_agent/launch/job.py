"""The job of one attempt, from its attempt.json: its command, its environment, and becoming it.

The standard library only, and little of it: the supervisor of every attempt imports this.
"""

# No pathlib here: it costs 3 ms at the start of every attempt.
# ruff: noqa: PTH112, PTH118, PTH120, PTH123
from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from typing import Any, NoReturn

from sweepd import processes

Attempt = Mapping[str, Any]

ATTEMPT_VARIABLE = "SWEEPD_ATTEMPT"
NOT_STARTED = 127  #: the exit code of a job that could not be started, as a shell has it

_RUNNERS = {"objective": "sweepd.job.objective", "nemo": "sweepd.job.recipe"}
_FIELD = re.compile(r"\{([A-Za-z_][\w.\-]*)\}")


class LaunchFailed(Exception):
    """The job cannot be started; the message names the place and the remedy."""


def read_attempt(directory: str) -> Attempt:
    """Return the attempt.json of *directory*; raises :class:`LaunchFailed` if it cannot be used."""
    path = os.path.join(directory, "attempt.json")
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError) as error:
        raise LaunchFailed(f"cannot read {path}: {error}") from error


def interpreter(attempt: Attempt) -> str:
    """Return the Python of the job: the task's own, or the one that runs this."""
    return attempt["job"].get("python") or sys.executable


def command(attempt: Attempt) -> list[str]:
    """Return the argv of the job.

    In a `command` task, `{name}` becomes the value of the parameter *name* and `{args}` becomes
    all of them as `--name=value`; an element that is exactly `{args}` becomes one element per
    parameter. Other braces stay as they are. A first element `python` is the job's interpreter.
    """
    job = attempt["job"]
    runner = _RUNNERS.get(job["kind"])
    if runner is not None:
        return [interpreter(attempt), "-m", runner]
    texts = {name: as_text(value) for name, value in attempt["params"].items()}
    options = [f"--{name}={text}" for name, text in texts.items()]
    texts["args"] = " ".join(options)
    argv: list[str] = []
    for element in job["target"]:
        if element == "{args}":
            argv += options
        else:
            argv.append(_FIELD.sub(lambda match: texts.get(match[1], match[0]), element))
    if not argv:
        raise LaunchFailed("task.command is empty: name the program to run")
    if argv[0] == "python":
        argv[0] = interpreter(attempt)
    return argv


def as_text(value: Any) -> str:
    """Return *value* as it stands on a command line: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def environment(attempt: Attempt, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the job, made from *base*, the agent's own.

    Of our variables it has only SWEEPD_ATTEMPT, a path: whatever else it needs to know is in
    that file, because NeMo Run's executors change values on the way (`$$`, quotes, case).
    """
    result = {name: value for name, value in base.items() if not name.startswith("SWEEPD_")}
    home = os.path.dirname(interpreter(attempt))
    path = result.get("PATH", os.defpath)
    if home and home not in path.split(os.pathsep):
        # As in an activated environment: `python`, `torchrun` and the like are the job's own.
        path = home + os.pathsep + path
    result["PATH"] = path
    result["PYTHONUNBUFFERED"] = "1"
    result.update({name: str(value) for name, value in attempt["job"].get("env", {}).items()})
    if attempt.get("sweepd_path"):
        # Last, so that it hides nothing.
        result["PYTHONPATH"] = os.pathsep.join(
            filter(None, [result.get("PYTHONPATH"), attempt["sweepd_path"]])
        )
    result["CUDA_VISIBLE_DEVICES"] = ",".join(attempt.get("devices", []))
    result[ATTEMPT_VARIABLE] = os.path.join(attempt["directory"], "attempt.json")
    return result


def become(attempt: Attempt) -> None:
    """Make this freshly forked process the job's: session, output, working directory, signals.

    Raises OSError.
    """
    os.setsid()
    silence = os.open(os.devnull, os.O_RDONLY)
    output = os.open(
        os.path.join(attempt["directory"], "output.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    for source, target in ((silence, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for source in {silence, output} - {0, 1, 2}:
        os.close(source)
    os.chdir(attempt["job"]["workdir"])
    # Python ignores these two; a job expects what every process expects.
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def spawn(attempt: Attempt, argv: list[str]) -> int:
    """Start the job's main process and return its pid; raises :class:`LaunchFailed`.

    Fork and exec by hand: `subprocess` would cost more than the rest of the start.
    """
    variables = environment(attempt, os.environ)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _exec(attempt, argv, variables, parent, writer)
    os.close(writer)
    with open(reader, "rb") as file:
        failure = file.read()  # Empty as soon as exec has closed the other end.
    if failure:
        os.waitpid(pid, 0)
        raise LaunchFailed(failure.decode(errors="replace"))
    return pid


def _exec(
    attempt: Attempt, argv: list[str], variables: dict[str, str], parent: int, failure: int
) -> NoReturn:
    try:
        # A job without its supervisor has nobody to end it.
        processes.set_parent_death_signal(signal.SIGKILL)
        if os.getppid() == parent:
            become(attempt)
            os.execvpe(argv[0], argv, variables)
    except Exception as error:
        directory = attempt["job"]["workdir"]
        what = f"cannot start {argv[0]!r} in {directory}: {error}"
        if not os.path.isdir(directory):
            what = f"the working directory {directory} does not exist on this node: set task.workdir"
        os.write(failure, what.encode())
    finally:
        os._exit(NOT_STARTED)
