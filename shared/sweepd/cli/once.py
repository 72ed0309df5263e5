"""`try`: one trial in the foreground, to see whether the job runs at all."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path
from typing import BinaryIO, TextIO

import typer
from rich.text import Text

from sweepd import explain, results
from sweepd.cli import options, screen
from sweepd.cli.guard import guarded
from sweepd.cli.interrupts import Interrupts
from sweepd.cli.logs import copy
from sweepd.cli.progress import at_rest, end_line
from sweepd.cli.service import Service
from sweepd.cli.tables import print_values
from sweepd.client import Client
from sweepd.errors import SweepdError
from sweepd.records import TrialRecord
from sweepd.results import StudyFacts
from sweepd.spec import StudySpec
from sweepd.statedir import Purpose, StateDirectory
from sweepd.states import TrialState
from sweepd.study_file import load

LOOK_S = 0.1
SUBMIT_TIMEOUT_S = 60.0
ONE_TRIAL = {"budget.trials": 1, "retry.max_attempts": 1}


def try_(file: options.File, as_json: options.Json = False) -> None:
    """Run one trial in the foreground, with its output on the screen.

    Nothing of it is kept: the study itself, if there is one, does not notice. With --json the
    output goes to stderr.
    """
    spec = load(file, overrides=ONE_TRIAL)
    with Interrupts() as interrupts:
        trial, facts = guarded(lambda: _once(spec, interrupts, sys.stderr if as_json else sys.stdout))
        _report(trial, facts, as_json)
        raise typer.Exit(1 if trial.state is TrialState.FAILED else 0)


def _once(spec: StudySpec, interrupts: Interrupts, screen_of_job: TextIO) -> tuple[TrialRecord, StudyFacts]:
    console = screen.stderr()

    def say(text: str) -> None:
        console.print(Text(text, style="bright_black"))

    with _throwaway() as folder, contextlib.ExitStack() as stack:
        directory = StateDirectory.at(folder)
        directory.create()
        stack.enter_context(directory.lock(Purpose.RUN))
        service = stack.enter_context(Service(directory, Purpose.RUN, slots=1, notice=say))
        client = stack.enter_context(Client(service.url))

        def idle() -> None:
            service.check()
            interrupts.check()

        study = client.submit(spec, timeout_s=SUBMIT_TIMEOUT_S, idle=idle)
        facts = client.facts(study.id)
        output: BinaryIO | None = None
        told = False
        while True:
            idle()
            # Looked at before the output is copied: nothing is written after the end.
            resting = at_rest(client.record(study.id))
            trial = client.some_trials(study.id, [0]).get(0)
            attempt = results.newest_attempt(trial) if trial else None
            if trial is not None and trial.params and not told:
                told = True
                say(f"trying {explain.parameters(trial.params)}")
            if output is None and attempt is not None and attempt.log and Path(attempt.log).is_file():
                output = stack.enter_context(Path(attempt.log).open("rb"))
            if output is not None:
                copy(output, screen_of_job)
            if resting and trial is not None:
                return trial, facts
            if resting:
                raise SweepdError(f"the study ended without a trial: {client.record(study.id).reason}")
            time.sleep(LOOK_S)


def _throwaway() -> tempfile.TemporaryDirectory[str]:
    # Whoever is killed while it is removed may still write to it.
    return tempfile.TemporaryDirectory(prefix="sweepd-try-", ignore_cleanup_errors=True)


def _report(trial: TrialRecord, facts: StudyFacts, as_json: bool) -> None:
    if screen.object_or(results.trial(trial, time.time()), as_json):
        return
    console = screen.stderr()
    console.print()
    console.print(Text(end_line(trial, facts), style=screen.COLORS[trial.state.value]))
    attempt = results.newest_attempt(trial)
    if trial.state is TrialState.FAILED and attempt is not None and not attempt.log and attempt.message:
        console.print(Text(attempt.message))
    print_values(trial.values, trial.params)
