"""`python -m sweepd_agent`: run an agent. Exit codes: 0 it was stopped, 1 it failed or was replaced,
2 the settings are wrong, 3 the store cannot be reached."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import anyio

from sweepd.errors import SweepdError
from sweepd_agent import daemon, settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the settings and run; returns the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    code = 0
    try:
        told = settings.load(sys.argv[1:] if arguments is None else arguments)
        anyio.run(daemon.run, told)
    except* SweepdError as errors:
        error = _first(errors)
        print(f"sweepd agent: {error}", file=sys.stderr)
        code = error.exit_code
    return code


def _first(group: BaseExceptionGroup[SweepdError]) -> SweepdError:
    """Return the error that a group of a task group of a task group is about."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


if __name__ == "__main__":
    sys.exit(main())
