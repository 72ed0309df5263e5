"""What tests of programs around sweepd need: a store in memory and a clock that is moved by hand.

    clock = FakeClock()
    store = MemoryStore(clock=clock)
    fence = await store.lead("me", ttl_s=10)
    clock.advance(11)
    assert await store.lead("you", ttl_s=10) is not None

`MemoryStore` keeps the whole contract of :class:`sweepd.store.Store`, as the suite in
`tests/contract` proves beside real servers. It lives in one event loop of one process.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, Union

from sweepd.errors import StoreConflict, StoreUnreachable
from sweepd.keys import Keys
from sweepd.store import (
    HASH,
    LIST,
    STREAM,
    STRING,
    Append,
    Delete,
    Drop,
    Fence,
    Outcome,
    Position,
    Push,
    Put,
    Trim,
    Write,
    types_of,
)

__all__ = ["FakeClock", "MemoryStore"]


class FakeClock:
    """A clock in seconds that only moves when it is told to. Call it to read it."""

    def __init__(self, now_s: float = 1_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        """Let *seconds* pass."""
        if seconds < 0:
            raise ValueError(f"time does not go back ({seconds} s)")
        self.now_s += seconds


_Id = tuple[int, int]


@dataclass
class _Stream:
    ids: list[_Id] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)
    last: _Id = (0, 0)  #: of all ids ever given out, also after the entries are gone

    def add(self, entry: _Id, data: bytes) -> None:
        self.ids.append(entry)
        self.data.append(data)
        self.last = entry

    def next_id(self, ms: int) -> _Id:
        return max((ms, 0), (self.last[0], self.last[1] + 1))

    def remove_through(self, entry: _Id) -> None:
        self._remove(bisect_right(self.ids, entry))

    def keep_newest(self, count: int) -> None:
        self._remove(max(0, len(self.ids) - count))

    def _remove(self, count: int) -> None:
        del self.ids[:count]
        del self.data[:count]


_Value = Union[dict[str, bytes], list[bytes], _Stream, bytes]
_TYPE_NAMES: dict[type, str] = {dict: HASH, list: LIST, _Stream: STREAM, bytes: STRING}
_V = TypeVar("_V")


@dataclass
class _FenceState:
    epoch: int = 0
    token: str | None = None
    position: Position = field(default_factory=lambda: Position(0, "0-0"))


class MemoryStore:
    """A :class:`sweepd.store.Store` in memory; several coordinators may share one instance.

    *clock* gives seconds since 1970 and rules lifetimes and the ids of entries; only the waiting
    of blocking reads goes by real time. `reachable = False` makes every call raise
    StoreUnreachable; `lose_reply()` lets the next commit go through and its answer be lost.
    """

    def __init__(self, keys: Keys | None = None, clock: Callable[[], float] = time.time) -> None:
        self.keys = keys or Keys()
        self.reachable = True
        self._clock = clock
        self._values: dict[str, _Value] = {}
        self._expires: dict[str, float] = {}
        self._fence = _FenceState()
        self._lost_replies = 0
        self._grown = asyncio.Event()

    def lose_reply(self) -> None:
        """The next commit is applied, but its caller sees StoreUnreachable."""
        self._lost_replies += 1

    # --- leadership -----------------------------------------------------------------------

    async def lead(self, token: str, ttl_s: float) -> Fence | None:
        self._check_reachable()
        leader = self._value(self.keys.leader, bytes)
        if leader is not None and leader != token.encode():
            return None
        if self._fence.token != token:
            self._fence.epoch += 1
            self._fence.token = token
        self._set(self.keys.leader, token.encode(), ttl_s)
        return Fence(self._fence.epoch, token)

    async def renew(self, fence: Fence, ttl_s: float) -> bool:
        self._check_reachable()
        if not self._holds(fence):
            return False
        self._set(self.keys.leader, fence.token.encode(), ttl_s)
        return True

    async def resign(self, fence: Fence) -> None:
        self._check_reachable()
        if self._holds(fence):
            self._fence.token = None
            self._remove(self.keys.leader)

    async def position(self) -> tuple[Fence | None, Position]:
        self._check_reachable()
        state = self._fence
        fence = None if state.token is None else Fence(state.epoch, state.token)
        return fence, state.position

    def _holds(self, fence: Fence) -> bool:
        return (self._fence.epoch, self._fence.token) == (fence.epoch, fence.token)

    # --- the commit -----------------------------------------------------------------------

    async def commit(self, fence: Fence, position: Position, writes: list[Write]) -> Outcome:
        types = types_of(writes)
        self._check_reachable()
        if not self._holds(fence):
            return Outcome.FENCED
        if self._fence.position.commit == position.commit:
            return Outcome.ALREADY
        if self._fence.position.commit != position.commit - 1:
            return Outcome.BEHIND
        self._check_types({**types, self.keys.inbox: STREAM})
        self._check_numbers(writes)
        self._stream(self.keys.inbox).remove_through(_parse(position.cursor))
        self._fence.position = position
        for write in writes:
            self._apply(write)
        if self._lost_replies:
            self._lost_replies -= 1
            raise StoreUnreachable("the connection was lost before the answer came")
        return Outcome.COMMITTED

    def _check_types(self, types: dict[str, str | None]) -> None:
        for key, wanted in types.items():
            value = self._live(key)
            if wanted is not None and value is not None and _TYPE_NAMES[type(value)] != wanted:
                raise StoreConflict(f"{key} is a {_TYPE_NAMES[type(value)]} in the store, not a {wanted}")

    def _check_numbers(self, writes: list[Write]) -> None:
        for write in writes:
            if isinstance(write, Append) and write.number is not None:
                stream = self._value(write.key, _Stream)
                if stream is not None and (write.number, 0) <= stream.last:
                    last = _text(stream.last)
                    raise StoreConflict(f"{write.key} is at {last} already; {write.number}-0 came late")

    def _apply(self, write: Write) -> None:
        if isinstance(write, Put):
            self._open(write.key, dict).update(write.fields)
        elif isinstance(write, Drop):
            fields = self._open(write.key, dict)
            for name in write.fields:
                fields.pop(name, None)
            if not fields:
                self._remove(write.key)
        elif isinstance(write, Push):
            self._open(write.key, list).extend(write.items)
        elif isinstance(write, Delete):
            for key in write.keys:
                self._remove(key)
        elif isinstance(write, Append):
            self._append(write)
        elif isinstance(write, Trim):
            self._stream(write.key).remove_through((write.number, 0))
        else:
            self._set(write.key, write.data, write.ttl_s)

    def _append(self, write: Append) -> None:
        stream = self._stream(write.key)
        entry = stream.next_id(self._ms()) if write.number is None else (write.number, 0)
        stream.add(entry, write.data)
        if write.limit is not None:
            stream.keep_newest(write.limit)
        self._announce()

    # --- reading --------------------------------------------------------------------------

    async def read_inbox(self, after: str, limit: int, block_s: float) -> list[tuple[str, bytes]]:
        return await self.read_stream(self.keys.inbox, after, limit, block_s)

    async def read_stream(
        self, key: str, after: str, limit: int, block_s: float = 0
    ) -> list[tuple[str, bytes]]:
        deadline = time.monotonic() + block_s
        while True:
            self._check_reachable()
            found = self._entries(key, _parse(after), limit)
            left_s = deadline - time.monotonic()
            if found or left_s <= 0:
                return found
            try:
                await asyncio.wait_for(self._grown.wait(), left_s)
            except asyncio.TimeoutError:  # noqa: UP041 (another class on Python 3.10)
                return []

    def _entries(self, key: str, after: _Id, limit: int) -> list[tuple[str, bytes]]:
        stream = self._value(key, _Stream)
        if stream is None:
            return []
        start = bisect_right(stream.ids, after)
        end = start + limit
        return [
            (_text(i), data) for i, data in zip(stream.ids[start:end], stream.data[start:end], strict=True)
        ]

    async def read_hash(self, key: str) -> dict[str, bytes]:
        self._check_reachable()
        return dict(self._value(key, dict) or {})

    async def read_list(self, key: str) -> list[bytes]:
        self._check_reachable()
        return list(self._value(key, list) or [])

    async def read(self, key: str) -> bytes | None:
        self._check_reachable()
        return self._value(key, bytes)

    async def read_prefixed(self, prefix: str) -> dict[str, bytes]:
        self._check_reachable()
        found = {key: self._live(key) for key in list(self._values) if key.startswith(prefix)}
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    async def inbox_length(self) -> int:
        self._check_reachable()
        stream = self._value(self.keys.inbox, _Stream)
        return 0 if stream is None else len(stream.ids)

    async def send(self, entries: list[bytes]) -> list[str]:
        self._check_reachable()
        stream = self._stream(self.keys.inbox)
        for data in entries:
            stream.add(stream.next_id(self._ms()), data)
        self._announce()
        return [_text(i) for i in stream.ids[len(stream.ids) - len(entries) :]]

    async def close(self) -> None:
        self._announce()

    # --- values ---------------------------------------------------------------------------

    def _check_reachable(self) -> None:
        if not self.reachable:
            raise StoreUnreachable("the store in memory was made unreachable")

    def _announce(self) -> None:
        """Wake all blocking reads; those that find nothing wait on the next event."""
        self._grown.set()
        self._grown = asyncio.Event()

    def _ms(self) -> int:
        return int(self._clock() * 1000)

    def _live(self, key: str) -> _Value | None:
        """The value of *key*, unless its time is over."""
        if self._expires.get(key, float("inf")) <= self._clock():
            self._remove(key)
        return self._values.get(key)

    def _value(self, key: str, kind: type[_V]) -> _V | None:
        value = self._live(key)
        if value is not None and not isinstance(value, kind):
            raise StoreConflict(
                f"{key} is a {_TYPE_NAMES[type(value)]} in the store, not a {_TYPE_NAMES[kind]}"
            )
        return value

    def _open(self, key: str, kind: type[_V]) -> _V:
        """The value of *key*, made empty if there is none."""
        value = self._value(key, kind)
        if value is None:
            value = kind()
            self._values[key] = value  # pyright: ignore[reportArgumentType]
        return value

    def _stream(self, key: str) -> _Stream:
        return self._open(key, _Stream)

    def _set(self, key: str, data: bytes, ttl_s: float) -> None:
        self._values[key] = data
        self._expires[key] = self._clock() + ttl_s

    def _remove(self, key: str) -> None:
        self._values.pop(key, None)
        self._expires.pop(key, None)


def _parse(entry: str) -> _Id:
    ms, _, number = entry.partition("-")
    return int(ms), int(number or 0)


def _text(entry: _Id) -> str:
    return f"{entry[0]}-{entry[1]}"
