from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from agent_attempt.attempts import Agent, Attempts


@pytest.fixture
def channel() -> Iterator[Path]:
    """A path short enough for a socket, whatever the name of the test."""
    with TemporaryDirectory(prefix="sweepd-") as directory:
        yield Path(directory) / "channel.sock"


@pytest.fixture
def agent(channel: Path) -> Iterator[Agent]:
    agent = Agent(channel)
    yield agent
    agent.go_away()


@pytest.fixture
def attempts(tmp_path: Path, channel: Path) -> Attempts:
    home, workdir = tmp_path / "attempts", tmp_path / "work dir"
    home.mkdir()
    workdir.mkdir()
    return Attempts(home, workdir, channel)
