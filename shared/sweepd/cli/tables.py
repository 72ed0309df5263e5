"""`ls`, `show`, `trials`, `best`: what is in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from sweepd import explain, results
from sweepd.cli import options, screen
from sweepd.cli.connect import Where, reading
from sweepd.errors import UsageError
from sweepd.messages import Number
from sweepd.records import StudyRecord, TrialRecord
from sweepd.results import StudyFacts

_SHORTEST = 12  #: columns for a reason or for the parameters on a terminal that has none left
_ANY_WIDTH = 10_000


def ls(
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """List the studies."""
    with reading(Where(redis, namespace, state)) as client:
        found = [(record, client.facts(record.id)) for record in client.studies()]
    if screen.object_or([results.show(record, facts) for record, facts in found], as_json):
        return
    if not found:
        screen.stderr().print("no studies yet: `sweepd run FILE` or `sweepd submit FILE` creates one")
        return
    made = screen.table("study", "state", "trials", "best", "value", "id", "created", right=("best", "value"))
    for record, facts in found:
        best = record.best
        metric = facts.objectives[0].metric
        made.add_row(
            record.name,
            screen.state(record.state.value),
            spent(record, facts),
            f"#{best.number}" if best else "-",
            f"{metric} {explain.number(best.values.get(metric))}" if best else "-",
            record.id,
            screen.local_time(record.created_at),
        )
    screen.stdout().print(made)


def show(
    study: options.StudyName,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show a study: its state, its budget, its best trial."""
    with reading(Where(redis, namespace, state)) as client:
        found = client.study(study)
        record, facts = found.record(), client.facts(found.id)
    if not screen.object_or(results.show(record, facts), as_json):
        print_study(record, facts)


def trials(
    study: options.StudyName,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
    reports: Annotated[bool, typer.Option("--reports", help="With --json: add each trial's curve.")] = False,
) -> None:
    """List the trials of a study."""
    if reports and not as_json:
        raise UsageError("--reports adds the curves to --json: give both")
    with reading(Where(redis, namespace, state)) as client:
        found = client.study(study)
        facts = client.facts(found.id)
        if as_json:
            screen.print_json(found.trials(reports))
            return
        records = client.trials(found.id)
    screen.stdout().print(trial_table(records, facts))


def best(
    study: options.StudyName,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Show the best trial of a study and its parameters."""
    with reading(Where(redis, namespace, state)) as client:
        found = client.study(study)
        record, facts = found.record(), client.facts(found.id)
    if screen.object_or(results.show(record, facts)["best"], as_json):
        return
    if record.best is None:
        screen.stderr().print(f"no trial of {record.name} is complete yet")
        return
    print_best(record)


def spent(record: StudyRecord, facts: StudyFacts) -> str:
    """Return how much of its budget of trials a study has used, `17/40`."""
    limits = results.budget(record.counts, facts)
    return f"{limits['trials']['used']}/{limits['trials']['limit']}" if limits else str(record.next_number)


def print_study(record: StudyRecord, facts: StudyFacts) -> None:
    """Print what `show` shows."""
    made = screen.facts()
    goal = ", ".join(f"{o.direction} {o.metric}" for o in facts.objectives)
    rows: list[tuple[str, Any]] = [
        ("study", f"{record.name}  ({record.id})"),
        ("state", screen.state(record.state.value)),
        ("goal", goal),
        ("budget", f"{spent(record, facts)} trials"),
        ("trials", screen.counts(record)),
        ("created", screen.local_time(record.created_at)),
    ]
    if record.finished_at is not None:
        took = explain.duration(record.finished_at - record.created_at)
        rows.append(("finished", f"{screen.local_time(record.finished_at)}, after {took}"))
    if record.reason:
        rows.append(("reason", record.reason))
    for label, value in rows:
        made.add_row(label, value)
    screen.stdout().print(made)
    if record.failure:
        print()
        screen.plain_lines(f"  {line}" for line in record.failure.rstrip().splitlines())
    if record.best is not None:
        print()
        print_best(record)


def print_best(record: StudyRecord) -> None:
    """Print the best trial and its parameters, one a line."""
    assert record.best is not None
    screen.stdout().print(f"best trial [bold]{record.best.number}[/bold]")
    print_values(record.best.values, record.best.params)


def print_values(values: Mapping[str, Number] | None, params: Mapping[str, Any]) -> None:
    """Print the values and the parameters of a trial, one a line."""
    made = screen.facts()
    for metric, value in (values or {}).items():
        made.add_row(f"  {metric}", Text(explain.number(value), style="bold green"))
    for name, value in params.items():
        made.add_row(f"  {name}", Text(explain.exact(value)))
    screen.stdout().print(made)


def trial_table(records: list[TrialRecord], facts: StudyFacts, reasons: bool = True) -> Table:
    """Return a table of trials: a column per objective and per parameter.

    On a terminal that is too narrow for it the parameters share one column, so that no number of
    the others is cut.
    """
    console = screen.stdout()
    made = _trials(records, facts, reasons, apart=True)
    last = made.columns[-1]
    if reasons:
        last.overflow, last.max_width = "ellipsis", _SHORTEST
    wide = console.options.update(max_width=_ANY_WIDTH)
    room = console.width - Measurement.get(console, wide, made).maximum
    if room < 0:
        return _trials(records, facts, reasons, apart=False)
    if reasons:
        last.max_width = _SHORTEST + room
    return made


def _trials(records: list[TrialRecord], facts: StudyFacts, reasons: bool, apart: bool) -> Table:
    """Return the table; unless *apart* all parameters are in one column, and it is as wide as the screen."""
    now_s = time.time()
    metrics = [objective.metric for objective in facts.objectives]
    names = list(dict.fromkeys(name for record in records for name in record.params))
    numeric = ["trial", *metrics, "reports", "step", "took", *names]
    columns = ["trial", "state", *metrics, "reports", "step", "took", *(names if apart else ["parameters"])]
    made = screen.table(*columns, *(["reason"] if reasons else []), right=numeric)
    if not apart:
        made.width = screen.stdout().width
        for column in made.columns[len(columns) - 1 :]:
            column.ratio, column.min_width, column.overflow = 1, _SHORTEST, "ellipsis"
    for record in records:
        took = results.run_time(record, now_s)
        told = [parameter_of(record.params, name) for name in names]
        made.add_row(
            str(record.number),
            screen.state(record.state.value),
            *(explain.number(value_of(record, metric)) for metric in metrics),
            str(record.reports),
            "-" if record.last_step is None else str(record.last_step),
            "-" if took is None else explain.duration(took),
            *map(Text, told if apart else [explain.parameters(record.params)]),
            *([Text(record.reason)] if reasons else []),
        )
    return made


def value_of(record: TrialRecord, metric: str) -> Any:
    """Return a trial's value of a metric; None if it has none."""
    return (record.values or {}).get(metric)


def parameter_of(params: Mapping[str, Any], name: str) -> str:
    """Return a parameter for people; a dash where the trial does not have it."""
    return explain.parameter(params[name]) if name in params else "-"
