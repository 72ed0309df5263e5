"""A server for all tests of this folder, emptied for each."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from cli.scripted import Scripted
from servers import RedisServer, valkey


@pytest.fixture(scope="session")
def one_server() -> Generator[RedisServer]:
    with valkey() as server:
        yield server


@pytest.fixture
def server(one_server: RedisServer) -> RedisServer:
    client = one_server.client()
    client.flushall()
    client.close()
    return one_server


@pytest.fixture
def scripted(server: RedisServer) -> Generator[Scripted]:
    with Scripted(server) as coordinator:
        yield coordinator


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the person who runs the tests reaches them."""
    for name in ("SWEEPD_REDIS", "SWEEPD_STATE", "SWEEPD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
