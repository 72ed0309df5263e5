"""Start a program that ends when the process that started it ends, however that dies.

Run as a script with `-I -S`, so that it costs one short Python start: it asks the kernel to
send SIGTERM when the parent is gone, then becomes the program. A `preexec_fn` would do the same
between fork and exec, where a process with threads may deadlock.

The kernel counts the *thread* that started the child as its parent: start tethered programs
from a thread that lives as long as they should. Where there is no such request to the kernel
(macOS) the program simply starts.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tethered(argv: Sequence[str]) -> list[str]:
    """Return the command line that starts *argv* tied to the calling process."""
    return [sys.executable, "-I", "-S", os.path.abspath(__file__), str(os.getpid()), *argv]  # noqa: PTH100


def _main(parent: int, argv: list[str]) -> None:
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the request: no signal would ever come
            sys.exit(128 + signal.SIGTERM)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2:])
