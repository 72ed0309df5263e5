"""Which waiting trial goes to which agent."""

from __future__ import annotations

from collections.abc import Iterable

from sweepd.messages import Device, Offer, Resources
from sweepd_coordinator.core.agents import Agent
from sweepd_coordinator.core.study import Study


def agents_by_room(agents: Iterable[Agent]) -> list[Agent]:
    """Agents that can take work, those with most free slots first: trials spread over nodes."""
    free = [agent for agent in agents if agent.free_slots > 0]
    free.sort(key=lambda agent: (-agent.free_slots, agent.record.id))
    return free


def studies_by_share(studies: Iterable[Study]) -> list[Study]:
    """Studies with waiting trials, the one with the fewest running trials first (fair share)."""
    waiting = [study for study in studies if study.leasable]
    waiting.sort(key=lambda study: (study.count("running"), study.record.ordinal))
    return waiting


def fit(wanted: Resources, offer: Offer, devices: list[Device], labels: dict[str, str]) -> list[str] | None:
    """The devices to give for *wanted*, or None if the offer has no room for it.

    Devices that are large enough are given smallest first, so that large ones stay for trials
    that need them. `cpus` and `memory_mib` are what the agent says is free: they are counted,
    not enforced.
    """
    if offer.slots < 1 or wanted.cpus > offer.cpus or wanted.memory_mib > offer.memory_mib:
        return None
    if any(labels.get(name) != value for name, value in wanted.labels.items()):
        return None
    if not wanted.gpus:
        return []
    size = {device.uuid: device.memory_mib for device in devices}
    fitting = [uuid for uuid in offer.devices if size.get(uuid, 0) >= wanted.gpu_memory_mib]
    if len(fitting) < wanted.gpus:
        return None
    fitting.sort(key=lambda uuid: (size.get(uuid, 0), uuid))
    return fitting[: wanted.gpus]


def take(offer: Offer, wanted: Resources, devices: list[str]) -> Offer:
    """What is left of an offer."""
    return Offer(
        number=offer.number,
        slots=offer.slots - 1,
        devices=[uuid for uuid in offer.devices if uuid not in devices],
        cpus=offer.cpus - wanted.cpus,
        memory_mib=offer.memory_mib - wanted.memory_mib,
    )
