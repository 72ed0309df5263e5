"""How the program of a job ends: `result.json`, and the errors that lead there."""

from __future__ import annotations

import json
import os
import sysconfig
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweepd.errors import JobError

RESULT = "result.json"
ERROR_LIMIT = 64 * 1024

_OURS = str(Path(__file__).parent) + os.sep


class BadConfig(JobError):
    """The study, the program and this interpreter do not fit together: change one of them."""


class Diverged(JobError):
    """The objective is not a number."""


def write(directory: Path, result: Mapping[str, Any]) -> None:
    """Put `result.json` into the attempt's *directory*, whole and on disk; raises OSError."""
    temporary = directory / (RESULT + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(result, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(directory / RESULT)


def failure(error: BaseException) -> dict[str, Any]:
    """Return the part of a result that tells of *error*: its text and its class of failure."""
    text = describe(error)
    return {"error": text[-ERROR_LIMIT:], "class": classify(error)}


def classify(error: BaseException) -> str:
    """Return the :class:`sweepd.states.FailureClass` of *error*, as its value."""
    if isinstance(error, Diverged):
        return "diverged"
    if isinstance(error, BadConfig):
        return "bad_config"
    if type(error).__name__ == "OutOfMemoryError" or "CUDA out of memory" in str(error):
        return "gpu_oom"  # torch.cuda.OutOfMemoryError, without importing torch to ask
    return "oom" if isinstance(error, MemoryError) else "crashed"


def describe(error: BaseException) -> str:
    """Return the traceback of *error* without our own frames; the message alone if it is our error."""
    told = traceback.TracebackException.from_exception(error)
    _trim(told)
    if isinstance(error, JobError):
        # Where the author's code called us; what happened in between is no news to anybody.
        where = [frame for frame in told.stack if not _is_library(frame.filename)]
        return "".join([*traceback.format_list(where), f"{error}"])
    return "".join(told.format()).rstrip()


def _trim(told: traceback.TracebackException) -> None:
    seen: set[int] = set()
    waiting: list[traceback.TracebackException | None] = [told]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        one.stack = traceback.StackSummary.from_list(
            [frame for frame in one.stack if not _is_ours(frame.filename)]
        )
        waiting += [one.__cause__, one.__context__]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OURS, "<frozen importlib", "<frozen runpy"))


def _is_library(filename: str) -> bool:
    """Return whether the file was installed with this interpreter or into it."""
    places = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return filename.startswith(tuple(place + os.sep for place in places))
