"""The SDK: what a training program says to sweepd, and hears from it.

    import sweepd

    lr = sweepd.params()["learning_rate"]
    for epoch in range(27):
        ...
        if sweepd.report({"val_loss": loss}, step=epoch) is not Verdict.CONTINUE:
            break

The standard library only: this is imported into training jobs, whatever else is installed there.
Every process of a job may call it, from any thread. Outside a job it is a dry run: reports are
printed, and nobody ever says stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

from sweepd.job import session as _session
from sweepd.states import Verdict

__all__ = ["Verdict", "checkpoint", "params", "report", "restore_dir", "should_stop"]


def params() -> dict[str, Any]:
    """Return the parameters of this trial by name.

    Outside a job they are taken from SWEEPD_PARAMS, a JSON object; without it this raises
    :class:`sweepd.errors.JobError`.
    """
    return _session.session().params()


def report(
    metrics: Mapping[str, SupportsFloat] | SupportsFloat, step: SupportsIndex | None = None
) -> Verdict:
    """Record how the trial is doing, and return what the scheduler says to the reports so far.

    *metrics*: numbers by name, NaN and infinity included; a single number is the objective. A
    number is what `float()` takes, such as a tensor with one element, and is no text.
    *step*: a whole number, such as the epoch; if None, the number of the report, from 1.

    When this returns, the report is on disk. It does not wait for the agent, so the verdict is
    the one that has arrived by now: after STOP or PAUSE end soon, or be ended.

    Raises :class:`sweepd.errors.JobError` if that is no report, or if the disk is full.
    """
    return _session.session().report(metrics, step)


def should_stop() -> bool:
    """Return whether the trial should end: the scheduler said stop or pause. Does not wait."""
    return _session.session().should_stop()


def checkpoint(step: int) -> AbstractContextManager[Path]:
    """Give a directory to write a checkpoint into; it counts once the `with` block has ended.

    After an error in the block the checkpoint before it is untouched. A step that is written
    again is replaced.
    """
    return _session.checkpoint(_session.session().checkpoints(), step)


def restore_dir() -> Path | None:
    """Return the directory of the checkpoint to go on from; None to begin at the beginning."""
    return _session.session().restore_dir()
