"""What this machine can still take: slots, devices by UUID, processors, memory.

A device has three places: free, held by an attempt, or withheld. It becomes withheld when the
attempt that held it ends, and free again only when somebody says that its memory is back: an
attempt's end alone never returns a device to the offer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweepd.messages import Device, Offer, Resources


@dataclass(frozen=True, slots=True)
class _Holding:
    resources: Resources
    devices: tuple[str, ...]


class Slots:
    """The capacity of one agent. Tokens name the attempts that hold parts of it."""

    def __init__(self, slots: int, devices: Sequence[Device], cpus: float, memory_mib: int) -> None:
        self.total = slots
        self.devices = {device.uuid: device for device in devices}
        self._cpus, self._memory_mib = cpus, memory_mib
        self._holdings: dict[str, _Holding] = {}
        self._withheld: set[str] = set()
        self._offers = 0
        self._closed = False

    @property
    def used(self) -> int:
        """Slots that attempts hold."""
        return len(self._holdings)

    @property
    def leased(self) -> frozenset[str]:
        """UUIDs of the devices that attempts hold."""
        return frozenset(uuid for holding in list(self._holdings.values()) for uuid in holding.devices)

    @property
    def withheld(self) -> frozenset[str]:
        """UUIDs of the devices that nobody holds and that are not offered either."""
        return frozenset(self._withheld)

    def close(self) -> None:
        """Offer nothing from now on, and refuse what is still assigned."""
        self._closed = True

    def hold(self, token: str, resources: Resources, devices: Sequence[str]) -> str | None:
        """Take what an attempt needs; if that is impossible, change nothing and say why."""
        refusal = self._refusal(token, resources, devices)
        if refusal is None:
            self._holdings[token] = _Holding(resources, tuple(devices))
        return refusal

    def adopt(self, token: str, resources: Resources, devices: Sequence[str]) -> None:
        """Count what an attempt of an earlier agent still uses, whatever this agent would allow."""
        self._holdings[token] = _Holding(resources, tuple(devices))

    def release(self, token: str) -> tuple[str, ...]:
        """Free what an attempt held; its devices are withheld, and returned to be looked after."""
        devices = self._holdings.pop(token).devices
        self._withheld.update(devices)
        return devices

    def give_back(self, uuid: str) -> None:
        """Offer a withheld device again: its last process is dead and its memory is back."""
        self._withheld.remove(uuid)

    def offer(self) -> Offer:
        """Return the next offer: all that is free now."""
        self._offers += 1
        if self._closed:
            return Offer(number=self._offers, slots=0)
        return Offer(
            number=self._offers,
            slots=max(0, self.total - self.used),
            devices=self._free_devices(),
            cpus=self._free_cpus(),
            memory_mib=self._free_memory_mib(),
        )

    def begin_session(self) -> None:
        """Count offers from one again."""
        self._offers = 0

    def _free_devices(self) -> list[str]:
        taken = self.leased | self._withheld
        return [uuid for uuid in self.devices if uuid not in taken]

    def _free_cpus(self) -> float:
        return max(0.0, self._cpus - sum(holding.resources.cpus for holding in self._holdings.values()))

    def _free_memory_mib(self) -> int:
        return max(0, self._memory_mib - sum(held.resources.memory_mib for held in self._holdings.values()))

    def _refusal(self, token: str, resources: Resources, devices: Sequence[str]) -> str | None:
        if self._closed:
            return "the agent is leaving"
        if token in self._holdings:
            return "this attempt already runs here"
        if self.used >= self.total:
            return f"all {self.total} slots are taken"
        if len(devices) != resources.gpus or len(set(devices)) != len(devices):
            return f"{resources.gpus} devices are wanted and {len(set(devices))} were assigned"
        for uuid in devices:
            if uuid not in self.devices:
                return f"there is no device {uuid} here"
            if uuid in self.leased:
                return f"device {uuid} is held by another attempt"
            if uuid in self._withheld:
                return f"the memory of device {uuid} is not back from its last attempt"
            if self.devices[uuid].memory_mib < resources.gpu_memory_mib:
                return (
                    f"device {uuid} has {self.devices[uuid].memory_mib} MiB, "
                    f"{resources.gpu_memory_mib} MiB are wanted"
                )
        if resources.cpus > self._free_cpus():
            return f"{resources.cpus:g} cpus are wanted and {self._free_cpus():g} are free"
        if resources.memory_mib > self._free_memory_mib():
            return f"{resources.memory_mib} MiB of memory are wanted and {self._free_memory_mib()} are free"
        return None
