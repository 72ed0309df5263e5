"""The state directory: what `sweepd run` and `sweepd up` keep on this machine.

| name         | what                                                                    |
|--------------|-------------------------------------------------------------------------|
| `.gitignore` | `*`: nothing in here belongs into a repository                          |
| `lock`       | flock of the one process that runs the store; says who that is          |
| `store.json` | where the store can be reached, while it runs                           |
| `store/`     | the data of the embedded store                                          |
| `agent/`     | the agent's own state: the directories of the attempts, with their logs |
| `logs/`      | what the store, the coordinator and the agent wrote                     |
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import msgspec

from sweepd.errors import UsageError

DEFAULT_STATE = ".sweepd"
SOCKET_PATH_LIMIT = 100  #: bytes; the kernel takes 107 (Linux) or 103 (macOS)


class Purpose(str, Enum):
    """Why somebody holds the lock."""

    RUN = "run"
    UP = "up"
    READ = "read"  #: the store runs only for the moment of reading: nobody else should lean on it


class Holder(msgspec.Struct, frozen=True):
    """Who holds the lock of a state directory."""

    pid: int
    purpose: Purpose


class Locked(UsageError):
    """Another process uses the state directory."""

    def __init__(self, directory: Path, holder: Holder | None) -> None:
        self.directory, self.holder = directory, holder
        if holder is None:
            who, remedy = "another process", "wait for it"
        else:
            who = f"process {holder.pid} (sweepd {holder.purpose.value})"
            remedy = f"wait for it, stop it (kill {holder.pid})"
            if holder.purpose is Purpose.UP:
                remedy = f"give it the study (sweepd submit FILE), stop it (kill {holder.pid})"
        super().__init__(
            f"{directory} is in use by {who}: {remedy}, "
            "or give this one a directory of its own with --state DIR"
        )


@dataclass(frozen=True)
class StateDirectory:
    """Names of the things in a state directory; `path` is absolute."""

    path: Path

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> StateDirectory:
        """Return the state directory at *path*, which need not exist."""
        return cls(Path(path).expanduser().absolute())

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def store_file(self) -> Path:
        return self.path / "store.json"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def agent(self) -> Path:
        return self.path / "agent"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def has_data(self) -> bool:
        """Whether an embedded store ever kept something here."""
        return (self.store / "appendonlydir").is_dir()

    def create(self) -> None:
        """Make the directory and its `.gitignore`; raises UsageError if that cannot be."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
            ignore = self.path / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
        except OSError as error:
            raise UsageError(
                f"cannot keep state in {self.path}: {error.strerror}; choose another place with --state DIR"
            ) from error

    @contextmanager
    def lock(self, purpose: Purpose, patience_s: float = 10.0) -> Generator[None, None, None]:
        """Hold the lock of the directory, which must exist.

        Waits up to *patience_s* for somebody who only reads; raises :class:`Locked` at once when
        the directory is in use for longer work.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire(descriptor, time.monotonic() + patience_s)
            holder = msgspec.json.encode(Holder(os.getpid(), purpose))
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, holder, 0)
            yield
        finally:
            os.close(descriptor)

    def _acquire(self, descriptor: int, deadline: float) -> None:
        while True:
            try:
                return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = _holder(descriptor)
                brief = holder is None or holder.purpose is Purpose.READ
                if not brief or time.monotonic() >= deadline:
                    raise Locked(self.path, holder) from None
                time.sleep(0.05)


def _holder(descriptor: int) -> Holder | None:
    """Read who holds the lock; None while that is being written."""
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except msgspec.MsgspecError:
        return None


def socket_path(directory: Path, name: str) -> Path:
    """Return where the socket *name* of *directory* lies: there, or in /tmp if that path is too long.

    Raises UsageError if the folder in /tmp is somebody else's.
    """
    path = directory / name
    if len(os.fsencode(path)) < SOCKET_PATH_LIMIT:
        return path
    folder = Path(tempfile.gettempdir()) / f"sweepd-{os.getuid()}"
    if len(os.fsencode(folder)) >= SOCKET_PATH_LIMIT - 30:
        folder = Path("/tmp") / folder.name
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != os.getuid() or not stat.S_ISDIR(status.st_mode) or status.st_mode & 0o077:
        raise UsageError(
            f"the path {path} is too long for a socket and {folder} is not a private folder of yours: "
            "remove it, or choose a shorter --state DIR"
        )
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return folder / f"{digest}.sock"
