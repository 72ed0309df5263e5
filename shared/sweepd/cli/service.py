"""The whole of sweepd on this machine: a store, a coordinator and an agent as child processes.

Each has a session of its own, so that Ctrl-C reaches only the one who started them; each ends
when that one ends, however it dies (`tether.py`); each writes its own log.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sweepd.cli.connect import Where
from sweepd.cli.interrupts import OutAtOnce
from sweepd.embedded import EmbeddedStore, running_store
from sweepd.errors import SweepdError, UsageError
from sweepd.statedir import Purpose, StateDirectory
from sweepd.tether import tethered

COORDINATOR = "sweepd_coordinator"
AGENT = "sweepd_agent"
DISTRIBUTIONS = {COORDINATOR: "sweepd-coordinator", AGENT: "sweepd-agent"}

RESTARTS = 3  #: of each daemon
AGENT_STOP_S = 30.0  #: its attempts have a grace period, then the agent says goodbye
STOP_S = 10.0
LOG_LINES = 15

_USAGE_EXIT = 2  #: a daemon that does not like its options will not like them better next time


class DaemonDied(SweepdError):
    """A part of sweepd ended, again and again."""


def module_command(module: str, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a daemon; raises UsageError if it is not installed.

    `-P`: the files of the directory that one happens to be in are not modules of the daemon.
    """
    if importlib.util.find_spec(module) is None:
        dist = DISTRIBUTIONS[module]
        raise UsageError(f"{dist} is not installed for {sys.executable}: `pip install {dist}`")
    return [sys.executable, "-P", "-m", module, *arguments]


@dataclass
class Daemon:
    """A child process that is started again when it dies. `log` is appended to."""

    name: str
    command: list[str]
    log: Path
    stop_s: float = STOP_S
    restarts: int = 0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tethered(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # One port cannot serve two daemons.
                env={name: value for name, value in os.environ.items() if name != "SWEEPD_METRICS_PORT"},
            )

    def end(self) -> int | None:
        """Return its exit code (minus a signal's number); None while it runs."""
        return None if self.process is None else self.process.poll()

    def ask_to_stop(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def stop(self) -> None:
        """Wait for its end after `ask_to_stop`; kill it when it takes too long."""
        if self.process is None:
            return
        try:
            self.process.wait(self.stop_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.process = None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def last_lines(self) -> str:
        """Return the end of its log, indented."""
        with self.log.open("rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - 64 * 1024))
            lines = log.read().decode(errors="replace").splitlines()[-LOG_LINES:]
        return "\n".join(f"  {line}" for line in lines)


class Service:
    """A store (embedded unless *redis* is given), a coordinator, and an agent if *slots* is not 0.

    *slots* None lets the agent choose. The caller holds the lock of *directory*. *notice* is told
    what a person should know: that a part was started again.
    """

    def __init__(
        self,
        directory: StateDirectory,
        purpose: Purpose,
        *,
        redis: str | None = None,
        namespace: str = "sweepd",
        slots: int | None = None,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._notice = notice
        self._store = None if redis else EmbeddedStore(directory, purpose)
        self._store_restarts = 0
        self.url = redis or EmbeddedStore(directory, purpose).url
        common = ["--redis", self.url, "--namespace", namespace]
        self._coordinator = Daemon(
            "coordinator", module_command(COORDINATOR, common), directory.logs / "coordinator.log"
        )
        self._daemons = [self._coordinator]
        if slots != 0:
            chosen = [] if slots is None else ["--slots", str(slots)]
            command = module_command(AGENT, [*common, "--state", str(directory.agent), *chosen])
            self._daemons.append(Daemon("agent", command, directory.logs / "agent.log", AGENT_STOP_S))

    def start(self) -> None:
        """Start everything; the store answers then, the daemons may still be on their way."""
        if self._store is not None:
            self._store.start()
        for daemon in self._daemons:
            daemon.start()

    def check(self) -> None:
        """Start again what died. Raises DaemonDied with its last words after the third time."""
        if self._store is not None and not self._store.alive:
            self._store_restarts += 1
            if self._store_restarts > RESTARTS:
                raise DaemonDied(f"the embedded store keeps ending: look at {self._store.log}")
            self._notice("the embedded store ended; starting it again, nothing is lost")
            self._store.start()
        for daemon in self._daemons:
            code = daemon.end()
            if code is None:
                continue
            how = f"killed by signal {-code}" if code < 0 else f"exit {code}"
            if code == _USAGE_EXIT or daemon.restarts >= RESTARTS:
                raise DaemonDied(
                    f"the {daemon.name} ended ({how}):\n{daemon.last_lines()}\nlog: {daemon.log}"
                )
            daemon.restarts += 1
            self._notice(
                f"the {daemon.name} ended ({how}); starting it again ({daemon.restarts} of {RESTARTS})"
            )
            daemon.start()

    def stop(self) -> None:
        """Take everything down: the agent first, which tells the coordinator how its attempts ended."""
        for daemon in reversed(self._daemons):
            daemon.ask_to_stop()
            daemon.stop()
        if self._store is not None:
            self._store.stop()

    def kill(self) -> None:
        """End everything by SIGKILL; the jobs that the agent leaves behind are the caller's."""
        for daemon in reversed(self._daemons):
            daemon.kill()
        if self._store is not None:
            self._store.kill()

    def __enter__(self) -> Service:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, OutAtOnce):
            self.kill()
        else:
            self.stop()


@contextmanager
def resting_service(where: Where) -> Generator[str | None, None, None]:
    """Run the store and a coordinator for the moment, if a state directory rests; yield the URL.

    Yields None if there is a store that runs, or nothing to start.
    """
    directory = where.directory
    if where.redis or running_store(directory) or not directory.has_data:
        yield None
        return
    with contextlib.ExitStack() as stack:
        stack.enter_context(directory.lock(Purpose.READ))
        service = Service(directory, Purpose.READ, namespace=where.namespace, slots=0)
        yield stack.enter_context(service).url
