"""A connection that ends in the middle: on a real server, through a proxy that loses answers."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from loops import KEYS, Running, message, running
from proxy import Proxy
from servers import RedisServer
from waiting import wait_until_async

from sweepd.errors import StoreUnreachable, StoreWentBack
from sweepd.messages import AgentBatch, decode_envelope
from sweepd.store import Outcome, Position, Push
from sweepd_coordinator.store import RedisStore

pytestmark = pytest.mark.anyio

COMMIT = b"EVALSHA"


@pytest.fixture
def proxy(server: RedisServer) -> Generator[Proxy]:
    with Proxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def store(proxy: Proxy) -> AsyncGenerator[RedisStore]:
    store = RedisStore(proxy.url, KEYS, timeout_s=2)
    yield store
    await store.close()


@pytest.fixture
async def client(server: RedisServer) -> AsyncGenerator[RedisStore]:
    """Sends and looks, past the proxy."""
    store = RedisStore(server.unix_url, KEYS, timeout_s=2)
    yield store
    await store.close()


async def ends(client: RedisStore, count: int, run: Running) -> list[str]:
    """Wait until *count* ends are in the log, and return them."""

    async def enough() -> list[str] | None:
        try:
            done = await run.done(client)
        except StoreUnreachable:
            return None
        return done if len(done) >= count else None

    return await wait_until_async(enough, timeout_s=30, describe=lambda: run.errors)


def _name(data: bytes) -> str:
    envelope = decode_envelope(data)
    assert isinstance(envelope, AgentBatch)
    return envelope.agent


async def test_a_lost_reply_is_an_error_and_the_commit_stands(proxy: Proxy, store: RedisStore) -> None:
    fence = await store.lead("token", 60)
    assert fence is not None
    writes = [Push(KEYS.points("s", 1), [b"once"])]
    assert await store.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED
    proxy.lose_reply(COMMIT)
    with pytest.raises(StoreUnreachable):
        await store.commit(fence, Position(2, "0-0"), list(writes))
    assert await store.position() == (fence, Position(2, "0-0"))
    assert await store.commit(fence, Position(2, "0-0"), list(writes)) is Outcome.ALREADY
    assert await store.read_list(KEYS.points("s", 1)) == [b"once"]


async def test_a_lost_request_is_an_error_and_nothing_happened(proxy: Proxy, store: RedisStore) -> None:
    fence = await store.lead("token", 60)
    assert fence is not None
    proxy.lose_request(COMMIT)
    with pytest.raises(StoreUnreachable):
        await store.commit(fence, Position(1, "0-0"), [])
    assert await store.position() == (fence, Position(0, "0-0"))
    assert await store.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED


async def test_nothing_is_ever_sent_twice_by_itself(proxy: Proxy, store: RedisStore) -> None:
    """redis-py's own retries turned three lost replies of one XADD into four entries."""
    for _ in range(3):
        proxy.lose_reply(b"XADD")
        with pytest.raises(StoreUnreachable):
            await store.send([b"x"])
    assert await store.inbox_length() == 3


@pytest.mark.parametrize("reply", [True, False], ids=["reply", "request"])
async def test_the_loop_finds_out_and_goes_on(
    proxy: Proxy, store: RedisStore, client: RedisStore, reply: bool
) -> None:
    async with running(store) as run:
        for n in range(10):
            (proxy.lose_reply if reply else proxy.lose_request)(COMMIT)
            await client.send([message(f"{n}")])
            await ends(client, n + 1, run)
        assert await ends(client, 10, run) == [str(n) for n in range(10)]
        await wait_until_async(lambda: proxy.lost == 10)
        assert len(run.engines) == 1
        assert run.errors == []


async def test_all_connections_cut_again_and_again(
    proxy: Proxy, store: RedisStore, client: RedisStore
) -> None:
    async with running(store) as run:
        for n in range(200):
            await client.send([message(f"{n}")])
            if n % 20 == 19:
                proxy.cut()
        assert await ends(client, 200, run) == [str(n) for n in range(200)]
        assert len(run.engines) == 1
        assert run.errors == []


async def test_a_store_that_is_killed_under_the_loop(
    server: RedisServer, store: RedisStore, client: RedisStore
) -> None:
    """Nothing acknowledged is lost, nothing is done twice, and the same engine goes on."""
    acknowledged: list[str] = []

    async def send() -> None:
        n = 0
        while True:
            n += 1
            try:
                await client.send([message(f"{n}")])
                acknowledged.append(f"{n}")
            except StoreUnreachable:
                await anyio.sleep(0.01)

    async with running(store) as run, anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        for _ in range(3):
            target = len(acknowledged) + 50
            await wait_until_async(lambda target=target: len(acknowledged) >= target)
            await anyio.to_thread.run_sync(server.kill)
            await anyio.to_thread.run_sync(server.start)
        target = len(acknowledged) + 50
        await wait_until_async(lambda: len(acknowledged) >= target)
        tasks.cancel_scope.cancel()
    assert run.errors == []
    assert len(run.engines) == 1
    done = await run.done(client)
    left = {_name(data) for _, data in await client.read_inbox("0-0", 10_000, 0)}
    assert len(done) == len(set(done))
    assert set(acknowledged) <= set(done) | left


async def test_a_store_restored_from_an_older_copy_ends_the_term(
    server: RedisServer, store: RedisStore, client: RedisStore, tmp_path: Path
) -> None:
    async with running(store) as run:
        await client.send([message("kept")])
        await ends(client, 1, run)
        shutil.copytree(server.directory / "appendonlydir", tmp_path / "copy")
        await client.send([message("lost")])
        await ends(client, 2, run)
        server.kill()
        shutil.rmtree(server.directory / "appendonlydir")
        shutil.copytree(tmp_path / "copy", server.directory / "appendonlydir")
        await anyio.to_thread.run_sync(server.start)
        await wait_until_async(lambda: run.ended)
        (error,) = run.errors
        assert isinstance(error, BaseExceptionGroup)
        assert error.subgroup(StoreWentBack) is not None
        assert await ends(client, 1, run) == ["kept"]
