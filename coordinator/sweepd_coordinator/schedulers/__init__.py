"""How far to run each trial. Pure: reports in, decisions out; state is rebuilt from records."""

from sweepd_coordinator.schedulers.asha import Asha
from sweepd_coordinator.schedulers.base import CONTINUE, Decision, RunToTheEnd, Scheduler
from sweepd_coordinator.schedulers.registry import build

__all__ = ["CONTINUE", "Asha", "Decision", "RunToTheEnd", "Scheduler", "build"]
