"""The store in Redis (6.2 or newer) or Valkey, with the contract of `sweepd.store.Store`.

Three connections, because a command waits for the one before it on the same connection: one for
commits and everything short, one for the blocking read of the inbox, one for other blocking
reads. None of them repeats a command; who gets StoreUnreachable decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from redis.exceptions import NoScriptError, ResponseError

from sweepd.errors import StoreConflict, UsageError
from sweepd.keys import Keys
from sweepd.store import Append, Drop, Fence, Outcome, Position, Push, Put, Set, Trim, Write, types_of
from sweepd_coordinator.wire import Argument, Wire

#: A whole study's trials come in one answer of some 100 MB per 100,000 trials.
LOAD_TIMEOUT_S = 60.0


class Script:
    """A `.lua` file of this package, called by its digest."""

    def __init__(self, name: str) -> None:
        self.source = resources.files("sweepd_coordinator").joinpath(name).read_bytes()
        self._digest = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    async def call(self, wire: Wire, keys: Sequence[str], arguments: Iterable[Argument]) -> Any:
        """Run it on *wire*; loads it where the server does not know it (new, restarted, failed over)."""
        command = ("EVALSHA", self._digest, len(keys), *keys, *arguments)
        try:
            return await wire.call(*command)
        except NoScriptError:  # nothing of it was run
            await wire.call("SCRIPT", "LOAD", self.source)
            return await wire.call(*command)


class RedisStore:
    """See the module and the contract. *url*: redis://, rediss:// or unix://.

    *timeout_s*: how long a command may take before the store counts as unreachable; a blocking
    read may take its own time on top.
    """

    def __init__(self, url: str, keys: Keys | None = None, *, timeout_s: float = 5.0) -> None:
        self.keys = keys or Keys()
        self._timeout_s = timeout_s
        self._wire = Wire(url, name="sweepd-coordinator", timeout_s=timeout_s)
        self._inbox = Wire(url, name="sweepd-coordinator-inbox", timeout_s=timeout_s)
        self._streams = Wire(url, name="sweepd-coordinator-streams", timeout_s=timeout_s)
        self._commit = Script("commit.lua")
        self._lead = Script("lead.lua")

    # --- leadership -----------------------------------------------------------------------

    async def lead(self, token: str, ttl_s: float) -> Fence | None:
        answer = await self._leadership("lead", token, 0, ttl_s)
        return Fence(int(answer[1]), token) if answer[0] == b"leads" else None

    async def renew(self, fence: Fence, ttl_s: float) -> bool:
        answer = await self._leadership("renew", fence.token, fence.epoch, ttl_s)
        return answer[0] == b"leads"

    async def resign(self, fence: Fence) -> None:
        await self._leadership("resign", fence.token, fence.epoch, 0)

    async def _leadership(self, verb: str, token: str, epoch: int, ttl_s: float) -> list[bytes]:
        keys = [self.keys.leader, self.keys.fence]
        answer = await self._lead.call(self._wire, keys, (verb, token, epoch, round(ttl_s * 1000)))
        _raise_conflict(answer)
        return answer

    async def position(self) -> tuple[Fence | None, Position]:
        values = await self._read("HMGET", self.keys.fence, "epoch", "token", "commit_no", "cursor")
        epoch, token, commit, cursor = cast(list[bytes | None], values)
        fence = None if token is None or epoch is None else Fence(int(epoch), token.decode())
        return fence, Position(int(commit or 0), (cursor or b"0-0").decode())

    # --- the commit -----------------------------------------------------------------------

    async def commit(self, fence: Fence, position: Position, writes: list[Write]) -> Outcome:
        keys, head, body = pack_writes(writes, first_key=3)
        answer = await self._commit.call(
            self._wire,
            (self.keys.fence, self.keys.inbox, *keys),
            (
                fence.epoch,
                fence.token,
                position.commit,
                position.cursor,
                entry_after(position.cursor),
                *head,
                *body,
            ),
        )
        _raise_conflict(answer)
        return Outcome(answer[0].decode())

    # --- reading --------------------------------------------------------------------------

    async def read_inbox(self, after: str, limit: int, block_s: float) -> list[tuple[str, bytes]]:
        return await self._read_stream(self._inbox, self.keys.inbox, after, limit, block_s)

    async def read_stream(
        self, key: str, after: str, limit: int, block_s: float = 0
    ) -> list[tuple[str, bytes]]:
        wire = self._streams if block_s > 0 else self._wire
        return await self._read_stream(wire, key, after, limit, block_s)

    async def _read_stream(
        self, wire: Wire, key: str, after: str, limit: int, block_s: float
    ) -> list[tuple[str, bytes]]:
        block = ("BLOCK", max(1, round(block_s * 1000))) if block_s > 0 else ()
        try:
            answer = await wire.call(
                "XREAD", "COUNT", limit, *block, "STREAMS", key, after, timeout_s=block_s + self._timeout_s
            )
        except ResponseError as error:
            raise _conflict(error, key) from None
        if not answer:
            return []
        return [(entry.decode(), _data(fields)) for entry, fields in answer[0][1]]

    async def read_hash(self, key: str) -> dict[str, bytes]:
        flat: list[bytes] = await self._read("HGETALL", key)
        return {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}

    async def read_list(self, key: str) -> list[bytes]:
        return await self._read("LRANGE", key, 0, -1)

    async def read(self, key: str) -> bytes | None:
        return await self._read("GET", key)

    async def read_prefixed(self, prefix: str) -> dict[str, bytes]:
        pattern = "".join("\\" + c if c in "*?[]\\^-" else c for c in prefix) + "*"
        cursor, found = b"0", dict[str, bytes]()
        while True:
            cursor, names = await self._read("SCAN", cursor, "MATCH", pattern, "COUNT", 5000)
            if names:
                values: list[bytes | None] = await self._read("MGET", *names)
                found.update((n.decode(), v) for n, v in zip(names, values, strict=True) if v is not None)
            if cursor == b"0":
                return found

    async def inbox_length(self) -> int:
        return await self._read("XLEN", self.keys.inbox)

    async def _read(self, command: str, key: Argument, *rest: Argument) -> Any:
        try:
            return await self._wire.call(command, key, *rest, timeout_s=max(LOAD_TIMEOUT_S, self._timeout_s))
        except ResponseError as error:
            raise _conflict(error, key) from None

    # --- what agents and clients do ---------------------------------------------------------

    async def send(self, entries: list[bytes]) -> list[str]:
        add = ("XADD", self.keys.inbox, "*", "e")
        ids: list[bytes] = await self._wire.call_many([(*add, data) for data in entries])
        return [entry.decode() for entry in ids]

    # --- the server -------------------------------------------------------------------------

    async def describe(self) -> ServerInfo:
        """Ask the server what it is and how it keeps data."""
        answer: bytes = await self._wire.call("INFO")
        lines = (line.partition(":") for line in answer.decode(errors="replace").splitlines())
        info = {name: value for name, _, value in lines}
        return ServerInfo(
            # Valkey says 7.2.4 here, the version of Redis that it is compatible with.
            version=info.get("redis_version", "0"),
            eviction=info.get("maxmemory_policy", "noeviction"),
            appends=info.get("aof_enabled") == "1",
            cluster=info.get("cluster_enabled") == "1",
        )

    async def close(self) -> None:
        for wire in (self._wire, self._inbox, self._streams):
            await wire.close()


@dataclass(frozen=True)
class ServerInfo:
    """How a server describes itself."""

    version: str
    eviction: str  #: its maxmemory-policy
    appends: bool  #: whether it writes an append-only file
    cluster: bool

    def refusal(self) -> str | None:
        """Why this server cannot be the store, with the remedy; None if it can."""
        numbers = tuple(int(part) for part in self.version.split(".")[:2] if part.isdigit())
        if numbers < (6, 2):
            return f"it is version {self.version}; use Redis 6.2 or newer, or Valkey"
        if self.eviction != "noeviction":
            return (
                f"its maxmemory-policy is {self.eviction}, which removes records when memory is short; "
                "set it to noeviction"
            )
        if self.cluster:
            return "it is a node of a cluster; use a stand-alone server"
        return None


def pack_writes(writes: list[Write], first_key: int) -> tuple[list[str], list[Argument], list[Argument]]:
    """Return the keys of *writes* and the two parts of commit.lua's arguments about them.

    *first_key*: the index of the first of these keys in KEYS. Raises ValueError as `types_of`.
    """
    types = types_of(writes)
    index = {key: i for i, key in enumerate(types, first_key)}
    numbered: dict[int, int] = {}
    body: list[Argument] = []
    for write in writes:
        if isinstance(write, Append):
            key, entry = index[write.key], "*"
            if write.number is not None:
                entry = f"{write.number}-0"
                numbered.setdefault(key, write.number)
            body += ("append", key, entry, write.limit or 0, write.data)
        elif isinstance(write, Put):
            if write.fields:
                body += ("put", index[write.key], 2 * len(write.fields))
                for pair in write.fields.items():
                    body += pair
        elif isinstance(write, Push):
            if write.items:
                body += ("push", index[write.key], len(write.items), *write.items)
        elif isinstance(write, Trim):
            body += ("trim", index[write.key], f"{write.number + 1}-0")
        elif isinstance(write, Set):
            body += ("set", index[write.key], write.ttl_s, write.data)
        elif isinstance(write, Drop):
            if write.fields:
                body += ("drop", index[write.key], len(write.fields), *write.fields)
        else:
            for name in write.keys:
                body += ("delete", index[name])
    head: list[Argument] = [len(numbered)]
    for pair in numbered.items():
        head += pair
    head += (wanted or "any" for wanted in types.values())
    return list(types), head, body


def entry_after(entry: str) -> str:
    """Return the smallest id that is larger than *entry*."""
    ms, _, number = entry.partition("-")
    return f"{ms}-{int(number) + 1}"


def _data(fields: list[bytes]) -> bytes:
    """The field `e` of an entry; empty (which nobody can decode) if a stranger wrote it without one."""
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == b"e":
            return value
    return b""


def _raise_conflict(answer: list[bytes]) -> None:
    if answer[0] == b"type":
        key, found, wanted = (part.decode() for part in answer[1:])
        raise StoreConflict(f"{key} is a {found} in the store, not a {wanted}")
    if answer[0] == b"number":
        key, last = (part.decode() for part in answer[1:])
        raise StoreConflict(f"{key} is at {last} already; a smaller number came late")


def _conflict(error: ResponseError, key: Argument) -> Exception:
    if str(error).startswith("WRONGTYPE"):
        return StoreConflict(f"{key} has another type in the store than sweepd writes")
    return error


async def check_server(store: RedisStore) -> ServerInfo:
    """Return the server's description; raises UsageError if it cannot be the store of sweepd."""
    info = await store.describe()
    reason = info.refusal()
    if reason is not None:
        raise UsageError(f"this server cannot be the store of sweepd: {reason}")
    return info
