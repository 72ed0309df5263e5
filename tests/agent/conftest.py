"""Stores for the tests of the agent: one for all that leave it alone, or one of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from scripted import ScriptedCoordinator
from servers import DURABLE, RedisServer, valkey


@pytest.fixture(scope="session")
def shared_store() -> Iterator[RedisServer]:
    with valkey() as server:
        yield server


@pytest.fixture
def store(shared_store: RedisServer) -> RedisServer:
    """An empty store that no test may break."""
    client = shared_store.client()
    client.flushall()
    client.close()
    return shared_store


@pytest.fixture
def own_store() -> Iterator[RedisServer]:
    """A durable store of this test alone, to be broken."""
    with valkey(DURABLE) as server:
        yield server


@pytest.fixture
def anyio_backend() -> str:
    """What the agent runs on: redis-py knows only asyncio."""
    return "asyncio"


@pytest.fixture
def coordinator(store: RedisServer) -> Iterator[ScriptedCoordinator]:
    scripted = ScriptedCoordinator(store)
    yield scripted
    scripted.close()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory that does not exist yet."""
    return tmp_path / "state"
