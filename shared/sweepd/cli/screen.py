"""What commands print with: tables and JSON to stdout, everything else to stderr."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweepd.records import StudyRecord
from sweepd.results import STATES

COLORS: Mapping[str, str] = {
    "waiting": "bright_black",
    "running": "cyan",
    "paused": "yellow",
    "draining": "cyan",
    "complete": "green",
    "done": "green",
    "pruned": "blue",
    "failed": "red",
    "cancelled": "magenta",
}

_WIDE = 10_000  #: columns of what is no terminal: whoever reads it folds it


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Say that the reader went away, instead of ending the process as rich would."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def stdout() -> Console:
    """Return a console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """Return a console for progress, notices and errors."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _WIDE
    return _Console(stderr=stderr, width=width, highlight=False, soft_wrap=False)


def print_json(value: object) -> None:
    """Print *value* as JSON, indented for people at a terminal."""
    indent = 2 if sys.stdout.isatty() else None
    print(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False), flush=True)


def table(*columns: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table without lines; *right*: the columns with numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    for column in columns:
        # Text: brackets in the name of a parameter are no markup.
        made.add_column(Text(column), justify="right" if column in right else "left", no_wrap=True)
    return made


def facts() -> Table:
    """Return an empty table of labels and what they stand for."""
    made = table("", "")
    made.show_header = False
    made.columns[0].style = "bright_black"
    made.columns[1].no_wrap, made.columns[1].overflow = False, "fold"
    return made


def state(name: str) -> Text:
    """Return a state in its color."""
    return Text(name, style=COLORS.get(name, ""))


def counts(record: StudyRecord) -> Text:
    """Return the trials by state on one line, without the states that nobody is in."""
    parts: list[Text] = [
        Text.assemble((f"{record.counts[name]} ", "bold"), (name, COLORS[name]))
        for name in STATES
        if record.counts.get(name)
    ]
    return Text(" · ", style="bright_black").join(parts) if parts else Text("no trials yet")


def local_time(at: float | None) -> str:
    """Return seconds since 1970 in the reader's own time zone."""
    if at is None:
        return "-"
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def program() -> list[str]:
    """Return how this command line was called, so that the commands it names can be typed.

    `make demo` calls `.venv/bin/sweepd`, and a newcomer does not have that folder on the PATH.
    """
    called = Path(sys.argv[0])
    if called.parts[-2:] == ("sweepd", "__main__.py"):
        return [sys.executable, "-m", "sweepd"]
    found = shutil.which("sweepd")
    if called.name != "sweepd" or (found is not None and Path(found).resolve() == called.resolve()):
        return ["sweepd"]
    return [sys.argv[0]]


def plain_lines(lines: Iterable[str]) -> None:
    """Print lines to stdout as they are: no markup, no folding."""
    for line in lines:
        print(line)


def object_or(value: Any, as_json: bool) -> bool:
    """Print *value* if JSON is wanted; return whether it was."""
    if as_json:
        print_json(value)
    return as_json
