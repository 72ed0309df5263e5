"""The job's end of the channel: newline-delimited JSON over the agent's unix socket.

No thread: the socket is read and written, without waiting, when the job calls. That keeps
`report()` at a few system calls, delivers a verdict at the first call after it arrived, and has
nothing that a fork could lose or that could hold up the end of the interpreter.

The agent may be away. Then nothing is sent: reports are in the reports file, and the agent says
its standing verdict again when the job comes back.
"""

from __future__ import annotations

import json
import os
import select
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

from sweepd.errors import JobError
from sweepd.states import Verdict

RECONNECT_S = 0.5
LINE_LIMIT = 1024 * 1024  #: what is longer than this without a newline comes from no agent

_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class Channel:
    """A lazy connection to the agent; thread-safe, but not across a fork."""

    def __init__(self, address: str, token: str) -> None:
        if not address.startswith("unix:"):
            raise JobError(f"the channel {address!r} is of no kind that this version of sweepd knows")
        self._path = address[len("unix:") :]
        self._token = token
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._retry_at = 0.0
        self._input = b""
        self._output = b""  # the rest of a line that the socket did not take
        self._wake = 0  # the ordinal that the agent should hear of and did not
        self._verdict = Verdict.CONTINUE
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def reported(self, ordinal: int) -> Verdict:
        """Wake the agent for the reports up to *ordinal*; return the verdict as it stands. Never waits."""
        with self._lock:
            self._wake = ordinal
            self._exchange()
            return self._verdict

    def verdict(self) -> Verdict:
        """Return the verdict as it stands. Never waits."""
        with self._lock:
            self._exchange()
            return self._verdict

    def suggest(self, name: str, distribution: Mapping[str, Any]) -> Any:
        """Ask for the value of the parameter *name*, and wait for it as long as it takes.

        *distribution* has the shape of a parameter in a study file. A question that was on its
        way when the agent went is asked again. Raises :class:`JobError` with the agent's error.
        """
        with self._lock:
            self._asked += 1
            asked = self._asked
        question = {"type": "suggest", "id": asked, "name": name, "distribution": dict(distribution)}
        told: socket.socket | None = None
        while True:
            with self._lock:
                self._exchange()
                answer = self._answers.pop(asked, None)
                connection = self._socket
                if answer is None and connection is not None and connection is not told:
                    self._output += _line(question)
                    self._exchange()
                    told = connection
            if answer is not None:
                if answer.get("error"):
                    raise JobError(f"no value for the parameter {name!r}: {answer['error']}")
                return answer.get("value")
            # Another thread may read the answer, hence never longer than this.
            _wait(connection, bool(self._output), 0.1)

    def close(self) -> None:
        """Let go of the socket; what comes after it connects again."""
        with self._lock:
            self._disconnect()

    # --- under the lock ------------------------------------------------------------------------

    def _exchange(self) -> None:
        """Send what is to be sent and take what has arrived."""
        if self._socket is None and not self._connect():
            return
        self._send()
        self._receive()

    def _connect(self) -> bool:
        now = time.monotonic()
        if now < self._retry_at:
            return False
        self._retry_at = now + RECONNECT_S
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.setblocking(False)
        try:
            connection.connect(self._path)
        except OSError:
            connection.close()
            return False
        self._socket = connection
        self._input = b""
        self._output = _line({"type": "job", "token": self._token, "pid": os.getpid()})
        return True

    def _send(self) -> None:
        if self._wake and not self._output:
            self._output = b'{"type":"reported","ordinal":%d}\n' % self._wake
            self._wake = 0
        while self._output and self._socket is not None:
            try:
                sent = self._socket.send(self._output, _NO_SIGNAL)
            except BlockingIOError:
                return  # The agent is busy; the file has everything, and the next call tries again.
            except OSError:
                self._disconnect()
                return
            self._output = self._output[sent:]
            if not self._output and self._wake:
                self._send()

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(65536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data or len(self._input) > LINE_LIMIT:
                self._disconnect()
                return
            *lines, self._input = (self._input + data).split(b"\n")
            for line in lines:
                self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            kind = message["type"]
            if kind == "verdict":
                self._verdict = Verdict(message["verdict"])
            elif kind == "suggested":
                self._answers[message["id"]] = message
        except (ValueError, KeyError, TypeError):
            pass  # A newer agent says more than we understand.

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._input = self._output = b""


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _wait(connection: socket.socket | None, writing: bool, timeout_s: float) -> None:
    if connection is None:
        time.sleep(timeout_s)
        return
    poller = select.poll()
    try:
        poller.register(connection, select.POLLIN | (select.POLLOUT if writing else 0))
    except ValueError:
        return  # Another thread closed it: the caller connects again.
    poller.poll(timeout_s * 1000)
