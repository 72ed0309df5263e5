"""Where a command finds the store."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from sweepd.client import Client
from sweepd.embedded import running_store, store_for_reading
from sweepd.errors import StoreUnreachable, UsageError
from sweepd.reader import DEFAULT_URL
from sweepd.statedir import DEFAULT_STATE, StateDirectory


@dataclass(frozen=True)
class Where:
    """The options --redis, --namespace and --state of a command; None where not given."""

    redis: str | None = None
    namespace: str = "sweepd"
    state: str | None = None

    @property
    def directory(self) -> StateDirectory:
        return StateDirectory.at(self.state or DEFAULT_STATE)


@contextmanager
def live(where: Where) -> Generator[Client, None, None]:
    """Yield a client of a store that is up: the one asked for, else the nearest.

    Raises StoreUnreachable or UsageError with the remedy if there is none.
    """
    running = None if where.redis else running_store(where.directory)
    url = where.redis or (running.url if running else None)
    if url is None and where.state is not None:
        raise StoreUnreachable(
            f"no store runs on {where.directory.path}: start one with `sweepd up --state {where.state}`"
        )
    with Client(url or DEFAULT_URL, where.namespace) as client:
        if url is None:
            _explain_silence(client, where)
        yield client


@contextmanager
def reading(where: Where) -> Generator[Client, None, None]:
    """As `live`, but a store that rests in the state directory is started for the moment."""
    directory = where.directory
    if where.redis or not (directory.has_data or running_store(directory)):
        if where.state is not None and not where.redis:
            raise UsageError(f"{directory.path} holds no studies: give the --state DIR of `sweepd run`")
        with live(where) as client:
            yield client
        return
    with store_for_reading(directory) as url, Client(url, where.namespace) as client:
        yield client


def _explain_silence(client: Client, where: Where) -> None:
    try:
        client.feed_end()
    except StoreUnreachable as error:
        at_rest = "; `sweepd ls`, `show` and `trials` read what is at rest there"
        raise StoreUnreachable(
            f"no store runs in {where.directory.path} and none answers at {client.url}: "
            "start one with `sweepd up`, or give --redis URL" + (at_rest if where.directory.has_data else "")
        ) from error
