"""What a job knows of its attempt: the file that SWEEPD_ATTEMPT names."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweepd.errors import JobError

VARIABLE = "SWEEPD_ATTEMPT"


class Attempt(NamedTuple):
    """One attempt of a trial, as its agent wrote it down before the start."""

    directory: Path
    study_name: str
    trial: int
    token: str
    params: Mapping[str, Any]
    channel: str  #: unix:PATH
    target: Any  #: FILE.py:NAME or MODULE:NAME; the argv of a command
    args: Mapping[str, Any]
    workdir: Path
    objectives: tuple[tuple[str, str], ...]  #: (metric, direction) in the study's order
    restore: Path | None  #: the checkpoint directory to go on from


def load() -> Attempt | None:
    """Return the attempt that this process belongs to; None outside a job.

    Raises :class:`JobError` if SWEEPD_ATTEMPT names no attempt.
    """
    path = os.environ.get(VARIABLE)
    if not path:
        return None
    try:
        data = json.loads(Path(path).read_bytes())
        job = data["job"]
        return Attempt(
            directory=Path(data["directory"]),
            study_name=data["study_name"],
            trial=data["trial"],
            token=data["token"],
            params=data["params"],
            channel=data["channel"],
            target=job["target"],
            args=job.get("args", {}),
            workdir=Path(job["workdir"]),
            objectives=tuple((metric, direction) for metric, direction in job["objectives"]),
            restore=Path(data["restore"]) if data.get("restore") else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise JobError(
            f"{VARIABLE}={path} names no attempt of sweepd ({type(error).__name__}: {error}); "
            "unset it to run this program on its own"
        ) from error
