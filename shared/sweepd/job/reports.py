"""The reports file of an attempt: what was reported is on disk before `report()` returns.

One line per report, `{"ordinal", "step", "metrics", "at"}`, appended by one write. Several
processes may report (the ranks of a distributed job), so every append happens under a lock on
the file, and the ordinal goes on from the last whole line, whoever wrote it.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union

from sweepd.errors import JobError

LINE_LIMIT = 64 * 1024

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


class ReportsFile:
    """Appends to `reports.ndjson`. For one thread at a time, and not across a fork."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._end = 0  # the file has been read to here,
        self._ordinal = 0  # and this is the ordinal of the last line before

    def append(self, metrics: Mapping[str, Any], step: int | None) -> int:
        """Append one report and return its ordinal, from 1.

        *step* is the ordinal if it is None. Raises :class:`JobError` and leaves the file as it
        was if the report is no report or cannot be written.
        """
        encoded = encode_metrics(metrics)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        try:
            end = os.fstat(self._file).st_size
            if end != self._end:
                end = self._catch_up(end)
            ordinal = self._ordinal + 1
            line = _encode(
                {
                    "ordinal": ordinal,
                    "step": ordinal if step is None else step,
                    "metrics": encoded,
                    "at": time.time(),
                }
            ).encode()
            if len(line) >= LINE_LIMIT:
                raise JobError(f"a report of {len(line)} bytes is too long: at most {LINE_LIMIT}")
            self._write(line + b"\n", end)
            self._ordinal, self._end = ordinal, end + len(line) + 1
        finally:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        return ordinal

    def _catch_up(self, size: int) -> int:
        """Count the lines that others wrote, cut off one that a dead writer left unfinished."""
        start = self._end if size > self._end else 0
        data = os.pread(self._file, size - start, start)
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.ftruncate(self._file, start + whole)
        self._ordinal = (self._ordinal if start else 0) + data.count(b"\n")
        self._end = start + whole
        return self._end

    def _write(self, line: bytes, end: int) -> None:
        try:
            written = os.write(self._file, line)
        except OSError as error:
            raise self._unwritable(error.strerror) from error
        if written != len(line):
            os.ftruncate(self._file, end)
            raise self._unwritable("the disk is full")

    def _unwritable(self, reason: str | None) -> JobError:
        return JobError(
            f"the report cannot be written to {self._path}: {reason}; "
            "make room on the disk of the agent's state directory"
        )


def encode_metrics(metrics: Mapping[str, Any]) -> dict[str, Union[float, str]]:
    """Return *metrics* as JSON can carry them; raises :class:`JobError` if they are no metrics."""
    if not isinstance(metrics, Mapping):
        raise JobError(f"metrics must be a dict of numbers by name, not {type(metrics).__name__}")
    if not metrics:
        raise JobError("a report needs at least one metric")
    return {_name(name): encode_number(name, value) for name, value in metrics.items()}


def encode_number(name: str, value: Any) -> Union[float, str]:
    """Return the number *value* as JSON can carry it; whatever `float()` takes is one, text is not.

    The names of those that are not finite are those of `sweepd.messages.encode_number`, which a
    job cannot import. Raises :class:`JobError` that calls the value *name*.
    """
    try:
        if isinstance(value, (str, bytes)):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise JobError(f"{name} must be a number, not {value!r:.80}") from error
    if math.isfinite(number):
        return number
    return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name:
        raise JobError(f"the name of a metric must be text, not {name!r:.80}")
    return name
