"""What the tests of attempts share: an agent that only listens, and directories of attempts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from waiting import wait_until

from sweepd import processes

SUPERVISE = [sys.executable, "-I", "-m", "sweepd_agent.supervise"]

Message = dict[str, Any]


class Line:
    """One connection to the agent, and what came through it."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.received: list[Message] = []
        self.closed = False

    def send(self, message: Message) -> None:
        self._connection.sendall(json.dumps(message).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def cut(self) -> None:
        self._connection.shutdown(socket.SHUT_RDWR)

    def read(self, on_message: Callable[[Line, Message], None]) -> None:
        try:
            for line in self._connection.makefile("rb"):
                message = json.loads(line)
                self.received.append(message)
                on_message(self, message)
        except OSError:
            pass
        self.closed = True
        self._connection.close()


class Agent:
    """The agent's end of the channel. Whoever connects is in `lines`, oldest first.

    `answer`: called with each question for a parameter; None leaves it unanswered.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[Line] = []
        self.answer: Callable[[Message], Message | None] = lambda _: None
        self._server: socket.socket | None = None
        self.listen()

    def listen(self) -> None:
        self._server = server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.bind(str(self.path))
        server.listen(64)
        threading.Thread(target=self._accept, args=(server,), daemon=True).start()

    def go_away(self) -> None:
        """Cut all connections and listen no more."""
        assert self._server is not None
        self.path.unlink(missing_ok=True)
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for line in self.lines:
            if not line.closed:
                line.cut()

    def of(self, kind: str) -> list[Line]:
        """Return the connections that began as *kind*, job or supervisor."""
        return [line for line in self.lines if line.received and line.received[0]["type"] == kind]

    def next(self, kind: str, count: int = 1) -> Line:
        """Wait for the *count*-th connection of a *kind*."""
        return wait_until(lambda: self.of(kind)[count - 1 : count], describe=lambda: self.lines)[0]

    def _accept(self, server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            line = Line(connection)
            self.lines.append(line)
            threading.Thread(target=line.read, args=(self._heard,), daemon=True).start()

    def _heard(self, line: Line, message: Message) -> None:
        if message["type"] == "suggest" and (answer := self.answer(message)) is not None:
            line.send({"type": "suggested", "id": message["id"], **answer})


class Attempts:
    """Makes directories of attempts below *home* and ends what they leave behind."""

    def __init__(self, home: Path, workdir: Path, channel: Path) -> None:
        self._home, self.workdir, self._channel = home, workdir, channel
        self.made: list[Path] = []

    def make(
        self,
        kind: str,
        target: str | list[str],
        params: Message | None = None,
        *,
        objectives: list[list[str]] | None = None,
        grace_s: float = 5.0,
        devices: list[str] | None = None,
        sweepd_path: str | None = None,
        **job: Any,
    ) -> Path:
        directory = self._home / str(len(self.made))
        directory.mkdir(mode=0o700)
        self.made.append(directory)
        attempt: Message = {
            "study": "s1",
            "study_name": "digits",
            "trial": 7,
            "attempt": 1,
            "token": f"token-{len(self.made)}",
            "params": params or {},
            "declared": True,
            "job": {
                "kind": kind,
                "target": target,
                "args": {},
                "python": None,
                "workdir": str(self.workdir),
                "env": {},
                "executor": "process",
                "objectives": objectives if objectives is not None else [["loss", "minimize"]],
                "time_limit_s": None,
                **job,
            },
            "devices": devices or [],
            "channel": f"unix:{self._channel}",
            "directory": str(directory),
            "stop_grace_s": grace_s,
            "kill_grace_s": grace_s,
        }
        if sweepd_path is not None:
            attempt["sweepd_path"] = sweepd_path
        (directory / "attempt.json").write_text(json.dumps(attempt))
        return directory

    def shell(self, script: str, **settings: Any) -> Path:
        return self.make("command", ["sh", "-c", script], **settings)

    def program(self, name: str, text: str) -> Path:
        """Write a file into the working directory."""
        path = self.workdir / name
        path.write_text(text)
        return path


def supervise(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*SUPERVISE, str(directory), *options], start_new_session=True)


def run(directory: Path, timeout_s: float = 30.0) -> Message:
    """Supervise the attempt to its end and return its exit.json."""
    with supervise(directory) as supervisor:
        supervisor.wait(timeout_s)
    return end_of(directory)


def end_of(directory: Path, timeout_s: float = 30.0) -> Message:
    """Wait for exit.json and return it; nothing of the attempt may be left then."""
    path = directory / "exit.json"
    wait_until(path.exists, timeout_s, lambda: (sorted(directory.iterdir()), output(directory)))
    wait_until(lambda: not left(directory), describe=lambda: left(directory))
    return json.loads(path.read_text())


def left(directory: Path) -> list[str]:
    """Return the commands of all processes that belong to the attempt."""
    commands: list[str] = []
    for process in processes.marked("SWEEPD_ATTEMPT", str(directory / "attempt.json")):
        try:
            commands.append(Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " "))
        except OSError:
            pass
    return commands


def output(directory: Path) -> str:
    path = directory / "output.log"
    return path.read_text(errors="replace") if path.exists() else ""


def result_of(directory: Path) -> Message:
    return json.loads((directory / "result.json").read_text())


def reports_of(directory: Path) -> list[Message]:
    path = directory / "reports.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def wait_for_output(directory: Path, text: str) -> None:
    wait_until(lambda: text in output(directory), 30.0, lambda: output(directory))


def kill(process: subprocess.Popen[bytes], signum: int) -> None:
    os.kill(process.pid, signum)
