"""What this agent still owes the coordinator, on disk: an end for every attempt it took.

`spool.ndjson` is a log with one line per change, in the order of the changes:

    {"token": t, "directory": d}               this attempt was taken: its end is owed
    {"token": t, "directory": d, "message": m}  this is its end (Finished, Decline): to be sent
    {"token": t}                                its end was acknowledged: nothing is owed

The first two are on disk (fsync) before the method returns. The last is not: if it is lost, the
end is sent once more and the coordinator ignores it. Reports are not in here: each attempt's
`reports.ndjson` is their spool.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path

import msgspec

from sweepd.messages import Decline, Finished

COMPACT_BYTES = 256 * 1024  #: a log larger than this, and four times what it must say, is rewritten


class Debt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line. Without a directory the debt is paid."""

    token: str
    directory: str = ""
    message: Finished | Decline | None = None


@dataclass(frozen=True, slots=True)
class Damage:
    """A line that could not be read: its number and its bytes (the last line after a power cut)."""

    line: int
    data: bytes


class Spool:
    """See the module. Its methods may be called from any thread.

    `take` and `put` raise OSError when the disk refuses (it is full, say); nothing is owed then.
    `forget` and the rewriting do not: what the disk did not take is repaired at the next start.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damages: list[Damage] = []
        self._lock = threading.Lock()
        self._owed: dict[str, Debt] = {}
        if path.exists():
            self._load()
        self._rewrite()

    @property
    def owed(self) -> list[Debt]:
        """What is owed, oldest first."""
        with self._lock:
            return list(self._owed.values())

    @property
    def size_bytes(self) -> int:
        return self._size

    def take(self, token: str, directory: Path) -> None:
        """Note durably that an end is owed for the attempt in *directory*."""
        self._write(Debt(token, str(directory)), durable=True)

    def put(self, message: Finished | Decline, directory: Path) -> None:
        """Keep the end of an attempt durably until it is acknowledged."""
        self._write(Debt(message.token, str(directory), message), durable=True)

    def forget(self, token: str) -> None:
        """The end of this attempt was acknowledged."""
        if token in self._owed:
            try:
                self._write(Debt(token), durable=False)
            except OSError:
                with self._lock:
                    self._apply(Debt(token))

    def close(self) -> None:
        os.close(self._handle)

    def _load(self) -> None:
        decoder = msgspec.json.Decoder(Debt)
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            try:
                self._apply(decoder.decode(line))
            except msgspec.DecodeError:
                self.damages.append(Damage(number, line))

    def _apply(self, debt: Debt) -> None:
        if debt.directory:
            self._owed[debt.token] = debt
        else:
            self._owed.pop(debt.token, None)

    def _write(self, debt: Debt, *, durable: bool) -> None:
        line = msgspec.json.encode(debt) + b"\n"
        with self._lock:
            try:
                _write_all(self._handle, line)
                if durable:
                    os.fdatasync(self._handle)
            except OSError:
                os.ftruncate(self._handle, self._size)  # half a line would spoil the next one
                raise
            self._size += len(line)
            self._apply(debt)
            if self._size > COMPACT_BYTES and self._size > 4 * len(self._owed_lines()):
                self._compact()

    def _compact(self) -> None:
        # The old file stays open until the new one is: a closed number soon belongs to a socket.
        old = self._handle
        try:
            self._rewrite()
        except OSError:
            return  # the old one says the same, at greater length
        os.close(old)

    def _owed_lines(self) -> bytes:
        return b"".join(msgspec.json.encode(debt) + b"\n" for debt in self._owed.values())

    def _rewrite(self) -> None:
        """Replace the log by one that says only what is owed, and open it."""
        lines = self._owed_lines()
        write_durably(self.path, lines)
        self._handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._size = len(lines)


def write_durably(path: Path, data: bytes) -> None:
    """Put *data* at *path* so that a power cut leaves the old file or the new one, never a part."""
    draft = path.with_name(path.name + ".draft")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _write_all(handle, data)
        os.fsync(handle)
    finally:
        os.close(handle)
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]
