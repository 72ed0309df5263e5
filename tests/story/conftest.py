"""A running sweepd and a folder to work in, as somebody who was given a URL has them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from integration.fleet import fleet
from servers import DURABLE, valkey

import sweepd


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of a store with one coordinator and one agent of two slots."""
    home = tmp_path_factory.mktemp("service")
    with valkey(DURABLE) as server, fleet(server, home, slots=2, options=["--stop-grace", "5"]):
        yield server.url


@pytest.fixture
def client(service: str) -> Generator[sweepd.Client]:
    with sweepd.Client(service) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the person works in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
