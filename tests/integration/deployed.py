"""A server that runs with the files of deploy/redis as they are."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from servers import RedisServer

DEPLOY = Path(__file__).parents[2] / "deploy"

#: What redis.conf says about the machine that it is meant for.
_PLACES = {"bind", "port", "dir", "aclfile"}


class DeployedServer(RedisServer):
    """Lets in the users of users.acl only."""

    def client(self) -> redis.Redis:
        """Return a client with the coordinator's rights."""
        return redis.Redis.from_url(
            self.unix_url,
            username="coordinator",
            password="change-me-coordinator",
            retry=Retry(NoBackoff(), 0),
        )

    def url_of(self, user: str) -> str:
        """Return the URL with which *user* of the file reaches this server."""
        return f"redis://{user}:change-me-{user}@127.0.0.1:{self.port}/0"


@contextmanager
def deployed(binary: Path) -> Generator[DeployedServer]:
    """Run *binary* with redis.conf and users.acl."""
    lines = (DEPLOY / "redis/redis.conf").read_text().splitlines()
    settings = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    config = {name: value for name, value in settings.items() if name not in _PLACES}
    config["aclfile"] = str(DEPLOY / "redis/users.acl")
    # Directly under /tmp: the path of a unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="sweepd-store-") as directory:
        server = DeployedServer(binary, Path(directory), config)
        server.start()
        try:
            yield server
        finally:
            server.stop()
