"""Files that a supervisor writes: whole or not at all. The standard library only."""

# No pathlib here: it costs 3 ms at the start of every attempt.
# ruff: noqa: PTH105, PTH118
from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from typing import Any

RESERVE_BYTES = 16 * 1024
PATIENCE_S = 60.0

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC


def write_file(directory: str, name: str, record: Mapping[str, Any]) -> None:
    """Put *record* into the file *name*; raises OSError."""
    temporary = os.path.join(directory, name + ".tmp")
    file = os.open(temporary, _FLAGS, 0o600)
    try:
        _fill(file, record)
    finally:
        os.close(file)
    os.replace(temporary, os.path.join(directory, name))


class ExitFile:
    """The exit.json of a *directory*: durable, and as certain as can be on a disk that fills up."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, "exit.json")
        self._file: int | None = None

    def reserve(self) -> None:
        """Take the space while there is some: a job that fills the disk must not lose its own end."""
        try:
            os.posix_fallocate(self._open(), 0, RESERVE_BYTES)
        except OSError:
            pass  # Writing it may still work; if not, it is tried for a minute.

    def write(self, record: Mapping[str, Any]) -> None:
        """Write *record*; raises OSError if that fails for PATIENCE_S."""
        give_up_at = time.monotonic() + PATIENCE_S
        pause_s = 0.01
        while True:
            try:
                self._write(record)
            except OSError:
                if time.monotonic() >= give_up_at:
                    raise
                time.sleep(pause_s)
                pause_s = min(pause_s * 2, 1.0)
            else:
                return

    def _write(self, record: Mapping[str, Any]) -> None:
        file = self._open()
        _fill(file, record)
        os.fsync(file)
        os.replace(self._path + ".tmp", self._path)
        os.close(file)
        self._file = None
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path + ".tmp", _FLAGS, 0o600)
        return self._file


def _fill(file: int, record: Mapping[str, Any]) -> None:
    data = json.dumps(record).encode()
    if os.pwrite(file, data, 0) != len(data):
        raise OSError("short write")
    os.ftruncate(file, len(data))
