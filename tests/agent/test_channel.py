"""The socket of jobs and supervisors: whatever comes through it, the agent goes on."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from waiting import wait_until_async

from sweepd.errors import UsageError
from sweepd.states import Verdict
from sweepd_agent.channel import LINE_LIMIT_BYTES, PATH_LIMIT_BYTES, Channel, socket_path

pytestmark = pytest.mark.anyio

STOP = {"type": "verdict", "verdict": "stop", "reports": 3, "reason": "rung 1"}


class Ear:
    """Notes what the channel tells the agent."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def supervisor_connected(self, token: str, job_pid: int) -> None:
        self.heard.append(("supervisor", token, job_pid))

    def reported(self, token: str) -> None:
        self.heard.append(("reported", token))

    def asked(self, token: str, name: str, distribution: dict[str, Any]) -> None:
        self.heard.append(("asked", token, name, distribution))


class Peer:
    """A job or a supervisor at the other end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    def send(self, *messages: dict[str, Any], raw: bytes = b"") -> None:
        self._writer.write(raw + b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    async def receive(self) -> dict[str, Any] | None:
        """Return the next line; None when the connection was cut."""
        with anyio.fail_after(10):
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return None
        return json.loads(line) if line else None

    def close(self) -> None:
        self._writer.close()


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
async def channel(tmp_path: Path, ear: Ear) -> AsyncGenerator[Channel]:
    async with serving(tmp_path / "c.sock", ear) as serving_channel:
        yield serving_channel


@asynccontextmanager
async def serving(path: Path, ear: Ear) -> AsyncGenerator[Channel]:
    channel = Channel(path)
    async with anyio.create_task_group() as tasks:
        await tasks.start(channel.serve, ear)
        yield channel
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def connected(channel: Channel, *messages: dict[str, Any]) -> AsyncGenerator[Peer]:
    peer = Peer(*await asyncio.open_unix_connection(str(channel.path)))
    peer.send(*messages)
    yield peer
    peer.close()


def job(token: str = "t") -> dict[str, Any]:
    return {"type": "job", "token": token, "pid": 7}


def supervisor(token: str = "t") -> dict[str, Any]:
    return {"type": "supervisor", "token": token, "pid": 6, "job": 7}


async def test_what_jobs_and_supervisors_say_reaches_the_agent_with_their_token(
    channel: Channel, ear: Ear
) -> None:
    distribution = {"type": "float", "low": 0.0, "high": 1.0}
    async with connected(channel, supervisor(), supervisor("u")), connected(channel, job()) as peer:
        peer.send(
            {"type": "reported", "ordinal": 1},
            {"type": "suggest", "id": 4, "name": "x", "distribution": distribution},
        )
        await wait_until_async(lambda: len(ear.heard) == 5, describe=lambda: ear.heard)
        assert ear.heard.count(("reported", "t")) == 2, "also once for its hello"
        assert ("asked", "t", "x", distribution) in ear.heard
        assert ("supervisor", "u", 7) in ear.heard


async def test_a_line_may_come_in_pieces_and_several_at_once(channel: Channel, ear: Ear) -> None:
    async with connected(channel) as peer:
        whole = json.dumps(job()).encode() + b"\n"
        peer.send(raw=whole[:9])
        await anyio.wait_all_tasks_blocked()
        assert ear.heard == []
        peer.send(raw=whole[9:] + b'{"type": "reported", "ordinal": 1}\n{"type": "rep')
        await wait_until_async(lambda: len(ear.heard) == 2)


async def test_a_verdict_is_said_at_once_and_again_at_each_reconnect_until_it_is_forgotten(
    channel: Channel, ear: Ear
) -> None:
    async with connected(channel, job()) as peer:
        await wait_until_async(lambda: ear.heard)
        channel.tell("t", Verdict.STOP, 3, "rung 1")
        channel.tell("unknown", Verdict.STOP, 3, "rung 1")
        assert await peer.receive() == STOP
    async with connected(channel, job()) as peer:
        assert await peer.receive() == STOP
        channel.forget("t")
        assert await peer.receive() is None, "its attempt has ended"
    async with connected(channel, job()):
        await wait_until_async(lambda: len(ear.heard) == 3)


async def test_an_answer_goes_to_everyone_who_asked(channel: Channel, ear: Ear) -> None:
    def ask(number: int) -> dict[str, Any]:
        return {"type": "suggest", "id": number, "name": "x", "distribution": {}}

    async with connected(channel, job(), ask(1), ask(2)) as peer, connected(channel, job(), ask(1)) as other:
        await wait_until_async(lambda: sum(said[0] == "asked" for said in ear.heard) == 3)
        channel.answer("t", "y", 1.0)
        channel.answer("t", "x", 0.25)
        assert [await peer.receive(), await peer.receive()] == [
            {"type": "suggested", "id": 1, "value": 0.25},
            {"type": "suggested", "id": 2, "value": 0.25},
        ]
        assert await other.receive() == {"type": "suggested", "id": 1, "value": 0.25}
        peer.send(ask(3))
        await wait_until_async(lambda: sum(said[0] == "asked" for said in ear.heard) == 4)
        channel.answer("t", "x", None, "no such distribution")
        assert await peer.receive() == {"type": "suggested", "id": 3, "error": "no such distribution"}


async def test_a_stop_reaches_the_supervisor_if_it_is_connected(channel: Channel, ear: Ear) -> None:
    assert not channel.stop("t", 5)
    async with connected(channel, supervisor()) as peer:
        await wait_until_async(lambda: ear.heard)
        assert channel.stop("t", 2.5)
        assert await peer.receive() == {"type": "stop", "grace_s": 2.5}
    await wait_until_async(lambda: not channel.stop("t", 5))


async def test_every_process_of_a_job_hears_the_verdict(channel: Channel, ear: Ear) -> None:
    """Ranks of torchrun and children of a fork share a token; one that goes takes no other along."""
    async with connected(channel, job()) as one, connected(channel, job()) as other:
        await wait_until_async(lambda: len(ear.heard) == 2)
        async with connected(channel, job()) as gone:
            await wait_until_async(lambda: len(ear.heard) == 3)
            gone.close()
        channel.tell("t", Verdict.STOP, 3, "rung 1")
        assert await one.receive() == STOP
        assert await other.receive() == STOP


@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b"",
        b"[]",
        b"{}",
        b'{"type": "unheard of"}',
        b'{"type": "job"}',
        b'{"type": "job", "token": 3}',
        b'{"type": "suggest", "id": "x", "name": "y", "distribution": {}}',
        b'{"type": "reported", "ordinal": 1}',
        b"\xff\xfe\x00",
    ],
)
async def test_a_line_that_makes_no_sense_is_dropped_and_said(
    channel: Channel, ear: Ear, line: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(channel) as peer:
        peer.send(raw=line + b"\n")
        peer.send(job())
        await wait_until_async(lambda: ear.heard == [("reported", "t")])
        assert [record.getMessage().split()[0] for record in caplog.records] == ["channel.bad_line"]


async def test_a_line_without_an_end_cuts_that_connection_only(
    channel: Channel, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(channel, job()) as peer, connected(channel, job("u")) as other:
        peer.send(raw=b"x" * (LINE_LIMIT_BYTES + 1))
        assert await peer.receive() is None
        other.send({"type": "reported", "ordinal": 1})
        await wait_until_async(lambda: ear.heard.count(("reported", "u")) == 2)
    assert "longer than 1 MiB" in caplog.text


async def test_a_job_that_does_not_read_is_cut(
    channel: Channel, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(channel, job()):
        await wait_until_async(lambda: ear.heard)
        for _ in range(40):
            channel.tell("t", Verdict.STOP, 3, "x" * 100_000)
        assert "does not read" in caplog.text


async def test_the_socket_belongs_to_its_user_and_a_stale_one_is_replaced(tmp_path: Path, ear: Ear) -> None:
    path = tmp_path / "c.sock"
    path.touch()
    async with serving(path, ear) as channel:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        async with connected(channel, job()):
            await wait_until_async(lambda: ear.heard)
    assert not path.exists()


async def test_a_path_that_is_too_long_for_the_kernel_is_replaced_by_a_short_one(ear: Ear) -> None:
    assert socket_path(Path("/state")) == Path("/state/channel.sock")
    long = Path("/tmp") / ("x" * PATH_LIMIT_BYTES)
    path = socket_path(long)
    assert len(str(path)) < PATH_LIMIT_BYTES
    assert path == socket_path(long) != socket_path(long / "other")
    async with serving(path, ear):
        assert path.parent.stat().st_uid == os.getuid()


async def test_a_directory_of_somebody_else_is_not_trusted(tmp_path: Path, ear: Ear) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.RaisesGroup(
        pytest.RaisesExc(UsageError, match="does not belong to this user"), flatten_subgroups=True
    ):
        async with serving(tmp_path / "link" / "c.sock", ear):
            pass


async def test_the_log_is_quiet_when_all_is_well(
    channel: Channel, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        async with connected(channel, job()):
            await wait_until_async(lambda: ear.heard)
    assert caplog.text == ""
