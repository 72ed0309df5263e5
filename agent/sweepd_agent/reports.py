"""The reports of one attempt, read from its `reports.ndjson` as they come.

The job appends whole lines and never waits for us; the file is the spool. Lines are read from
an offset, in order, and cut into `Reports` messages of bounded size.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from sweepd.messages import Number, Point, decode_number

CHUNK_BYTES = 64 * 1024  #: what one Reports message carries, unless a single line is longer
LINE_LIMIT_BYTES = 1024 * 1024  #: a longer line is nobody's report
POINT_LIMIT_BYTES = 128 * 1024  #: a report larger than this travels without its metrics

log = logging.getLogger("sweepd.agent")


class _Line(msgspec.Struct, frozen=True):
    ordinal: int
    step: int
    metrics: dict[str, Number]


_decoder = msgspec.json.Decoder(_Line)


class ReportTail:
    """Where the reading of one file stands. A file that does not exist yet has nothing to read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.points = 0  #: read since the start or the last `rewind`
        self._offset = 0
        self._ordinal = 0
        self._skipping = False  #: in the middle of a line that is too long

    def rewind(self) -> None:
        """Read everything again, for a coordinator that may have forgotten; it knows points by ordinal."""
        self.points = self._offset = self._ordinal = 0
        self._skipping = False

    @property
    def behind(self) -> bool:
        """Whether the file has grown past what was read (a line that is not complete counts)."""
        try:
            return self.path.stat().st_size > self._offset
        except OSError:
            return False

    def read(self) -> list[Point]:
        """Return the next points, at most about CHUNK_BYTES of them; empty when no whole line is left."""
        while lines := self._lines():
            if points := [point for line in lines if (point := self._point(line)) is not None]:
                self.points += len(points)
                return points
        return []

    def _lines(self) -> list[bytes]:
        """Return the next whole lines, each with its end; empty when there is none."""
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._complain(str(error), b"")
            return []
        try:
            return self._lines_of(handle)
        except OSError as error:
            self._complain(str(error), b"")
            return []
        finally:
            os.close(handle)

    def _lines_of(self, handle: int) -> list[bytes]:
        while True:
            data = os.pread(handle, CHUNK_BYTES, self._offset)
            end = data.rfind(b"\n") + 1
            if end == 0 and len(data) == CHUNK_BYTES:  # one long line, and nothing after it
                data = os.pread(handle, LINE_LIMIT_BYTES, self._offset)
                end = data.find(b"\n") + 1
            if end == 0 and len(data) == LINE_LIMIT_BYTES:
                if not self._skipping:
                    self._complain("longer than 1 MiB", data)
                self._skipping = True
                self._offset += len(data)
                continue
            self._offset += end
            lines = data[:end].splitlines(keepends=True)
            if not lines or not self._skipping:
                return lines
            self._skipping = False
            if len(lines) > 1:
                return lines[1:]

    def _point(self, line: bytes) -> Point | None:
        try:
            said = _decoder.decode(line)
            for value in said.metrics.values():
                decode_number(value)
        except (msgspec.DecodeError, ValueError) as error:
            self._complain(str(error), line)
            return None
        if said.ordinal <= self._ordinal:
            self._complain(f"ordinal {said.ordinal} comes after {self._ordinal}", line)
            return None
        self._ordinal = said.ordinal
        if len(line) > POINT_LIMIT_BYTES:
            self._complain(
                f"{len(line)} bytes, at most {POINT_LIMIT_BYTES} can be sent: its metrics are not", line
            )
            return Point(said.ordinal, said.step, {})
        return Point(said.ordinal, said.step, said.metrics)

    def _complain(self, reason: str, line: bytes) -> None:
        log.warning("report.unreadable file=%s reason=%s line=%r", self.path, reason, line[:200])
