"""The session with the coordinator, over the store: numbered messages out, the outbox in.

Out: what waits is taken from the node one message after the other and sent in one entry; while
that entry is on its way, the next ones gather. Nothing is delayed on purpose. What is not
acknowledged is kept, and sent again, the same bytes, after a lost connection or when the
coordinator asks. In: one blocking read on a connection of its own.

A lost connection is an event: it is said once, and everything is tried again with back-off.
Being replaced or refused ends the link with an error.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import Iterator
from typing import Any, Protocol, cast

import anyio
import msgspec
import redis.asyncio
from anyio.abc import TaskStatus
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from sweepd.errors import StoreUnreachable, SweepdError, UsageError
from sweepd.keys import Keys
from sweepd.messages import (
    MESSAGE_LIMIT_BYTES,
    AgentBatch,
    AgentMessage,
    CoordinatorMessage,
    Hello,
    Refuse,
    Welcome,
    decode_outbox,
    encode,
)
from sweepd_agent.core.window import Window

ANSWER_S = 10.0  #: a store that takes longer for a short command counts as gone
BLOCK_S = 15.0  #: of one blocking read; it wakes an idle agent
BACKOFF_S = (0.05, 2.0)  #: first and longest wait for a store that is gone; half of it is chance
ENVELOPE_BYTES = 1024  #: of an entry, for what stands around its messages
OUTBOX_READ = 100  #: entries of one read

log = logging.getLogger("sweepd.agent")


class SessionEnded(SweepdError):
    """The coordinator does not serve this agent any longer."""


class Replaced(SessionEnded):
    """Another agent with the same id has opened a session: give each agent an id of its own (--id)."""


class Refused(SessionEnded):
    """The coordinator refused this agent."""


class MessageTooLarge(SweepdError):
    """A message is larger than the coordinator takes."""

    def __init__(self, message: AgentMessage, size: int) -> None:
        super().__init__(
            f"a {type(message).__name__} of {size} bytes cannot be sent, at most {MESSAGE_LIMIT_BYTES} can"
        )


class Node(Protocol):
    """What speaks through a link. Nothing here may block."""

    def hello(self) -> Hello:
        """A session begins: return its first message, and forget what was said in the one before."""
        ...

    def next_message(self) -> AgentMessage | None:
        """Return the next thing to say, None if there is nothing; asked only after the Welcome."""
        ...

    def received(self, message: CoordinatorMessage) -> None:
        """The coordinator said this (Refuse apart, which the link raises)."""
        ...

    def acknowledged(self, message: AgentMessage) -> None:
        """What was said is durable and done with."""
        ...


class Link:
    """See the module. *agent*: the id; *url*: redis://, rediss:// or unix://."""

    def __init__(self, url: str, keys: Keys, agent: str, node: Node) -> None:
        self.connected = False
        self.welcomed = False
        self.session = ""
        self.window = Window()
        self._url, self._keys, self._agent, self._node = url, keys, agent, node
        self._writer = _client(url, ANSWER_S)
        self._reader = _client(url, BLOCK_S + ANSWER_S)
        self._wake = asyncio.Event()
        self._begun = asyncio.Event()  #: a session has begun; cleared when another one is wanted
        self._again: int | None = None  #: send again from this number before anything new
        self._outbox_seen = 0
        #: taken from the node and not sent, because the entry before was full
        self._carried: tuple[AgentMessage, bytes, int] | None = None
        self._broken: set[str] = set()  #: which of our connections, write and read, do not work
        self._lost_at = 0.0

    def wake(self) -> None:
        """The node has something to say."""
        self._wake.set()

    async def connect(self, timeout_s: float) -> None:
        """Wait for the store to answer; raises StoreUnreachable after *timeout_s* or a wrong password."""
        place, waits, error = redacted(self._url), _waits(), "no answer"
        with anyio.move_on_after(timeout_s):
            while True:
                try:
                    await _ping(self._writer)
                    self.connected = True
                    return
                except AuthenticationError as refused:
                    raise StoreUnreachable(
                        f"the store at {place} refuses this user or password: {refused}"
                    ) from None
                except (RedisError, OSError) as failure:
                    error = str(failure)
                    await anyio.sleep(next(waits))
        raise StoreUnreachable(
            f"the store at {place} could not be reached for {timeout_s:g} s ({error}): "
            "check that it runs and that --redis is right"
        )

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Speak until cancelled. Raises :class:`SessionEnded`."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, name="link.write")
                tasks.start_soon(self._read, name="link.read")
                task_status.started()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._writer.aclose()
                await self._reader.aclose()

    # --- out --------------------------------------------------------------------------------------

    async def _write(self) -> None:
        waits = _waits()
        self._wake.set()
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
            except (RedisError, OSError) as error:
                self._lost("write", error)
                await anyio.sleep(next(waits))
                # Whether the last entry arrived is unknown; the coordinator knows messages by their number.
                self._repeat_from(0)
            else:
                self._back("write")
                waits = _waits()

    async def _flush(self) -> None:
        while True:
            if not self._begun.is_set():
                await self._begin_session()
            if self._again is not None:
                seq, self._again = self._again, None
                for data in self.window.again(seq):
                    await self._send(data)
                continue
            data = self._next_batch()
            if data is None:
                return
            await self._send(data)

    async def _begin_session(self) -> None:
        # Entries that are there by now belong to sessions before this one.
        seen = await self._last_entry()
        self._outbox_seen = seen
        self.session, self.welcomed = secrets.token_hex(8), False
        self.window, self._carried, self._again = Window(), None, None
        hello = self._node.hello()
        data = self._batch([hello], [encode(hello)], seen)
        self._begun.set()
        await self._send(data)

    def _next_batch(self) -> bytes | None:
        """Take what waits, as much as one entry and the window allow; None if that is nothing."""
        if not self.welcomed or self.window.room_bytes < MESSAGE_LIMIT_BYTES:
            return None
        messages, texts, size, seen = list[AgentMessage](), list[bytes](), ENVELOPE_BYTES, self._outbox_seen
        while len(messages) < self.window.room_messages:
            taken = self._take()
            if taken is None:
                break
            message, text, taken_seen = taken
            if size + len(text) + 1 > MESSAGE_LIMIT_BYTES and not messages:
                raise MessageTooLarge(message, len(text))
            if not messages:
                seen = taken_seen
            # One entry says one `outbox_seen`: an offer with an older one would be docked twice.
            if size + len(text) + 1 > MESSAGE_LIMIT_BYTES or taken_seen != seen:
                self._carried = taken
                break
            messages.append(message)
            texts.append(text)
            size += len(text) + 1
        return self._batch(messages, texts, seen) if messages else None

    def _take(self) -> tuple[AgentMessage, bytes, int] | None:
        if self._carried is not None:
            taken, self._carried = self._carried, None
            return taken
        message = self._node.next_message()
        return None if message is None else (message, encode(message), self._outbox_seen)

    def _batch(self, messages: list[AgentMessage], texts: list[bytes], seen: int) -> bytes:
        # Encoded once each: their sizes had to be known.
        raw = cast("list[AgentMessage]", [msgspec.Raw(text) for text in texts])
        data = encode(AgentBatch(self._agent, self.session, self.window.next_seq, seen, raw))
        self.window.add(messages, data)
        return data

    async def _send(self, data: bytes) -> None:
        await self._writer.xadd(self._keys.inbox, {b"e": data})

    def _repeat_from(self, seq: int) -> None:
        self._again = seq if self._again is None else min(seq, self._again)
        self._wake.set()

    # --- in ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        waits, broken = _waits(), False
        while True:
            try:
                if broken:
                    await _ping(self._reader)
                    await self._look_for_rollback()
                    # The store may have lost what it had not written to its disk.
                    self._repeat_from(0)
                    self._back("read")
                    broken = False
                await self._begun.wait()
                entries = await self._next_entries()
            except (RedisError, OSError) as error:
                self._lost("read", error)
                broken = True
                await anyio.sleep(next(waits))
                continue
            waits = _waits()
            for number, data in entries:
                self._hear(number, data)

    async def _next_entries(self) -> list[tuple[int, bytes]]:
        place: dict[Any, Any] = {self._keys.outbox(self._agent): f"{self._outbox_seen}-0"}
        answer: Any = await self._reader.xread(place, count=OUTBOX_READ, block=int(BLOCK_S * 1000))
        entries = answer[0][1] if answer else []
        return [(int(entry.split(b"-")[0]), fields.get(b"e", b"")) for entry, fields in entries]

    def _hear(self, number: int, data: bytes) -> None:
        if number <= self._outbox_seen:
            return
        try:
            entry = decode_outbox(data)
        except msgspec.DecodeError as error:
            log.error("link.unreadable number=%d error=%s entry=%r", number, error, data[:500])
            self._outbox_seen = number
            return
        if entry.session != self.session:
            self._outbox_seen = number
            if self.welcomed and any(isinstance(message, Welcome) for message in entry.messages):
                raise Replaced
            return
        for message in entry.messages:
            if isinstance(message, Refuse):
                self._refused(message)
            elif isinstance(message, Welcome):
                self.welcomed = True
                self._node.received(message)
            else:
                self._node.received(message)
        # Only now: an offer that says it saw this entry has what was assigned in it taken off.
        self._outbox_seen = number
        for message in self.window.acknowledge(entry.acknowledged):
            self._node.acknowledged(message)
        if entry.resend_from is not None:
            self._resend(entry.resend_from)
        self._wake.set()

    def _resend(self, seq: int) -> None:
        if seq > self.window.acknowledged:
            self._repeat_from(seq)
        else:  # it had acknowledged that: it does not know this session any more
            log.warning("link.session_forgotten agent=%s asked_for=%d", self._agent, seq)
            self._begun.clear()

    def _refused(self, message: Refuse) -> None:
        if not self.welcomed:
            raise Refused(f"the coordinator refused this agent: {message.reason}")
        # It took this session once: it, or its store, has forgotten it.
        log.warning("link.session_forgotten agent=%s reason=%s", self._agent, message.reason)
        self._begun.clear()

    async def _look_for_rollback(self) -> None:
        """After a lost connection: a store that has forgotten entries we have read went back in time."""
        last = await self._last_entry()
        if last < self._outbox_seen:
            log.warning("link.store_went_back agent=%s seen=%s last=%s", self._agent, self._outbox_seen, last)
            self._begun.clear()

    async def _last_entry(self) -> int:
        try:
            info: Any = await self._writer.xinfo_stream(self._keys.outbox(self._agent))
        except ResponseError as error:
            if "no such key" in str(error):
                return 0
            raise
        return int(info["last-generated-id"].split(b"-")[0])

    # --- lost and back ------------------------------------------------------------------------------

    def _lost(self, which: str, error: Exception) -> None:
        if not self._broken:
            self._lost_at = time.monotonic()
            log.warning("link.lost store=%s error=%s", redacted(self._url), error)
        self._broken.add(which)
        self.connected = False

    def _back(self, which: str) -> None:
        if which in self._broken:
            self._broken.remove(which)
            self.connected = not self._broken
            if self.connected:
                away_s = time.monotonic() - self._lost_at
                log.info("link.back store=%s away_s=%.1f", redacted(self._url), away_s)


def _client(url: str, answer_s: float) -> redis.asyncio.Redis:
    """A client that never repeats a command by itself. Raises UsageError for a URL it cannot use."""
    try:
        return redis.asyncio.Redis.from_url(
            url,
            retry=Retry(NoBackoff(), 0),
            retry_on_error=[],
            socket_timeout=answer_s,
            socket_connect_timeout=ANSWER_S,
            protocol=2,
            client_name="sweepd-agent",
        )
    except ValueError as error:
        raise UsageError(f"--redis {redacted(url)}: {error}") from None


async def _ping(client: redis.asyncio.Redis) -> None:
    answer: Any = client.ping()
    await answer


def _waits() -> Iterator[float]:
    """Yield how long to wait before each new try, growing, half of it chance."""
    first_s, longest_s = BACKOFF_S
    wait_s = first_s
    while True:
        yield wait_s * random.uniform(0.5, 1.0)
        wait_s = min(wait_s * 2, longest_s)


def redacted(url: str) -> str:
    """Return *url* without its password, for messages."""
    scheme, separator, rest = url.partition("://")
    credentials, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{credentials.partition(':')[0]}:***@{place}" if at else url
