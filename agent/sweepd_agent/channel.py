"""The unix socket through which jobs and supervisors of this machine speak with the agent.

One JSON object a line. A connection says first whose it is, by the token of its attempt:

    job        -> {"type": "job", "token": t, "pid": p}
               -> {"type": "reported", "ordinal": n}
               -> {"type": "suggest", "id": i, "name": n, "distribution": {...}}
               <- {"type": "verdict", "verdict": v, "reports": n, "reason": r}
               <- {"type": "suggested", "id": i, "value": v} or {..., "error": e}
    supervisor -> {"type": "supervisor", "token": t, "pid": p, "job": j}
               <- {"type": "stop", "grace_s": g}

A line that makes no sense is dropped and said; nothing that comes through here can end the agent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import stat
from pathlib import Path
from typing import Any, Protocol, Union

import anyio
import msgspec
from anyio.abc import TaskStatus

from sweepd.errors import UsageError
from sweepd.states import Verdict

LINE_LIMIT_BYTES = 1024 * 1024
UNREAD_LIMIT_BYTES = 1024 * 1024  #: what a job may leave unread before its connection is cut
PATH_LIMIT_BYTES = 100  #: the kernel takes 107, and a zero

log = logging.getLogger("sweepd.agent")


class _Job(msgspec.Struct, frozen=True, tag="job"):
    token: str
    pid: int = 0


class _Supervisor(msgspec.Struct, frozen=True, tag="supervisor"):
    token: str
    pid: int = 0
    job: int = 0


class _Reported(msgspec.Struct, frozen=True, tag="reported"):
    ordinal: int = 0


class _Suggest(msgspec.Struct, frozen=True, tag="suggest"):
    id: int
    name: str
    distribution: dict[str, Any]


_Line = Union[_Job, _Supervisor, _Reported, _Suggest]
_decoder = msgspec.json.Decoder(_Line)


class Listener(Protocol):
    """Who is told what comes through the channel. Nothing here may block."""

    def supervisor_connected(self, token: str, job_pid: int) -> None: ...
    def reported(self, token: str) -> None: ...
    def asked(self, token: str, name: str, distribution: dict[str, Any]) -> None: ...


def socket_path(state: Path) -> Path:
    """Return where the channel of the agent with this state directory listens."""
    path = state / "channel.sock"
    if len(os.fsencode(path)) <= PATH_LIMIT_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(state)).hexdigest()[:24]
    return Path(f"/tmp/sweepd-{os.getuid()}") / f"{digest}.sock"


class Channel:
    """The listening socket and who is connected. All methods belong to the event loop."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener: Listener | None = None
        #: a job may be many processes: ranks of torchrun, children of a fork
        self._jobs: dict[str, set[_Connection]] = {}
        self._supervisors: dict[str, _Connection] = {}
        self._verdicts: dict[str, bytes] = {}
        self._asking: dict[tuple[str, str], list[tuple[_Connection, int]]] = {}
        self._open: set[_Connection] = set()

    async def serve(
        self, listener: Listener, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Listen until cancelled. Only the agent that holds the state directory's lock may call this."""
        self._listener = listener
        _own_directory(self.path.parent)
        self.path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: _Connection(self), str(self.path))
        self.path.chmod(0o600)
        task_status.started()
        try:
            await anyio.sleep_forever()
        finally:
            server.close()
            for connection in list(self._open):
                connection.cut()
            self.path.unlink(missing_ok=True)

    def tell(self, token: str, verdict: Verdict, reports: int, reason: str) -> None:
        """Say a verdict to every process of the job, now and whenever one connects."""
        line = _line({"type": "verdict", "verdict": verdict.value, "reports": reports, "reason": reason})
        self._verdicts[token] = line
        for job in list(self._jobs.get(token, ())):
            job.send(line)

    def stop(self, token: str, grace_s: float) -> bool:
        """Tell the supervisor to end its job; False if it is not connected."""
        supervisor = self._supervisors.get(token)
        if supervisor is None:
            return False
        supervisor.send(_line({"type": "stop", "grace_s": grace_s}))
        return True

    def answer(self, token: str, name: str, value: Any, error: str = "") -> None:
        """Answer all who asked for this parameter; who went away asks again when it is back."""
        said = {"error": error} if error else {"value": value}
        for connection, number in self._asking.pop((token, name), []):
            connection.send(_line({"type": "suggested", "id": number, **said}))

    def forget(self, token: str) -> None:
        """The attempt has ended: nothing of it will be said again."""
        self._verdicts.pop(token, None)
        for key in [key for key in self._asking if key[0] == token]:
            del self._asking[key]
        for job in self._jobs.pop(token, set[_Connection]()):
            job.cut()

    # --- from the connections -------------------------------------------------------------------

    def opened(self, connection: _Connection) -> None:
        self._open.add(connection)

    def closed(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if self._supervisors.get(connection.token) is connection:
            del self._supervisors[connection.token]
        jobs = self._jobs.get(connection.token)
        if jobs is not None:
            jobs.discard(connection)
            if not jobs:
                del self._jobs[connection.token]

    def received(self, connection: _Connection, line: bytes) -> None:
        listener = self._listener
        assert listener is not None
        try:
            said = _decoder.decode(line)
        except msgspec.DecodeError as error:
            log.warning("channel.bad_line token=%s error=%s line=%r", connection.token, error, line[:200])
            return
        if isinstance(said, _Supervisor):
            connection.token = said.token
            self._supervisors[said.token] = connection
            listener.supervisor_connected(said.token, said.job)
        elif isinstance(said, _Job):
            connection.token = said.token
            self._jobs.setdefault(said.token, set()).add(connection)
            if standing := self._verdicts.get(said.token):
                connection.send(standing)
            listener.reported(said.token)  # it may have reported while nobody listened
        elif not connection.token:
            log.warning("channel.bad_line token= error=said before its token line=%r", line[:200])
        elif isinstance(said, _Reported):
            listener.reported(connection.token)
        else:
            self._asking.setdefault((connection.token, said.name), []).append((connection, said.id))
            listener.asked(connection.token, said.name, said.distribution)


class _Connection(asyncio.Protocol):
    """One job or supervisor: cuts what arrives into lines."""

    def __init__(self, channel: Channel) -> None:
        self.token = ""
        self._channel = channel
        self._transport: asyncio.Transport | None = None
        self._input = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._channel.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._channel.closed(self)

    def data_received(self, data: bytes) -> None:
        self._input += data
        if b"\n" in data:
            *lines, rest = bytes(self._input).split(b"\n")
            self._input = bytearray(rest)
            for line in lines:
                if self._transport is not None:
                    self._channel.received(self, line)
        if len(self._input) > LINE_LIMIT_BYTES:
            log.warning("channel.cut token=%s reason=a line is longer than 1 MiB", self.token)
            self.cut()

    def send(self, line: bytes) -> None:
        if self._transport is None:
            return
        self._transport.write(line)
        if self._transport.get_write_buffer_size() > UNREAD_LIMIT_BYTES:
            log.warning("channel.cut token=%s reason=it does not read", self.token)
            self.cut()

    def cut(self) -> None:
        """Drop the connection and what it has not read."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


def _line(said: dict[str, Any]) -> bytes:
    return msgspec.json.encode(said) + b"\n"


def _own_directory(path: Path) -> None:
    """Make sure that nobody else can put a socket where ours is expected."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = path.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid():
        raise UsageError(f"{path} does not belong to this user: choose another state directory (--state)")
