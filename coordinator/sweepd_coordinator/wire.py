"""One connection to the store, that carries one command at a time and never repeats one.

redis-py's clients repeat a command whose answer was lost; of a command that writes, the second
one is another write. So this is redis-py's connection without its client: a lost answer is a
lost answer (`StoreUnreachable`), the connection is dropped, and the next command opens another.
It also costs less: no pool, no health check, and commands are packed by hiredis in C.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from sweepd.errors import StoreUnreachable, UsageError

Argument = str | bytes | int

# hiredis types its argument as a tuple of one.
_pack: Callable[[tuple[Argument, ...]], bytes] = hiredis.pack_command  # pyright: ignore[reportAssignmentType]

# Answers of a server that is there, but cannot do this now: it loads its data, is a replica
# since a failover, has no memory or disk left. Matched in the text because inside a script the
# word is not at the front (Redis 6.2).
_NOT_NOW = (
    "LOADING",
    "READONLY",
    "read only",
    "MASTERDOWN",
    "MISCONF",
    "OOM",
    "used memory",
    "BUSY",
    "NOREPLICAS",
)


class Wire:
    """See the module. *url*: redis://, rediss:// or unix://; raises UsageError for another one."""

    def __init__(self, url: str, *, name: str, timeout_s: float = 5.0) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        try:
            pool = ConnectionPool.from_url(url)
            pool.connection_kwargs.update(
                protocol=2,
                client_name=name,
                # The deadline below covers a whole command. redis-py's own would start a task for each send.
                socket_timeout=None,
                socket_connect_timeout=timeout_s,
                retry=None,
                retry_on_timeout=False,
                retry_on_error=[],
                decode_responses=False,
            )
            self._connection: AbstractConnection = pool.make_connection()
        except (ValueError, TypeError) as error:
            raise UsageError(f"the URL of the store, {redacted(url)!r}, cannot be used: {error}") from None

    async def call(self, *command: Argument, timeout_s: float | None = None) -> Any:
        """Send one command and return its answer, within *timeout_s* (the wire's own if None).

        Raises StoreUnreachable when no answer came: whether the command was carried out is then
        unknown. An error that the server answered is raised as redis-py's ResponseError.
        """
        return (await self._exchange([command], timeout_s))[0]

    async def call_many(self, commands: Sequence[Sequence[Argument]]) -> list[Any]:
        """Send all *commands* at once and return their answers; the first error among them is raised."""
        return await self._exchange(commands, None)

    async def _exchange(self, commands: Sequence[Sequence[Argument]], timeout_s: float | None) -> list[Any]:
        packed = [_pack(tuple(command)) for command in commands]
        async with self._lock:
            try:
                async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                    await self._connection.send_packed_command(packed, check_health=False)
                    answers = [await self._answer() for _ in packed]
            except BaseException as error:
                # An answer may still be on its way: nothing else may be read from this connection.
                await self._connection.disconnect(nowait=True)
                raise self._unreachable(error) or error from None
            for answer in answers:
                if isinstance(answer, ResponseError):
                    refusal = self._refused(answer)
                    if refusal is not None:
                        # The next connection may find the server that took over.
                        await self._connection.disconnect(nowait=True)
                    raise refusal or answer
            return answers

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    def _unreachable(self, error: BaseException) -> StoreUnreachable | UsageError | None:
        if isinstance(error, (AuthenticationError, NoPermissionError)):
            return UsageError(f"the store at {redacted(self._url)} refuses this user or password: {error}")
        if isinstance(error, TimeoutError):
            return StoreUnreachable(f"the store at {redacted(self._url)} did not answer in time")
        if isinstance(error, (RedisConnectionError, RedisTimeoutError, OSError)):
            return StoreUnreachable(f"the store at {redacted(self._url)} cannot be reached: {error}")
        if isinstance(error, ResponseError):  # while connecting: SELECT, HELLO
            return self._refused(error)
        return None

    def _refused(self, error: ResponseError) -> StoreUnreachable | UsageError | None:
        text = str(error)
        if isinstance(error, NoPermissionError):
            return UsageError(f"the store does not allow it to this user (see deploy/redis): {text}")
        if any(word in text for word in _NOT_NOW):
            return StoreUnreachable(f"the store at {redacted(self._url)} refuses for now: {text}")
        return None

    async def close(self) -> None:
        """Close the connection; a later command would open another."""
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect()


def redacted(url: str) -> str:
    """Return *url* without its password, for messages."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    if not at:
        return url
    user = credentials.partition(":")[0]
    return f"{scheme}{separator}{user}:***@{place}"
