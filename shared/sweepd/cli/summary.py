"""What a run ends with: the best trials, the best parameters, and where to look further."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from sweepd import explain, results
from sweepd.cli import screen
from sweepd.cli.tables import print_best, trial_table
from sweepd.follow import Follower
from sweepd.records import StudyRecord
from sweepd.states import StudyState

TOP = 10


def print_result(follower: Follower) -> None:
    """Print the best trials of a study and the parameters of the best."""
    record, facts = follower.record, follower.facts
    console = screen.stdout()
    console.print(
        Text.assemble(
            (record.name, "bold"), " is ", screen.state(record.state.value), ": ", screen.counts(record)
        )
    )
    if record.reason and not record.failure:
        console.print(Text(record.reason))
    top = results.ranked(follower.trials.values(), facts.objectives[0])[:TOP]
    if top:
        console.print()
        console.print(trial_table(top, facts, reasons=False))
    if record.best is not None:
        console.print()
        print_best(record)


def print_failure(record: StudyRecord) -> None:
    """Print why a study paused itself, or ended with nothing but failures, with the traceback."""
    console = screen.stderr()
    console.print(
        Text.assemble(
            (f"the study is {record.state.value}: ", "bold red"), record.reason or "its trials failed alike"
        )
    )
    console.print()
    for line in record.failure.rstrip().splitlines():
        console.print(Text(f"  {line}"))
    console.print()


def print_hints(record: StudyRecord, logs: Path, where: Sequence[str], again: Sequence[str]) -> None:
    """Say how to look further and, if there is something left to do, how to go on.

    *where*: the options that lead to the store; *again*: the command that goes on with the study.
    """
    console = screen.stderr()
    sweepd = screen.program()
    hints = [("every trial", shlex.join([*sweepd, "trials", record.name, *where]))]
    if record.best is not None:
        number = str(record.best.number)
        hints.append(("the output of the best", shlex.join([*sweepd, "logs", record.name, number, *where])))
    hints.append(("logs of sweepd itself", str(logs)))
    if record.state is StudyState.PAUSED:
        hints.append(("go on, when mended" if record.failure else "go on", shlex.join(again)))
    elif record.best is None:
        hints.insert(1, ("how a trial ended", shlex.join([*sweepd, "why", record.name, "0", *where])))
        hints.append(("begin anew, when mended", shlex.join([*again, "--new"])))
    console.print()
    width = max(len(label) for label, _ in hints)
    for label, text in hints:
        # Not in a table: a command that is cut or folded cannot be copied.
        line = Text.assemble((f"{label:{width}}  ", "bright_black"), text)
        console.print(line, soft_wrap=True)


def exit_code(record: StudyRecord) -> int:
    """Return 0 for a study that is done and has a best trial, else 1."""
    return 0 if record.state is StudyState.DONE and record.best is not None else 1


def one_line(record: StudyRecord) -> str:
    """Return a study's result on one line."""
    if record.best is None:
        return f"{record.name} is {record.state.value}: no trial is complete"
    values = ", ".join(f"{metric} {explain.number(value)}" for metric, value in record.best.values.items())
    return f"{record.name} is {record.state.value}: {values} (trial {record.best.number})"
