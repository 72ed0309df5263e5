"""What this machine is: its name, its processors and memory, and what the kernel did for lack of it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")  #: of the container this agent runs in (cgroup 2)
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def host() -> str:
    """Return the machine's name: devices are leased by (host, UUID)."""
    return socket.gethostname()


def cpus() -> float:
    """Return how many processors this process may use, a container's quota included."""
    allowed = float(len(os.sched_getaffinity(0)))
    quota, _, period = _text(_CGROUP_CPU).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        allowed = min(allowed, int(quota) / int(period))
    return allowed


def memory_mib() -> int:
    """Return how much memory this process may use, a container's limit included."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _text(_CGROUP_MEMORY)
    return (min(total, int(limit)) if limit.isdigit() else total) // 2**20


def oom_kills() -> int:
    """Return how many processes the kernel has killed for memory since the boot.

    Of the whole machine: whether one of them was ours, the signal that ended the job tells.
    """
    for line in _text(Path("/proc/vmstat")).splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return 0


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
