"""Run a NeMo Run recipe as a job: `python -m sweepd.job.recipe`, in the task's directory.

The recipe's Partial, Config or Script, or all of a list of them, are one experiment on this
machine. Its jobs run at the same time; the attempt ends when all have ended, or as soon as one
has failed, and then the supervisor ends the others.

A warm launcher forks this instead of starting it, if the task has the launcher's interpreter.
"""

from __future__ import annotations

import inspect
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sweepd.job import nemo
from sweepd.job import result as results
from sweepd.job.attempt import Attempt
from sweepd.job.loading import load, nearest
from sweepd.job.result import BadConfig
from sweepd.job.session import job_session


def main() -> NoReturn:
    """Run the recipe of this job and end this process as the recipe's jobs ended."""
    attempt = job_session().attempt
    try:
        nemo.import_nemo_run()
        nemo.settle(attempt.directory / "work" / "nemo_run")
        _run(attempt, _build(attempt))
    except BaseException as error:
        failure = results.failure(error)
        print(failure["error"], file=sys.stderr)
        results.write(attempt.directory, {**failure, "attributes": {}})
        sys.stderr.flush()
        os._exit(1)


def _build(attempt: Attempt) -> list[Any]:
    """Call the recipe and set the parameters; returns Partials and Scripts."""
    import fiddle
    import nemo_run as run

    from sweepd.job.configs import set_parameters

    recipe = load(attempt.target, attempt.workdir)
    params = dict(attempt.params)
    if callable(recipe):
        recipe = recipe(**_arguments(recipe, attempt, params))
    elif attempt.args:
        raise BadConfig(f"task.args are for a function, and {attempt.target} is a {type(recipe).__name__}")
    tasks: list[Any] = []
    for task in recipe if isinstance(recipe, list) else [recipe]:
        if isinstance(task, run.Config):
            task = fiddle.cast(run.Partial, task)  # A job is something to call.
        if not isinstance(task, (run.Partial, run.Script)):
            raise BadConfig(
                f"{attempt.target} returned a {type(task).__name__}: "
                "return a nemo_run.Partial, Config or Script, or a list of them"
            )
        tasks.append(task)
    if not tasks:
        raise BadConfig(f"{attempt.target} returned an empty list: there is nothing to run")
    set_parameters(tasks, params)
    return tasks


def _arguments(recipe: Any, attempt: Attempt, params: dict[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of the recipe: task.args, and those parameters that it has by name.

    These are taken out of *params*; the others set attributes of what the recipe returns.
    """
    signature = inspect.signature(recipe)
    for name in attempt.args:
        if name not in signature.parameters and not _takes_any(signature):
            close = nearest(name, signature.parameters)
            raise BadConfig(f"task.args.{name}: {attempt.target} has no such argument{close}")
    arguments = dict(attempt.args)
    for name in list(params):
        if name in signature.parameters and name not in arguments:
            arguments[name] = params.pop(name)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise BadConfig(f"{attempt.target} cannot be called: {error}; set task.args") from None
    return arguments


def _takes_any(signature: inspect.Signature) -> bool:
    return any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())


def _run(attempt: Attempt, tasks: Sequence[Any]) -> NoReturn:
    """Run *tasks* as one experiment and end as the first that failed did, or well."""
    from sweepd.job.experiment import RecipeExperiment

    # What the recipe's file defines is imported by the jobs under the file's name.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
    # The supervisor asks every process to end; this one ends when the jobs have.
    signal.signal(signal.SIGTERM, lambda *_: None)
    experiment = RecipeExperiment(f"trial-{attempt.trial}")
    with experiment:
        try:
            for task in tasks:
                experiment.add(task)
            experiment.run()
        except Exception as error:
            raise BadConfig(f"NeMo Run cannot start {attempt.target}: {error}") from error
        running = set(experiment.pids())
        while running:
            pid, status = os.wait()
            if pid in running and status != 0:
                _end_like(status)
            running.discard(pid)
        _end_like(0)


def _end_like(status: int) -> NoReturn:
    """End this process as the process of that wait status ended, without any clean-up."""
    sys.stdout.flush()
    sys.stderr.flush()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
