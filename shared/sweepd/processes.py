"""Processes as the kernel knows them: who they are, whose children they are, and how to end them.

A pid alone names nobody for long: the kernel gives it away again. Everything here therefore
works on :class:`Process`, a pid with the time it started at, and signals through a pidfd, which
keeps naming the same process. Linux only; the standard library only, because the supervisor of
every attempt imports it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36

#: Fields of /proc/PID/stat, counted after the command's closing parenthesis (proc_pid_stat(5)).
_STATE, _PARENT, _GROUP, _START_TIME = 0, 1, 2, 19

_DEAD_STATES = frozenset("ZXx")


class Process(NamedTuple):
    """One process of this boot: its pid and its start in clock ticks since the boot."""

    pid: int
    start_time: int


class _Stat(NamedTuple):
    process: Process
    parent: int
    group: int
    dead: bool


def boot_id() -> str:
    """Return the kernel's random name of this boot."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def look_up(pid: int) -> Process | None:
    """Return the process that has *pid* now; None if there is none, or only its zombie."""
    stat = _stat(pid)
    return None if stat is None or stat.dead else stat.process


def is_alive(process: Process) -> bool:
    """Return whether *process* runs; a zombie does not."""
    return look_up(process.pid) == process


def to_record(process: Process) -> dict[str, Any]:
    """Return what names *process* also after a reboot: pid, start_time, boot_id."""
    return {"pid": process.pid, "start_time": process.start_time, "boot_id": boot_id()}


def from_record(record: Mapping[str, Any]) -> Process | None:
    """Return the process of a :func:`to_record`; None if it has ended or belongs to another boot."""
    try:
        process = Process(int(record["pid"]), int(record["start_time"]))
    except (KeyError, TypeError, ValueError):
        return None
    return process if record.get("boot_id") == boot_id() and is_alive(process) else None


def set_child_subreaper() -> None:
    """Make this process the parent of every descendant whose own parent dies.

    So they stay descendants, whatever they do to get away: a double fork, a new session.
    """
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send *signum* to this process when the thread that forked it ends.

    Lost at the next fork, kept by exec.
    """
    _prctl(_PR_SET_PDEATHSIG, signum)


def descendants(pid: int) -> list[Process]:
    """Return the living children of *pid*, their children and so on, without *pid* itself.

    One look at /proc: who forks meanwhile may be missing.
    """
    return [stat.process for stat in _descendants(pid) if not stat.dead]


def signal_process(process: Process, signum: int) -> bool:
    """Send *signum* to *process*; return False if it has ended.

    Raises PermissionError for a process of another user.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return False
    except OSError:
        # A sandbox without pidfd_open: the check below leaves a gap of microseconds.
        return _kill_checked(process, signum)
    try:
        if not is_alive(process):
            return False
        signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def signal_all(processes: Iterable[Process], signum: int) -> list[int]:
    """Send *signum* to each of *processes*; return the pids of those that were alive."""
    return [process.pid for process in processes if signal_process(process, signum)]


def kill_descendants(pid: int) -> list[int]:
    """Send SIGKILL to every descendant of *pid* until none is left; return the pids that got it.

    Their process groups get it, too, except for that of *pid* and our own: a chain of forks, each
    of which ends at once, is never there when its turn comes, but its group is, and the kernel
    lets nobody fork out of a group that is being killed.

    *pid* must be this process or another sub-reaper, or those that lost their parents are with
    init. Returns only when all are dead: a process that hangs in the kernel still holds its
    devices. Reaps nobody.
    """
    killed: dict[int, None] = {}
    groups = {os.getpgrp(), os.getpgid(pid)}
    pause_s = 0.001
    while True:
        found = _descendants(pid)
        living = [stat.process for stat in found if not stat.dead]
        more = {stat.group for stat in found} - groups
        if not living and not more:
            return list(killed)
        for group in more:
            _kill_group(group)
        groups |= more
        signal_all(living, signal.SIGKILL)
        killed.update(dict.fromkeys(process.pid for process in living))
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.1)


def marked(name: str, value: str) -> list[Process]:
    """Return the living processes that were started with the environment variable *name*=*value*.

    What an attempt leaves behind when its supervisor was killed is found so. Processes of
    other users are not seen.
    """
    mark = f"{name}={value}".encode()
    found: list[Process] = []
    for stat in _all():
        try:
            environment = _read(f"/proc/{stat.process.pid}/environ")
        except OSError:
            continue
        if not stat.dead and mark in environment.split(b"\0"):
            found.append(stat.process)
    return found


def _descendants(pid: int) -> list[_Stat]:
    """Return the descendants of *pid*, the dead among them included until somebody reaps them."""
    children: dict[int, list[_Stat]] = {}
    for stat in _all():
        children.setdefault(stat.parent, []).append(stat)
    found: list[_Stat] = []
    heads = [pid]
    while heads:
        offspring = children.get(heads.pop(), [])
        found += offspring
        heads += [stat.process.pid for stat in offspring]
    return found


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _all() -> Iterable[_Stat]:
    for entry in os.listdir("/proc"):  # noqa: PTH208  pathlib would double what the supervisor imports
        if entry.isdigit():
            stat = _stat(int(entry))
            if stat is not None:
                yield stat


def _stat(pid: int) -> _Stat | None:
    try:
        text = _read(f"/proc/{pid}/stat")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command is in parentheses and may itself contain any character.
    fields = text[text.rindex(b")") + 2 :].split()
    return _Stat(
        Process(pid, int(fields[_START_TIME])),
        int(fields[_PARENT]),
        int(fields[_GROUP]),
        fields[_STATE].decode() in _DEAD_STATES,
    )


def _kill_checked(process: Process, signum: int) -> bool:
    if not is_alive(process):
        return False
    try:
        os.kill(process.pid, signum)
    except ProcessLookupError:
        return False
    return True


def _read(path: str) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks: list[bytes] = []
        while chunk := os.read(handle, 65536):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(handle)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")
