"""The GPUs of this machine, through NVML; the only file that knows pynvml.

Devices are named by UUID. A device in MIG mode is replaced by its MIG devices. What a device
does not tell (a MIG device has no power of its own) is None. Calls may take milliseconds and
are thread-safe; the daemon makes them from worker threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pynvml

from sweepd.errors import UsageError
from sweepd.messages import Device

MIB = 2**20
SLACK_MIB = 64  #: what the driver itself takes and gives between two looks

log = logging.getLogger("sweepd.agent")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a device says of itself now. `utilisation`: 0 to 1, of the last moments."""

    memory_used_mib: int | None = None
    memory_total_mib: int | None = None
    utilisation: float | None = None
    power_w: float | None = None
    temperature_c: float | None = None


class Gpus:
    """The devices that this agent may give away: `devices`, in the driver's order."""

    def __init__(self, handles: dict[str, Any], devices: list[Device]) -> None:
        self._handles = handles
        self.devices = devices

    @classmethod
    def open(cls, choice: str | list[str]) -> Gpus:
        """Look for devices: `auto` takes all there are, `none` none, a list those UUIDs.

        Without a driver `auto` finds none, and says so. Raises UsageError for a UUID that is not there.
        """
        if choice == "none":
            return cls({}, [])
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            if choice != "auto":
                raise UsageError(
                    f"--devices {','.join(choice)}: the NVIDIA driver does not answer: {error}"
                ) from None
            log.info("gpus.none reason=%s", error)
            return cls({}, [])
        found = {uuid: handle for handle in _handles() if (uuid := _ask(pynvml.nvmlDeviceGetUUID, handle))}
        if choice != "auto":
            missing = [uuid for uuid in choice if uuid not in found]
            if missing:
                raise UsageError(
                    f"--devices {missing[0]}: there is no such device here, but: {', '.join(found) or 'none'}"
                )
            found = {uuid: found[uuid] for uuid in choice}
        devices = [_describe(uuid, handle) for uuid, handle in found.items()]
        if not devices:
            log.info("gpus.none reason=the driver knows of no device")
        for device in devices:
            log.info("gpus.found uuid=%s name=%s memory_mib=%d", device.uuid, device.name, device.memory_mib)
        return cls(found, devices)

    def readings(self) -> dict[str, Reading]:
        """Read all devices."""
        return {uuid: self._reading(handle) for uuid, handle in self._handles.items()}

    def memory_used_mib(self, uuid: str) -> int | None:
        """Return what is in use of the device's memory; None if it does not say, or is not ours."""
        handle = self._handles.get(uuid)
        return None if handle is None else self._reading(handle, only_memory=True).memory_used_mib

    def memory_is_back(self, uuid: str, baseline_mib: int | None) -> bool:
        """Return whether no more memory is used than before the attempt.

        A device that never told its memory is taken at its word: there is nothing to compare.
        One that told it before and does not now is not: it may hang.
        """
        if baseline_mib is None or uuid not in self._handles:
            return True
        used = self.memory_used_mib(uuid)
        return used is not None and used <= baseline_mib + SLACK_MIB

    def close(self) -> None:
        """Let go of the driver."""
        if self._handles:
            self._handles, self.devices = {}, []
            pynvml.nvmlShutdown()

    def _reading(self, handle: Any, only_memory: bool = False) -> Reading:
        memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
        used, total = (None, None) if memory is None else (memory.used // MIB, memory.total // MIB)
        if only_memory:
            return Reading(used, total)
        rates = _ask(pynvml.nvmlDeviceGetUtilizationRates, handle)
        power_mw = _ask(pynvml.nvmlDeviceGetPowerUsage, handle)
        temperature_c = _ask(
            lambda handle: pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU), handle
        )
        return Reading(
            used,
            total,
            None if rates is None else rates.gpu / 100,
            None if power_mw is None else power_mw / 1000,
            temperature_c,
        )


def _handles() -> Iterator[Any]:
    """Yield a handle of every device; one that has fallen off the bus is left out, and said."""
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            log.warning("gpus.unusable index=%d error=%s", index, error)
            continue
        mode = _ask(pynvml.nvmlDeviceGetMigMode, handle)
        yield from _mig_handles(handle) if mode is not None and mode[0] else [handle]


def _mig_handles(parent: Any) -> Iterable[Any]:
    """Return the MIG devices of *parent*; not every index of its maximum has one."""
    count = _ask(pynvml.nvmlDeviceGetMaxMigDeviceCount, parent) or 0
    found = (
        _ask(lambda handle, index=index: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index), parent)
        for index in range(count)
    )
    return [handle for handle in found if handle is not None]


def _describe(uuid: str, handle: Any) -> Device:
    memory = _ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    name = _ask(pynvml.nvmlDeviceGetName, handle) or ""
    return Device(uuid, name, 0 if memory is None else memory.total // MIB)


def _ask(question: Callable[[Any], Any], handle: Any) -> Any:
    """Ask a device something; None if it cannot tell. (The bindings' own types are wrong in places.)"""
    try:
        return question(handle)
    except pynvml.NVMLError:
        return None
