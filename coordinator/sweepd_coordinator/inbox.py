"""The reader of the inbox: one read ahead of the turns, and no more.

While a turn is under way the next read is not even sent; it goes out when the turn takes what
waits, right behind that turn's commit. So the server answers it after the commit, with
everything that came meanwhile: turns grow with the load, and one read serves one commit.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

import anyio
import msgspec

from sweepd.errors import StoreUnreachable
from sweepd.messages import AgentBatch, Envelope, decode_envelope
from sweepd.store import Store
from sweepd_coordinator.backoff import Backoff

log = logging.getLogger("sweepd.coordinator")


class Inbox:
    """What waits in the inbox after the entry *after*.

    `run` reads until it is cancelled and calls *arrived* when there is something to take.
    *limit*: entries in one read. *block_s*: how long a read waits for the first of them.
    """

    def __init__(
        self,
        store: Store,
        after: str,
        *,
        limit: int,
        block_s: float,
        backoff: Backoff,
        clock: Callable[[], float],
        arrived: Callable[[], None],
        outage: Callable[[], None],
    ) -> None:
        self._store, self._after = store, after
        self._limit, self._block_s = limit, block_s
        self._backoff, self._clock = backoff, clock
        self._arrived, self._outage = arrived, outage
        self._entries: list[tuple[str, bytes]] = []
        self._taken = asyncio.Event()
        self._pending_through_s: float | None = None
        self._answered_s = -math.inf
        self._out_of_touch = False
        #: the inbox was read, and taken, to a tail that was seen at this time
        self.read_through_s = -math.inf
        #: the store was away since somebody last looked: it may have come back older
        self.suspicious = False

    @property
    def waiting(self) -> bool:
        return bool(self._entries)

    @property
    def oldest(self) -> str | None:
        """The id of the first entry that waits."""
        return self._entries[0][0] if self._entries else None

    def in_touch(self) -> bool:
        """Whether the store has answered lately, so that silence means that nobody spoke."""
        return not self._out_of_touch and self._clock() - self._answered_s <= 2 * self._block_s

    async def run(self) -> None:
        while True:
            asked_s = self._clock()
            try:
                entries = await self._store.read_inbox(self._after, self._limit, self._block_s)
            except StoreUnreachable as error:
                await self._wait_out(error)
                continue
            self._answered_s = self._clock()
            if self._out_of_touch:
                self._out_of_touch = False
                self._backoff.reset()
                log.info("store.back")
            through_s = asked_s if len(entries) < self._limit else None
            if not entries:
                self.read_through_s = asked_s
                continue
            self._after = entries[-1][0]
            self._entries, self._pending_through_s = entries, through_s
            self._taken.clear()
            self._arrived()
            await self._taken.wait()

    async def _wait_out(self, error: StoreUnreachable) -> None:
        self.suspicious = True
        if not self._out_of_touch:
            self._out_of_touch = True
            self._outage()
            log.warning("store.unreachable error=%s", error)
        await anyio.sleep(self._backoff.next_s())

    def take(self, messages: int, size: int) -> tuple[list[tuple[str, Envelope | None]], int]:
        """Return what waits, up to *messages* messages and *size* bytes, and the number of messages.

        At least one entry if any waits. An entry that cannot be decoded is None, and logged.
        """
        taken: list[tuple[str, Envelope | None]] = []
        count = used = 0
        for entry, data in self._entries:
            envelope = _decode(entry, data)
            more = len(envelope.messages) if isinstance(envelope, AgentBatch) else 1
            if taken and (count + more > messages or used + len(data) > size):
                break
            taken.append((entry, envelope))
            count += more
            used += len(data)
        if len(taken) < len(self._entries):
            del self._entries[: len(taken)]
            return taken, count
        self._entries = []
        if self._pending_through_s is not None:
            self.read_through_s, self._pending_through_s = self._pending_through_s, None
        self._taken.set()
        return taken, count


def _decode(entry: str, data: bytes) -> Envelope | None:
    try:
        return decode_envelope(data)
    # RecursionError: brackets nested by the thousand.
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        log.warning("inbox.rejected id=%s bytes=%d error=%s", entry, len(data), error)
        return None
