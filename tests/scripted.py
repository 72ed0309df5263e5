"""A coordinator that says what a test tells it to, and an agent as a real process.

coordinator = ScriptedCoordinator(server)
with agent_process(server, state) as agent:
    coordinator.welcome()
    coordinator.say(assign("t1", command("print('hello')")))
    end = coordinator.hear(Finished)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from servers import RedisServer
from waiting import wait_until

from sweepd.keys import Keys
from sweepd.messages import (
    AgentBatch,
    AgentMessage,
    Assign,
    CoordinatorMessage,
    Hello,
    Job,
    OutboxEntry,
    Point,
    Reports,
    Resources,
    Welcome,
    decode_envelope,
    encode,
)
from sweepd.tether import tethered

Message = TypeVar("Message", bound=AgentMessage)


class ScriptedCoordinator:
    """Keeps one agent's session as the real one does; what it says is up to the test.

    `heard`: every message of the current session, once and in order. `batches`: every inbox
    entry as it came. `silent`: read, but acknowledge nothing.
    """

    def __init__(self, server: RedisServer, agent: str = "a1", namespace: str = "sweepd") -> None:
        self.agent, self.keys = agent, Keys(namespace)
        self.heard: list[AgentMessage] = []
        self.batches: list[AgentBatch] = []
        self.session = ""
        self.silent = False
        self._client = server.client()
        self._cursor = "0-0"
        self._seq = self._number = self._handed_out = 0

    def close(self) -> None:
        self._client.close()

    def reconnect(self, server: RedisServer) -> None:
        """Go on after the server was away."""
        self._client = server.client()

    def read(self) -> None:
        """Take what is in the inbox and acknowledge it."""
        for number, fields in cast(Any, self._client.xrange(self.keys.inbox, f"({self._cursor}")):
            self._cursor = number.decode()
            batch = decode_envelope(fields[b"e"])
            assert isinstance(batch, AgentBatch)
            self.batches.append(batch)
            if isinstance(batch.messages[0], Hello) and batch.session != self.session:
                self.session, self._seq = batch.session, 0
                self._handed_out = 0
                self.heard = []
            if batch.session != self.session:
                continue
            if batch.first_seq > self._seq + 1:
                self.say(resend_from=self._seq + 1)
                continue
            fresh = batch.messages[self._seq + 1 - batch.first_seq :]
            self._seq += len(fresh)
            self.heard += fresh
            if not self.silent:
                self.say()

    def say(self, *messages: CoordinatorMessage, resend_from: int | None = None, session: str = "") -> None:
        """Write one outbox entry, with the acknowledgement of everything heard."""
        acknowledged = 0 if self.silent else self._seq
        told = session or self.session
        self.say_raw(
            encode(OutboxEntry(self._number + 1, told, acknowledged, list(messages), resend_from=resend_from))
        )

    def say_raw(self, data: bytes) -> None:
        """Write anything into the agent's outbox."""
        self._number += 1
        self._client.xadd(self.keys.outbox(self.agent), {"e": data}, id=f"{self._number}-0")

    def hear(
        self, kind: type[Message], where: Callable[[Message], bool] = lambda _: True, timeout_s: float = 20.0
    ) -> Message:
        """Return the first message of *kind* that was not handed out before, waiting for it.

        What came before it counts as handed out.
        """

        def found() -> bool:
            self.read()
            for index in range(self._handed_out, len(self.heard)):
                message = self.heard[index]
                if isinstance(message, kind) and where(message):
                    self._handed_out = index + 1
                    return True
            return False

        wait_until(found, timeout_s, lambda: f"{kind.__name__} among {self.heard[self._handed_out :]}")
        return cast(Message, self.heard[self._handed_out - 1])

    def welcome(self, run: Sequence[str] = (), lease_ttl_s: float = 30.0, timeout_s: float = 20.0) -> Hello:
        """Wait for the Hello of the agent's next session and welcome it."""
        hello = self.hear(Hello, timeout_s=timeout_s)
        self.say(Welcome(1, list(run), lease_ttl_s))
        return hello

    def points(self, token: str) -> list[Point]:
        """Return all points of an attempt that were heard so far, in order."""
        self.read()
        reports = [said for said in self.heard if isinstance(said, Reports) and said.token == token]
        return [point for said in reports for point in said.points]


def script(code: str, **options: Any) -> Job:
    """Return the job that runs *code* as a plain process."""
    options = {"executor": "process", "workdir": "/tmp", **options}
    return Job("command", [sys.executable, "-c", code], **options)


def assign(token: str, job: Job, *, trial: int = 0, attempt: int = 1, **options: Any) -> Assign:
    """Return an assignment of the study `s1`."""
    resources = options.pop("resources", Resources())
    params = options.pop("params", {"lr": 0.1})
    return Assign(1, "s1", "study", trial, attempt, token, params, job, resources, **options)


class AgentProcess:
    """A running `python -m sweepd_agent`."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process, self._output = process, output

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Return what it wrote so far."""
        return self._output.read_text(errors="replace")

    def says(self, text: str, timeout_s: float = 20.0) -> str:
        """Wait until its log has a line with *text*, and return the line."""

        def line() -> str:
            return next((line for line in self.log().splitlines() if text in line), "")

        return wait_until(line, timeout_s, self.log)

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = 20.0) -> int:
        """Return its exit code once it has ended."""
        wait_until(lambda: self.process.poll() is not None, timeout_s, self.log)
        return self.process.returncode


@contextmanager
def agent_process(
    server: RedisServer | str,
    state: Path,
    *options: str,
    id: str = "a1",
    slots: int | None = 2,
    devices: str | None = "none",
    nemo_python: str = "/nonexistent/python",
    environment: Mapping[str, str] | None = None,
) -> Generator[AgentProcess]:
    """Run an agent on *state*; at the end it is killed together with what it still runs."""
    url = server if isinstance(server, str) else server.url
    arguments = ["--redis", url, "--state", str(state), "--id", id]
    # Warming the launcher up would take a second of every test.
    arguments += ["--nemo-python", nemo_python]
    arguments += [] if slots is None else ["--slots", str(slots)]
    arguments += [] if devices is None else ["--devices", devices]
    arguments += options
    state.parent.mkdir(parents=True, exist_ok=True)
    output = state.parent / f"{state.name}.log"
    with output.open("ab") as file:
        process = subprocess.Popen(
            tethered([sys.executable, "-m", "sweepd_agent", *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, **(environment or {})},
        )
    agent = AgentProcess(process, output)
    try:
        yield agent
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to stop, and then to hurry: nobody may be there to hear its farewell."""
    for patience_s in (0.3, 15.0):
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=patience_s)
            return
    process.kill()
    process.wait()
    raise AssertionError("the agent did not end when it was asked twice")
