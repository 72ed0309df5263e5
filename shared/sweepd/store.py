"""What a coordinator may ask of a store, and what the store promises.

Two implementations keep this contract and pass one suite (`tests/contract`): the in-memory
store in `sweepd.testing` and the Redis store in `sweepd_coordinator.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Protocol, Union


@dataclass(frozen=True)
class Put:
    """Set fields of a hash."""

    key: str
    fields: dict[str, bytes]


@dataclass(frozen=True)
class Drop:
    """Delete fields of a hash."""

    key: str
    fields: list[str]


@dataclass(frozen=True)
class Push:
    """Append to a list."""

    key: str
    items: list[bytes]


@dataclass(frozen=True)
class Delete:
    """Delete whole keys of any type."""

    keys: list[str]


@dataclass(frozen=True)
class Append:
    """Add one entry (its only field is `e`) to a stream.

    `number`: the entry's id is `<number>-0`; without it the store chooses. `limit`: the stream
    is cut to about that many entries.
    """

    key: str
    data: bytes
    number: int | None = None
    limit: int | None = None


@dataclass(frozen=True)
class Trim:
    """Remove the entries of a stream whose id is at most `<number>-0`."""

    key: str
    number: int


@dataclass(frozen=True)
class Set:
    """Set a string that expires after `ttl_s` seconds."""

    key: str
    data: bytes
    ttl_s: int


Write = Union[Put, Drop, Push, Delete, Append, Trim, Set]


@dataclass(frozen=True)
class Fence:
    """Proof of leadership: commits of another epoch or token are refused."""

    epoch: int
    token: str


@dataclass(frozen=True)
class Position:
    """How far the store has come: the last commit, and the inbox entry it was made from."""

    commit: int
    cursor: str  #: id of the last inbox entry that is done with; "0-0" at first


class Outcome(Enum):
    """What became of a commit."""

    COMMITTED = "committed"
    ALREADY = "already"  #: this very commit had gone through before
    FENCED = "fenced"  #: another coordinator leads
    BEHIND = "behind"  #: the store is older than the commit before this one


HASH, LIST, STREAM, STRING = "hash", "list", "stream", "string"  #: as Redis names its types

_TYPES: dict[type, str] = {Put: HASH, Drop: HASH, Push: LIST, Append: STREAM, Trim: STREAM, Set: STRING}


def types_of(writes: list[Write]) -> dict[str, str | None]:
    """Return the type that each key of a batch must have, or not exist; None if it is only deleted.

    Raises ValueError for a batch that no store can promise to apply whole: one key used as two
    types, or the numbers of a stream not rising. A batch is checked before anything is written.
    """
    types: dict[str, str | None] = {}
    numbers: dict[str, int] = {}
    for write in writes:
        if isinstance(write, Delete):
            for key in write.keys:
                types.setdefault(key, None)
            continue
        wanted = _TYPES[type(write)]
        found = types.get(write.key)
        if found is None:
            types[write.key] = wanted
        elif found != wanted:
            raise ValueError(f"one batch uses {write.key} as {found} and as {wanted}")
        if isinstance(write, Append) and write.number is not None:
            if write.number <= numbers.get(write.key, 0):
                raise ValueError(f"one batch appends {write.number} to {write.key} out of order")
            numbers[write.key] = write.number
    return types


class Store(Protocol):
    """The store as the coordinator needs it. All ids of stream entries are text, `<ms>-<n>`.

    Raises :class:`sweepd.errors.StoreUnreachable` from every method when the server cannot be
    reached or refuses for the time being; after that from `commit` its outcome is unknown until
    `position` was read. Raises :class:`sweepd.errors.StoreConflict`, having changed nothing,
    when a key holds another type than the one asked for, or a stream that number already.
    """

    async def lead(self, token: str, ttl_s: float) -> Fence | None:
        """Try to become the leader for *ttl_s* seconds; None while somebody else leads.

        A new leader raises the epoch and writes its token into the fence. Asked again with the
        token that leads, it answers the same fence (the first answer may have been lost).
        """
        ...

    async def renew(self, fence: Fence, ttl_s: float) -> bool:
        """Prolong the leadership; False if it was lost.

        A leadership that ran out, but that nobody took since, is taken back: the fence proves it.
        """
        ...

    async def resign(self, fence: Fence) -> None:
        """Give the leadership back at once, if it is still held: nothing is committed with it any more."""
        ...

    async def position(self) -> tuple[Fence | None, Position]:
        """Return the fence and the position as they stand in the store."""
        ...

    async def read_inbox(self, after: str, limit: int, block_s: float) -> list[tuple[str, bytes]]:
        """Return at most *limit* entries after the id *after*, waiting up to *block_s* for one."""
        ...

    async def commit(self, fence: Fence, position: Position, writes: list[Write]) -> Outcome:
        """Apply *writes* in one atomic step and move to *position*, or change nothing.

        *position.commit* is the new number: the store must stand at the one before. Inbox
        entries up to *position.cursor* are removed first.
        """
        ...

    async def read_hash(self, key: str) -> dict[str, bytes]:
        """Return all fields of a hash; empty if there is no such key."""
        ...

    async def read_list(self, key: str) -> list[bytes]:
        """Return all items of a list; empty if there is no such key."""
        ...

    async def read_stream(
        self, key: str, after: str, limit: int, block_s: float = 0
    ) -> list[tuple[str, bytes]]:
        """Return at most *limit* entries of a stream after the id *after*."""
        ...

    async def read(self, key: str) -> bytes | None:
        """Return a string; None if there is no such key."""
        ...

    async def read_prefixed(self, prefix: str) -> dict[str, bytes]:
        """Return all strings whose key starts with *prefix*, by key."""
        ...

    async def inbox_length(self) -> int:
        """Return how many entries of the inbox no commit has removed yet."""
        ...

    async def send(self, entries: list[bytes]) -> list[str]:
        """Append *entries* to the inbox, in order; what agents and clients do."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
