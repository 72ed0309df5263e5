"""The supervisor's end of the channel. The standard library only."""

from __future__ import annotations

import json
import socket
from typing import Any

RECONNECT_S = 1.0
#: A stop order is some forty bytes; who sends more without a newline is no agent of ours.
LINE_LIMIT = 64 * 1024


class AgentLine:
    """The connection to the agent's channel; gone and back again as the agent is."""

    def __init__(self, address: str, hello: dict[str, Any]) -> None:
        self._path = address.removeprefix("unix:")
        self._hello = json.dumps(hello).encode() + b"\n"
        self._socket: socket.socket | None = None
        self._input = b""
        self.retry_at = 0.0

    @property
    def file(self) -> socket.socket | None:
        return self._socket

    def connect(self, now: float) -> None:
        """Connect if that is due; otherwise, or if nobody listens, change nothing but the time."""
        if self._socket is not None or now < self.retry_at:
            return
        self.retry_at = now + RECONNECT_S
        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)
        try:
            line.connect(self._path)
            line.send(self._hello)
        except OSError:
            line.close()
            return
        self._socket, self._input = line, b""

    def close(self) -> None:
        """Tell the agent that this supervisor is done, if it listens."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def receive(self) -> list[dict[str, Any]]:
        """Return the whole lines that arrived; lines that are no JSON object are dropped."""
        if self._socket is None:
            return []
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data or len(self._input) > LINE_LIMIT:
            self.close()
            return []
        *lines, self._input = (self._input + data).split(b"\n")
        messages: list[dict[str, Any]] = []
        for line in lines:
            try:
                message = json.loads(line)
            except ValueError:
                continue
            if isinstance(message, dict):
                messages.append(message)
        return messages
