"""From the spec's `scheduler` to the object that decides."""

from __future__ import annotations

from sweepd.spec import StudySpec
from sweepd_coordinator.schedulers.asha import Asha
from sweepd_coordinator.schedulers.base import RunToTheEnd, Scheduler


def build(spec: StudySpec) -> Scheduler:
    """Return the scheduler of a study whose spec has been checked."""
    wanted = spec.scheduler
    if wanted.type == "none":
        return RunToTheEnd()
    assert wanted.type == "asha", wanted.type  # spec.parse refuses every other name
    assert wanted.max is not None
    units = {"reports": "reports", "step": "steps"}
    return Asha(
        minimum=wanted.min,
        maximum=wanted.max,
        eta=wanted.eta,
        maximize=spec.objectives[0].direction == "maximize",
        unit=units.get(wanted.resource, wanted.resource),
    )
