"""deploy/redis: real servers start with the files as they are, and each user may do what its role needs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

import pytest
import redis
from redis.exceptions import NoPermissionError
from servers import SERVERS, redis_binary, valkey_binary

from integration.deployed import DeployedServer, deployed
from sweepd.keys import Keys

KEYS = Keys()
OUTBOX = KEYS.outbox("gpu-node")

Call = Callable[[redis.Redis], Any]
READS: dict[str, Call] = {
    "the records": lambda client: client.hgetall(KEYS.studies),
    "points": lambda client: client.lrange(KEYS.points("s", 1), 0, -1),
    "a reply": lambda client: client.get(KEYS.reply("r")),
    "whether somebody leads": lambda client: client.exists(KEYS.leader),
    "the feed": lambda client: client.xread({KEYS.feed: "0"}),
}
SAYS: dict[str, Call] = {"something to the inbox": lambda client: client.xadd(KEYS.inbox, {"e": "{}"})}
HEARS: dict[str, Call] = {
    "its outbox": lambda client: client.xread({OUTBOX: "0"}),
    "how far its outbox goes": lambda client: client.xinfo_stream(OUTBOX),
}
WRITES: dict[str, Call] = {
    "a record": lambda client: client.hset(KEYS.studies, "s", "{}"),
    "an outbox": lambda client: client.xadd(OUTBOX, {"e": "{}"}),
    "a script": lambda client: client.eval("return redis.call('GET', KEYS[1])", 1, KEYS.fence),
}
NEVER: dict[str, Call] = {
    "another's key": lambda client: client.set("other", "x"),
    "everything": lambda client: client.flushall(),
    "the settings": lambda client: client.config_set("appendonly", "no"),
}
MAY: dict[str, dict[str, Call]] = {
    "coordinator": {**READS, **SAYS, **HEARS, **WRITES, "what server it is": lambda client: client.info()},
    "agent": {**SAYS, **HEARS},
    "client": {**READS, **SAYS},
    "viewer": READS,
}
MAY_NOT: dict[str, dict[str, Call]] = {
    "coordinator": NEVER,
    "agent": {**READS, **WRITES, **NEVER},
    "client": {**WRITES, **NEVER},
    "viewer": {**SAYS, **WRITES, **NEVER},
}


def _cases(table: dict[str, dict[str, Call]]) -> list[Any]:
    return [
        pytest.param(user, call, id=f"{user}: {what}")
        for user, calls in table.items()
        for what, call in calls.items()
    ]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Generator[DeployedServer]:
    binary = valkey_binary() if request.param == "valkey" else redis_binary()
    assert binary is not None
    with deployed(binary) as running:
        with closing(running.client()) as client:
            client.xadd(OUTBOX, {"e": "{}"})
        yield running


def test_what_is_acknowledged_is_on_disk(server: DeployedServer) -> None:
    with closing(server.client()) as client:
        info: dict[str, Any] = client.info()
    assert info["aof_enabled"] == 1
    assert info["maxmemory_policy"] == "noeviction"


@pytest.mark.parametrize(("user", "call"), _cases(MAY))
def test_a_user_may(server: DeployedServer, user: str, call: Call) -> None:
    with closing(redis.Redis.from_url(server.url_of(user))) as client:
        call(client)


@pytest.mark.parametrize(("user", "call"), _cases(MAY_NOT))
def test_a_user_may_not(server: DeployedServer, user: str, call: Call) -> None:
    with (
        closing(redis.Redis.from_url(server.url_of(user))) as client,
        pytest.raises(NoPermissionError),
    ):
        call(client)


def test_nobody_comes_in_without_a_name(server: DeployedServer) -> None:
    with closing(redis.Redis.from_url(server.url)) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
