"""`python -m sweepd_coordinator`: the coordinator as a process.

Exit codes: 0 after SIGTERM or SIGINT, 2 for wrong options or a store that cannot be used,
3 when the store cannot be reached at start, 1 for anything else.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec

import anyio

from sweepd.errors import SweepdError
from sweepd_coordinator import daemon
from sweepd_coordinator.settings import load

#: How long the search thread may keep the interpreter from the loop. At Python's own 5 ms a TPE
#: suggestion held up a turn by 1.1 to 1.4 ms in the median and up to 6 ms, at this by 0.9 and 2.
SWITCH_S = 0.0005


def main(arguments: Sequence[str] | None = None) -> None:
    """Run until a signal; ends the process with the exit code."""
    error: SweepdError | None = None
    try:
        settings = load(sys.argv[1:] if arguments is None else arguments)
        log_to_stderr(settings.log_level)
        sys.setswitchinterval(SWITCH_S)
        anyio.run(daemon.run, settings, backend_options={"use_uvloop": find_spec("uvloop") is not None})
    except* SweepdError as group:
        error = _first(group)
    if error is not None:
        print(f"sweepd-coordinator: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def log_to_stderr(level: str) -> None:
    """One event per line: time (UTC), level, dotted name, fields."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("sweepd").setLevel(level.upper())


def _first(group: BaseExceptionGroup[SweepdError]) -> SweepdError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


if __name__ == "__main__":
    main()
