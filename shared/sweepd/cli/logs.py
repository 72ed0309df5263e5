"""`logs`: what a trial's job wrote."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO

import typer

from sweepd.cli import options, screen
from sweepd.cli.connect import Where, reading
from sweepd.client import Client
from sweepd.errors import NotFound
from sweepd.records import AttemptRecord, TrialRecord
from sweepd.results import newest_attempt
from sweepd.states import TrialState

LOOK_S = 0.2


def logs(
    study: options.StudyName,
    trial: options.TrialNumber,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    attempt: Annotated[
        int | None,
        typer.Option("--attempt", metavar="N", min=1, help="Default: the newest.", show_default=False),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the attempt ends.")] = False,
) -> None:
    """Print the output of a trial's job."""
    with reading(Where(redis, namespace, state)) as client:
        found = client.study(study)
        record = client.trial(found.id, trial)
        chosen = _choose(record, attempt)
        if not is_here(chosen):
            _print_tail(record, chosen)
            return
        with Path(chosen.log).open("rb") as file:
            copy(file)
            while follow and _holds_lease(client, found.id, trial, chosen.attempt):
                time.sleep(LOOK_S)
                copy(file)
            copy(file)
            if not file.tell():
                print(f"attempt {chosen.attempt} of trial {trial} has printed nothing", file=sys.stderr)


def _choose(record: TrialRecord, attempt: int | None) -> AttemptRecord:
    if not record.attempts:
        raise NotFound(f"trial {record.number} is {record.state.value} and has not run yet")
    if attempt is None:
        return record.attempts[-1]
    for each in record.attempts:
        if each.attempt == attempt:
            return each
    raise NotFound(f"trial {record.number} has no attempt {attempt}: there are {len(record.attempts)}")


def is_here(attempt: AttemptRecord) -> bool:
    """Whether the attempt's output lies on this machine."""
    return attempt.host == socket.gethostname() and bool(attempt.log) and Path(attempt.log).is_file()


def copy(file: BinaryIO, stream: TextIO | None = None) -> None:
    """Copy what *file* still has to *stream* (stdout), byte for byte."""
    out = sys.stdout if stream is None else stream
    out.flush()
    shutil.copyfileobj(file, out.buffer)
    out.buffer.flush()


def _holds_lease(client: Client, study: str, trial: int, attempt: int) -> bool:
    record = client.some_trials(study, [trial])[trial]
    newest = newest_attempt(record)
    return record.state is TrialState.RUNNING and newest is not None and newest.attempt == attempt


def _print_tail(record: TrialRecord, attempt: AttemptRecord) -> None:
    where = f"attempt {attempt.attempt} of trial {record.number}"
    if attempt.log:
        place = f"{attempt.host}:{attempt.log}"
        gone = " (no longer there)" if attempt.host == socket.gethostname() else ""
        print(f"the output of {where} is in {place}{gone}", file=sys.stderr)
    else:
        print(f"{where} has no output: it never started", file=sys.stderr)
    if attempt.message:
        print("its last lines, as recorded:", file=sys.stderr)
        screen.plain_lines(attempt.message.rstrip(os.linesep).splitlines())
