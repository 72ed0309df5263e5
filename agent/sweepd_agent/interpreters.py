"""Whether the interpreter of a job has `sweepd`, and what it is given if it has not.

The SDK works with the standard library alone, so a job's environment needs nothing of ours. What
goes on its path is a directory with nothing in it but a link to our package: our own
site-packages there would put our versions of everything before the job's.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import sweepd
from sweepd.messages import Job

PROBE_S = 30.0  #: an interpreter on a slow network disk, at its first start
_PROBE = "import importlib.util, sys; sys.exit(importlib.util.find_spec('sweepd') is None)"

log = logging.getLogger("sweepd.agent")


class Interpreters:
    """Asks each interpreter once. *state*: the agent's state directory."""

    def __init__(self, state: Path) -> None:
        self._path = state / "path"
        self._known: dict[str, bool] = {}

    def sweepd_path(self, job: Job) -> Path | None:
        """Return what to put on the job's path; None if it needs nothing. Blocks: for a worker thread."""
        if job.python is None:
            return None
        python = _absolute(job)
        if python not in self._known:
            has_sweepd = python == sys.executable or _has_sweepd(python)
            if has_sweepd is None:
                return None  # the job cannot start either, and its launch says why
            log.info("interpreter.probed python=%s has_sweepd=%s", python, has_sweepd)
            self._known[python] = has_sweepd
        return None if self._known[python] else self._link()

    def _link(self) -> Path:
        package = Path(sweepd.__file__).parent
        link = self._path / "sweepd"
        if not link.is_symlink() or link.readlink() != package:
            self._path.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(package)
        return self._path


def _absolute(job: Job) -> str:
    """Return the interpreter as the job will find it: by PATH, or from its working directory."""
    python = job.python or sys.executable
    if "/" not in python:
        return shutil.which(python) or python
    return str(Path(job.workdir) / python)


def _has_sweepd(python: str) -> bool | None:
    """Ask the interpreter; None if it does not run."""
    try:
        # Isolated: PYTHONPATH of this agent is not the job's.
        code = subprocess.run([python, "-I", "-c", _PROBE], capture_output=True, timeout=PROBE_S).returncode
    except (OSError, subprocess.SubprocessError):
        return None
    return {0: True, 1: False}.get(code)
