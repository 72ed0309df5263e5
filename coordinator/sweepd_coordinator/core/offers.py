"""What an offer has room for, and what is left of it.

`cpus` and `memory_mib` are what the agent says is free: they are counted, not enforced.
"""

from __future__ import annotations

from sweepd.messages import Device, Offer, Resources


def fit(
    wanted: Resources, offer: Offer, free: list[str], devices: list[Device], labels: dict[str, str]
) -> list[str] | None:
    """The devices to give for *wanted*, or None if the offer has no room for it.

    *free*: the devices of the offer that nobody holds. *devices*, *labels*: what the agent has.

    Devices that are large enough are given smallest first, so that large ones stay for trials
    that need them.
    """
    if offer.slots < 1 or wanted.cpus > offer.cpus or wanted.memory_mib > offer.memory_mib:
        return None
    if any(labels.get(name) != value for name, value in wanted.labels.items()):
        return None
    if not wanted.gpus:
        return []
    size = {device.uuid: device.memory_mib for device in devices}
    fitting = [uuid for uuid in free if size.get(uuid, 0) >= wanted.gpu_memory_mib]
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
