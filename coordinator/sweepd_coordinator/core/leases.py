"""Who holds which attempt, until when; and which devices are given away.

Deadlines are on the coordinator's own monotonic clock and live in memory only: a coordinator
that starts gives every lease a fresh full term.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Lease:
    """The right of one agent to run one attempt."""

    token: str
    study: str
    trial: int
    agent: str
    deadline_s: float


class Leases:
    """All leases, by token, and the holders of devices by (host, UUID)."""

    def __init__(self, ttl_s: float) -> None:
        self.ttl_s = ttl_s
        self._by_token: dict[str, Lease] = {}
        self._holders: dict[tuple[str, str], str] = {}
        self._earliest_s: float | None = None

    def __len__(self) -> int:
        return len(self._by_token)

    def get(self, token: str) -> Lease | None:
        return self._by_token.get(token)

    def of_agent(self, agent: str) -> list[Lease]:
        return [lease for lease in self._by_token.values() if lease.agent == agent]

    def grant(self, lease: Lease, host: str, devices: list[str]) -> None:
        """Record a new lease and that its devices are held."""
        self._by_token[lease.token] = lease
        self._see(lease.deadline_s)
        for uuid in devices:
            self._holders[host, uuid] = lease.token

    def release(self, token: str) -> None:
        """End a lease. Its devices stay given away until an Offer names them (promise 6)."""
        self._by_token.pop(token)

    def renew(self, lease: Lease, now_s: float) -> None:
        lease.deadline_s = now_s + self.ttl_s

    def refresh(self, now_s: float) -> None:
        """Give every lease a fresh full term."""
        for lease in self._by_token.values():
            self.renew(lease, now_s)
        self._earliest_s = None if not self._by_token else now_s + self.ttl_s

    def expired(self, now_s: float) -> list[Lease]:
        """Leases whose deadline lies at or before *now_s*, in the order of their deadlines."""
        if self._earliest_s is None or now_s < self._earliest_s:
            return []
        dead = [lease for lease in self._by_token.values() if lease.deadline_s <= now_s]
        alive = [lease.deadline_s for lease in self._by_token.values() if lease.deadline_s > now_s]
        # Renewals only move deadlines later: the earliest is looked up again when it passes.
        self._earliest_s = min(alive, default=None)
        return sorted(dead, key=lambda lease: (lease.deadline_s, lease.token))

    def free_devices(self, host: str, offered: list[str]) -> list[str]:
        """Of the devices an agent offers, those nobody holds; an offer returns what ended."""
        free: list[str] = []
        for uuid in offered:
            holder = self._holders.get((host, uuid))
            if holder is None or holder not in self._by_token:
                self._holders.pop((host, uuid), None)
                free.append(uuid)
        return free

    def unheld(self, host: str, offered: list[str]) -> list[str]:
        """Of the devices of an offer made earlier, those that nobody was given since.

        Agents of one host may offer the same device; the first that gets work takes it from all.
        """
        return [uuid for uuid in offered if (host, uuid) not in self._holders]

    def _see(self, deadline_s: float) -> None:
        if self._earliest_s is None or deadline_s < self._earliest_s:
            self._earliest_s = deadline_s
