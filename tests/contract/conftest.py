"""The stores that the contract is tried on: memory, the wheel's Valkey, Debian's Redis."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Callable, Generator

import pytest
from servers import SERVERS, RedisServer, debian_redis, valkey

from sweepd.keys import Keys
from sweepd.store import Store
from sweepd.testing import MemoryStore
from sweepd_coordinator.store import RedisStore

_names = itertools.count()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def valkey_server() -> Generator[RedisServer]:
    with valkey() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Generator[RedisServer]:
    with debian_redis() as server:
        yield server


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A real server, shared by all tests: use keys of your own."""
    return request.getfixturevalue(f"{request.param}_server")


@pytest.fixture
def keys() -> Keys:
    """A namespace that no other test uses; with characters that a pattern would give a meaning."""
    return Keys(f"contract-{next(_names)}[a]*")


@pytest.fixture(params=["memory", *SERVERS])
async def open_store(request: pytest.FixtureRequest, keys: Keys) -> AsyncGenerator[Callable[[], Store]]:
    """Open another client of one and the same store."""
    opened: list[Store] = []
    memory = MemoryStore(keys)

    def open_one() -> Store:
        if request.param == "memory":
            return memory
        real: RedisServer = request.getfixturevalue(f"{request.param}_server")
        store = RedisStore(real.unix_url, keys)
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.close()


@pytest.fixture
async def store(open_store: Callable[[], Store]) -> Store:
    return open_store()
