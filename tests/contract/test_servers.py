"""What only a real server can do to a store: end, freeze, run full, forget scripts, be a stranger's."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator, Generator, Mapping
from typing import Any

import pytest
from servers import DURABLE, SERVERS, RedisServer, debian_redis, free_port, valkey
from waiting import wait_until

from sweepd.errors import StoreUnreachable, UsageError
from sweepd.keys import Keys
from sweepd.store import Append, Fence, Outcome, Position, Push, Put
from sweepd_coordinator.store import RedisStore, ServerInfo, check_server
from sweepd_coordinator.wire import Wire, redacted

pytestmark = pytest.mark.anyio

SOUND = ServerInfo(version="7.2.4", eviction="noeviction", appends=True, cluster=False)


@pytest.fixture(params=SERVERS)
def own_server(request: pytest.FixtureRequest) -> Generator[RedisServer]:
    """A durable server that the test may break."""
    with (valkey if request.param == "valkey" else debian_redis)(DURABLE) as server:
        yield server


@pytest.fixture
async def broken(own_server: RedisServer, keys: Keys) -> AsyncGenerator[RedisStore]:
    """A store on a server that the test may break; it gives up after a second."""
    store = RedisStore(own_server.url, keys, timeout_s=1)
    yield store
    await store.close()


async def led(store: RedisStore) -> Fence:
    fence = await store.lead("token", 60)
    assert fence is not None
    return fence


async def test_a_commit_works_at_maxmemory_and_makes_room(
    own_server: RedisServer, broken: RedisStore, keys: Keys
) -> None:
    fence = await led(broken)
    ids = await broken.send([b"x" * 100_000 for _ in range(20)])
    client = own_server.client()
    client.config_set("maxmemory", 1)
    with pytest.raises(StoreUnreachable, match="used memory"):
        await broken.send([b"no more"])
    writes = [Put(keys.agents, {"a": b"1"}), Push(keys.points("s", 1), [b"p"])]
    assert await broken.commit(fence, Position(1, ids[-1]), list(writes)) is Outcome.COMMITTED
    assert await broken.inbox_length() == 0
    assert await broken.read_hash(keys.agents) == {"a": b"1"}
    assert await broken.renew(fence, 60)
    await broken.resign(fence)
    assert await broken.lead("next", 60) == Fence(fence.epoch + 1, "next")
    client.close()


async def test_an_acknowledged_commit_survives_a_kill(
    own_server: RedisServer, broken: RedisStore, keys: Keys
) -> None:
    fence = await led(broken)
    for commit in range(1, 51):
        writes = [Append(keys.ends, b"%d" % commit)]
        assert await broken.commit(fence, Position(commit, "0-0"), list(writes)) is Outcome.COMMITTED
    own_server.kill()
    with pytest.raises(StoreUnreachable):
        await broken.position()
    own_server.start()
    assert await broken.position() == (fence, Position(50, "0-0"))
    assert len(await broken.read_stream(keys.ends, "0-0", 100)) == 50
    # The restarted server does not know the script any more.
    assert await broken.commit(fence, Position(51, "0-0"), []) is Outcome.COMMITTED


async def test_a_frozen_server_is_unreachable_until_it_goes_on(
    own_server: RedisServer, broken: RedisStore, keys: Keys
) -> None:
    fence = await led(broken)
    assert await broken.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED
    own_server.freeze()
    with pytest.raises(StoreUnreachable, match="in time"):
        await broken.commit(fence, Position(2, "0-0"), [Push(keys.points("s", 1), [b"once"])])
    own_server.thaw()
    # What was on its way arrives when the server goes on: the outcome was unknown, now it is not.
    outcome = await broken.commit(fence, Position(2, "0-0"), [Push(keys.points("s", 1), [b"once"])])
    assert outcome in (Outcome.COMMITTED, Outcome.ALREADY)
    assert await broken.read_list(keys.points("s", 1)) == [b"once"]


async def test_a_replica_refuses_for_now(own_server: RedisServer, broken: RedisStore) -> None:
    """After a failover the old master is a replica: the next connection may find the new one."""
    fence = await led(broken)
    client = own_server.client()
    client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    with pytest.raises(StoreUnreachable, match=r"refuses for now|MASTERDOWN"):
        await broken.commit(fence, Position(1, "0-0"), [])
    client.execute_command("REPLICAOF", "NO", "ONE")
    assert await broken.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED
    client.close()


async def test_forgotten_scripts_are_loaded_again(server: RedisServer, keys: Keys) -> None:
    store = RedisStore(server.unix_url, keys)
    fence = await led(store)
    client = server.client()
    client.script_flush()
    assert await store.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED
    client.script_flush()
    assert await store.renew(fence, 60)
    client.close()
    await store.close()


async def test_a_commit_is_one_command(server: RedisServer, keys: Keys) -> None:
    store = RedisStore(server.unix_url, keys)
    fence = await led(store)
    await store.commit(fence, Position(1, "0-0"), [])
    client = server.client()
    client.config_resetstat()
    writes = [Put(keys.trials("s"), {str(n): b"x" for n in range(9_000)}) for _ in range(3)]
    assert await store.commit(fence, Position(2, "0-0"), list(writes)) is Outcome.COMMITTED
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]  # pyright: ignore[reportIndexIssue]
    assert calls == 1
    client.close()
    await store.close()


async def test_every_key_of_the_store_carries_the_hash_tag_and_only_what_may_stay_has_no_lifetime(
    server: RedisServer, keys: Keys
) -> None:
    store = RedisStore(server.unix_url, keys)
    fence = await led(store)
    await store.commit(fence, Position(1, "0-0"), [Put(keys.agents, {"a": b"1"})])
    client = server.client()
    mine = [key for key in client.scan_iter() if keys.namespace.encode() in key]
    assert sorted(mine) == sorted(k.encode() for k in (keys.leader, keys.fence, keys.agents))
    assert client.ttl(keys.leader) > 0  # pyright: ignore[reportOperatorIssue]
    client.close()
    await store.close()


async def test_a_stranger_in_the_inbox_is_read_as_nothing(server: RedisServer, keys: Keys) -> None:
    store = RedisStore(server.unix_url, keys)
    client = server.client()
    client.xadd(keys.inbox, {"other": "x"})
    client.xadd(keys.inbox, {"first": "x", "e": "found"})
    assert [data for _, data in await store.read_inbox("0-0", 10, 0)] == [b"", b"found"]
    client.close()
    await store.close()


async def test_nobody_there() -> None:
    store = RedisStore(f"redis://user:secret@127.0.0.1:{free_port()}/0")
    with pytest.raises(
        StoreUnreachable, match=r"redis://user:\*\*\*@127.0.0.1.* cannot be reached"
    ) as caught:
        await store.position()
    assert "secret" not in str(caught.value)
    assert caught.value.exit_code == 3


async def test_a_wrong_password_is_for_the_user_to_mend(own_server: RedisServer) -> None:
    client = own_server.client()
    client.config_set("requirepass", "right")
    for url in (own_server.url, own_server.url.replace("redis://", "redis://:wrong@")):
        store = RedisStore(url)
        with pytest.raises(UsageError, match="user"):
            await store.position()
        await store.close()
    store = RedisStore(own_server.url.replace("redis://", "redis://:right@"))
    assert (await store.position())[0] is None
    await store.close()
    client.close()


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://localhost/0?protokol=2"])
async def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(UsageError, match="URL of the store"):
        Wire(url, name="test")


def test_passwords_are_not_shown() -> None:
    assert redacted("redis://:pa@ss@host:1/0") == "redis://:***@host:1/0"
    assert redacted("unix:///tmp/x.sock") == "unix:///tmp/x.sock"


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        ({}, None),
        ({"version": "6.2.0"}, None),
        ({"version": "6.0.16"}, "version 6.0.16"),
        ({"version": "5.0"}, "6.2 or newer"),
        ({"eviction": "allkeys-lru"}, "set it to noeviction"),
        ({"cluster": True}, "cluster"),
    ],
)
def test_which_servers_can_be_the_store(info: Mapping[str, Any], reason: str | None) -> None:
    refusal = dataclasses.replace(SOUND, **info).refusal()
    assert refusal is None if reason is None else reason in (refusal or "")


async def test_a_server_that_evicts_is_refused(own_server: RedisServer) -> None:
    store = RedisStore(own_server.unix_url)
    found = await check_server(store)
    assert found.appends
    client = own_server.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(UsageError, match=r"maxmemory-policy is allkeys-lru.*set it to noeviction"):
        await check_server(store)
    client.close()
    await store.close()


def test_a_server_that_is_frozen_can_be_stopped(own_server: RedisServer) -> None:
    own_server.freeze()
    own_server.stop()
    own_server.start()
    client = own_server.client()
    assert wait_until(client.ping)
    client.close()
