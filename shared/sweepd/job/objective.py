"""Run an Optuna objective as a job: `python -m sweepd.job.objective`, in the task's directory."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweepd.errors import JobError
from sweepd.job import result as results
from sweepd.job.loading import load, nearest
from sweepd.job.reports import encode_number
from sweepd.job.result import BadConfig, Diverged
from sweepd.job.session import JobSession, job_session

if TYPE_CHECKING:
    from optuna.trial import Trial


def run(session: JobSession) -> dict[str, Any]:
    """Call the objective once and return the result; it never raises."""
    trial: Trial | None = None
    try:
        optuna = _import_optuna()
        from sweepd.job.trial import open_trial

        trial = open_trial(session)
        objective = load(session.attempt.target, session.attempt.workdir)
        result = _call(objective, trial, session, optuna.TrialPruned)
    except SystemExit as error:
        result = results.failure(JobError(f"the objective called sys.exit({error.code!r})"))
    except BaseException as error:
        result = results.failure(error)
    return {**result, "attributes": {} if trial is None else _attributes(trial)}


def values_of(returned: Any, metrics: Sequence[str]) -> dict[str, Any]:
    """Return what an objective returned, by metric, as JSON can carry it.

    *returned*: a number, a tuple in the order of *metrics*, or a dict that may have more than
    *metrics*. Raises :class:`BadConfig` if it is something else, :class:`Diverged` if a number
    is NaN.
    """
    named = _by_metric(returned, metrics)
    try:
        values = {
            name: encode_number(f"what the objective returned for {name!r}", named[name]) for name in named
        }
    except JobError as error:
        raise BadConfig(str(error)) from None
    lost = [metric for metric in metrics if values[metric] == "nan"]
    if lost:
        raise Diverged(f"the objective returned NaN for {', '.join(lost)}")
    return values


def _by_metric(returned: Any, metrics: Sequence[str]) -> Mapping[str, Any]:
    wanted = ", ".join(metrics)
    if returned is None:
        raise BadConfig(f"the objective returned None: return {wanted}")
    if isinstance(returned, Mapping):
        for metric in metrics:
            if metric not in returned:
                raise BadConfig(
                    f"the objective returned a dict without {metric!r}{nearest(metric, map(str, returned))}"
                )
        return {str(name): value for name, value in returned.items()}
    in_order = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    if len(in_order) != len(metrics):
        raise BadConfig(
            f"the objective returned {len(in_order)} values, and the study has {len(metrics)}: {wanted}"
        )
    return dict(zip(metrics, in_order, strict=True))


def _call(objective: Any, trial: Trial, session: JobSession, pruned: type[BaseException]) -> dict[str, Any]:
    if not callable(objective):
        raise BadConfig(f"{session.attempt.target} is a {type(objective).__name__} and not a function")
    function: Callable[[Trial], Any] = objective
    try:
        returned = function(trial)
    except pruned:
        return {"pruned": True}
    return {"values": values_of(returned, [metric for metric, _ in session.attempt.objectives])}


def _attributes(trial: Trial) -> dict[str, Any]:
    from sweepd.job.trial import plain_attributes

    attributes, lost = plain_attributes(trial)
    for name in lost:
        print(f"sweepd: the user attribute {name!r} is no JSON and is not recorded", file=sys.stderr)
    return attributes


def _import_optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise BadConfig(
            f"{sys.executable} has no optuna, which a task.objective needs: "
            f"run `{sys.executable} -m pip install 'optuna>=4'`, or set task.python"
        ) from None
    return optuna


def main() -> int:
    session = job_session()
    result = run(session)
    if "error" in result:
        print(result["error"], file=sys.stderr)
    results.write(session.attempt.directory, result)
    # Nothing of the heap is needed any more; to collect it at exit takes up to half a second.
    gc.freeze()
    return 1 if "error" in result else 0


if __name__ == "__main__":
    sys.exit(main())
