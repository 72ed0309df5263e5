"""An agent's session: which of its messages count, and what it offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sweepd.messages import AgentBatch, AgentMessage, Offer, Resources
from sweepd.records import AgentRecord
from sweepd_coordinator.core import offers


class Hearing(Enum):
    """What becomes of a batch of messages."""

    ACCEPTED = "accepted"  #: its messages, less those already known, are handled
    KNOWN = "known"  #: all of it was handled before: acknowledge again
    GAP = "gap"  #: something before it is missing: ask for it
    STALE = "stale"  #: a session that has been replaced, or was never opened


@dataclass(slots=True)
class Agent:
    """The live side of an AgentRecord. `seen_s`: when it was last heard, on our own clock."""

    record: AgentRecord
    seen_s: float
    #: what was assigned in outbox entries that the agent may not have seen yet
    in_flight: dict[int, list[tuple[Resources, list[str]]]] = field(
        default_factory=dict[int, list[tuple[Resources, list[str]]]]
    )

    @property
    def connected(self) -> bool:
        return self.record.state == "connected"

    @property
    def free_slots(self) -> int:
        offer = self.record.offer
        return offer.slots if offer is not None and self.connected else 0

    def hear(self, batch: AgentBatch) -> tuple[Hearing, list[AgentMessage]]:
        """Return what becomes of *batch* of the open session, and the messages that are new."""
        record = self.record
        if batch.session != record.session:
            return Hearing.STALE, []
        if batch.first_seq > record.last_seq + 1:
            return Hearing.GAP, []
        fresh = batch.messages[record.last_seq + 1 - batch.first_seq :]
        if not fresh:
            return Hearing.KNOWN, []
        record.last_seq += len(fresh)
        return Hearing.ACCEPTED, fresh

    def saw(self, outbox: int) -> None:
        """The agent has processed its outbox up to this entry."""
        self.record.outbox_seen = max(self.record.outbox_seen, outbox)
        self.in_flight = {number: taken for number, taken in self.in_flight.items() if number > outbox}

    def offered(self, offer: Offer, free_devices: list[str]) -> None:
        """Replace the offer; what was assigned but not seen when it was made is taken off it."""
        left = Offer(
            number=offer.number,
            slots=offer.slots,
            devices=free_devices,
            cpus=offer.cpus,
            memory_mib=offer.memory_mib,
        )
        for taken in self.in_flight.values():
            for resources, devices in taken:
                left = offers.take(left, resources, devices)
        self.record.offer = left

    def assigned(self, entry: int, resources: Resources, devices: list[str]) -> None:
        """Take what an attempt needs off the offer; *entry*: the outbox entry with the Assign."""
        assert self.record.offer is not None
        self.record.offer = offers.take(self.record.offer, resources, devices)
        self.in_flight.setdefault(entry, []).append((resources, devices))
