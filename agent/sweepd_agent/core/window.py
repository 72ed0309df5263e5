"""What was sent and is not acknowledged yet, so that it can be sent again just as it was.

Messages of a session are numbered from 1. A batch is kept as the bytes that were sent: sent
again it says the same, with the `outbox_seen` that was true when its offer was made.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from sweepd.messages import UNACKNOWLEDGED_BYTES, UNACKNOWLEDGED_MESSAGES, AgentMessage


@dataclass(frozen=True, slots=True)
class Batch:
    """One inbox entry: the messages `first_seq`, `first_seq + 1`, ..., and their bytes."""

    first_seq: int
    messages: tuple[AgentMessage, ...]
    data: bytes

    @property
    def last_seq(self) -> int:
        return self.first_seq + len(self.messages) - 1


class Window:
    """The unacknowledged batches of one session, oldest first."""

    def __init__(
        self, messages: int = UNACKNOWLEDGED_MESSAGES, size_bytes: int = UNACKNOWLEDGED_BYTES
    ) -> None:
        self._limit_messages, self._limit_bytes = messages, size_bytes
        self._batches: deque[Batch] = deque()
        self._messages = self._bytes = 0
        self.acknowledged = 0  #: everything up to this number is done with
        self.next_seq = 1

    def __len__(self) -> int:
        """How many messages wait for an acknowledgement."""
        return self._messages - self._done_in_first

    @property
    def room_messages(self) -> int:
        """How many more messages may be sent now."""
        return max(0, self._limit_messages - self._messages)

    @property
    def room_bytes(self) -> int:
        """How many more bytes may be sent now."""
        return max(0, self._limit_bytes - self._bytes)

    @property
    def _done_in_first(self) -> int:
        return max(0, self.acknowledged - self._batches[0].first_seq + 1) if self._batches else 0

    def add(self, messages: Iterable[AgentMessage], data: bytes) -> Batch:
        """Number *messages*, which *data* carries, and keep them until they are acknowledged."""
        batch = Batch(self.next_seq, tuple(messages), data)
        self._batches.append(batch)
        self._messages += len(batch.messages)
        self._bytes += len(data)
        self.next_seq = batch.last_seq + 1
        return batch

    def acknowledge(self, seq: int) -> list[AgentMessage]:
        """Forget everything up to *seq*; return the messages that became acknowledged by this.

        A batch of which only a part is acknowledged is kept, and sent again, as a whole.
        """
        done: list[AgentMessage] = []
        for batch in self._batches:
            done += [
                message
                for number, message in enumerate(batch.messages, batch.first_seq)
                if self.acknowledged < number <= seq
            ]
            if batch.last_seq > seq:
                break
        while self._batches and self._batches[0].last_seq <= seq:
            batch = self._batches.popleft()
            self._messages -= len(batch.messages)
            self._bytes -= len(batch.data)
        self.acknowledged = max(self.acknowledged, seq)
        return done

    def again(self, seq: int = 0) -> list[bytes]:
        """Return what must be sent again: every batch that holds *seq* or a later message."""
        return [batch.data for batch in self._batches if batch.last_seq >= seq]
