"""What the tests of the coordinator's shell share."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from loops import KEYS
from servers import DURABLE, RedisServer, valkey

from sweepd.testing import MemoryStore


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def memory() -> MemoryStore:
    return MemoryStore(KEYS)


@pytest.fixture
def server() -> Generator[RedisServer]:
    """A durable Valkey that the test may break."""
    with valkey(DURABLE) as running:
        yield running
