"""Nothing that a command started outlives it, however it ends."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from sweepd import processes
from sweepd.cli import screen
from sweepd.cli.interrupts import OutAtOnce

T = TypeVar("T")

LEFTOVERS_S = 5.0  #: for what outlived its own parent to end after it was asked to


def guarded(work: Callable[[], T]) -> T:
    """Do *work*, which starts processes; end all of them afterwards, at a second Ctrl-C at once."""
    processes.set_child_subreaper()
    # A shell that ran other things and then became us (`exec sweepd run`) left us its children.
    others = frozenset(processes.descendants(os.getpid()))
    try:
        return work()
    except OutAtOnce:
        _end(others, grace_s=0.0)
        _leave_at_once()
    finally:
        # Whoever outlived its parent (the jobs of an agent that was killed) is a child of ours by now.
        _end(others, LEFTOVERS_S)


def _end(others: frozenset[processes.Process], grace_s: float) -> None:
    """Ask every descendant except *others* to end, and kill those that are left after *grace_s*."""
    deadline = time.monotonic() + grace_s
    asked: set[processes.Process] = set()
    while left := [each for each in processes.descendants(os.getpid()) if each not in others]:
        if time.monotonic() >= deadline:
            processes.signal_all(left, signal.SIGKILL)
        else:
            processes.signal_all(set(left) - asked, signal.SIGTERM)
            asked.update(left)
        time.sleep(0.005)


def _leave_at_once() -> NoReturn:
    console = screen.stderr()
    console.show_cursor(True)
    console.print("\nstopped at once; what was running will be run again")
    sys.stderr.flush()
    os._exit(130)
