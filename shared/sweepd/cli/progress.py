"""A study's progress: alive on a terminal, a few plain lines elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweepd import explain, results
from sweepd.cli import screen
from sweepd.follow import Follower
from sweepd.messages import decode_number
from sweepd.records import StudyRecord, TrialRecord
from sweepd.states import STUDY_ENDS, TRIAL_ENDS, StudyState, TrialState

REFRESH_S = 0.12  #: between two pictures: calm to look at, cheap to draw
LINES = 100  #: about as many lines are printed for the ends of trials where there is no terminal
FAILURES_TOLD = 5
_GUESS_S = 5  #: the time that is left is told in steps, so that it does not flicker
_BARS = "▁▂▃▄▅▆▇█"
_DIM = "bright_black"
_SPARKS = 12  #: reports whose values are drawn
_HEAD_LINES = 8  #: of the picture, above the running trials


class View(AbstractContextManager["View"], Protocol):
    """Where progress is shown."""

    def status(self, text: str) -> None:
        """Say what is being waited for, before there is a study to show."""
        ...

    def note(self, text: str) -> None:
        """Say something that stays."""
        ...

    def show(self, follower: Follower, changed: Sequence[TrialRecord]) -> None:
        """Show the study as it is; *changed*: the trials that something happened to."""
        ...


def watching(console: Console, quiet: bool = False) -> View:
    """Return the view that fits *console*."""
    if quiet:
        return NoView(console)
    # Asked of the stream: rich takes FORCE_COLOR, which CI systems set, for a terminal.
    alive = console.file.isatty() and not console.is_dumb_terminal
    return LiveView(console) if alive else LineView(console)


def at_rest(record: StudyRecord) -> bool:
    """Whether nothing new happens to a study by itself (trials of a paused one may still end)."""
    return record.state in STUDY_ENDS or record.state is StudyState.PAUSED


def ended(record: StudyRecord) -> int:
    """Return how many trials ended and count against the budget."""
    counted = TRIAL_ENDS - {TrialState.CANCELLED}
    return sum(record.counts.get(state.value, 0) for state in counted)


class NoView:
    """Says only what a person must know."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def status(self, text: str) -> None:
        pass

    def note(self, text: str) -> None:
        self._console.print(Text(text))

    def show(self, follower: Follower, changed: Sequence[TrialRecord]) -> None:
        pass


class LineView(NoView):
    """A line per trial that ends; for large studies a line per hundredth of the budget."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._seen: set[int] | None = None
        self._best: int | None = None
        self._failures = 0

    def status(self, text: str) -> None:
        self._console.print(Text(text))

    def show(self, follower: Follower, changed: Sequence[TrialRecord]) -> None:
        record, facts = follower.record, follower.facts
        ends = [trial for trial in changed if trial.state in TRIAL_ENDS]
        if self._seen is None:
            self._seen = {trial.number for trial in ends}
            self._best = record.best.number if record.best else None
            return
        fresh = [trial for trial in ends if trial.number not in self._seen]
        step = max(1, math.ceil((facts.budget.trials or 0) / LINES))
        for trial in fresh:
            self._seen.add(trial.number)
            is_best = record.best is not None and record.best.number == trial.number != self._best
            if is_best:
                self._best = trial.number
            failed = trial.state is TrialState.FAILED and self._failures < FAILURES_TOLD
            self._failures += failed
            if step == 1 or is_best or failed:
                self._console.print(Text(end_line(trial, facts) + (", the best so far" if is_best else "")))
            if step > 1 and len(self._seen) % step == 0:
                self._console.print(Text(f"{ended(record)}/{facts.budget.trials} trials"))


class LiveView(NoView):
    """The picture of a study, redrawn in place. It vanishes at the end: a result follows."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._since_s = time.monotonic()
        self._ended_before: int | None = None
        self._drawn_s = 0.0
        self._failures = 0

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def status(self, text: str) -> None:
        self._live.update(Text(text, style=_DIM), refresh=True)

    def show(self, follower: Follower, changed: Sequence[TrialRecord]) -> None:
        if self._ended_before is None:
            self._ended_before = ended(follower.record)
        else:
            self._tell_failures(changed)
        wait_s = self._drawn_s + REFRESH_S - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)
        self._drawn_s = time.monotonic()
        self._live.update(self._picture(follower), refresh=True)

    def _tell_failures(self, changed: Sequence[TrialRecord]) -> None:
        for trial in changed:
            if trial.state is TrialState.FAILED and self._failures < FAILURES_TOLD:
                self._failures += 1
                self.note(f"trial {trial.number} failed: {trial.reason}")

    def _picture(self, follower: Follower) -> RenderableType:
        record = follower.record
        elapsed_s = time.monotonic() - self._since_s
        head = Text.assemble(
            (record.name, "bold"),
            ("  "),
            screen.state(record.state.value),
            (f" · {explain.clock(elapsed_s)}", _DIM),
        )
        parts: list[RenderableType] = [head, self._bar(follower, elapsed_s), screen.counts(record)]
        parts.append(best_line(record))
        running = follower.running
        if running:
            room = max(1, self._console.height - _HEAD_LINES)
            # The terminal writes ^C behind the last line; if that wraps, the picture is torn.
            width = self._console.width - len("^C^C")
            parts += [Text(""), running_table(follower, running[:room], width)]
            if len(running) > room:
                parts.append(Text(f"… and {len(running) - room} more", style=_DIM))
        return Group(*parts)

    def _bar(self, follower: Follower, elapsed_s: float) -> RenderableType:
        limit = follower.facts.budget.trials
        done = ended(follower.record)
        if limit is None:
            return Text(f"{done} trials")
        fresh = done - (self._ended_before or 0)
        left = ""
        if fresh >= FAILURES_TOLD and done < limit and not at_rest(follower.record):
            left_s = elapsed_s / fresh * (limit - done)
            left = f" · about {explain.clock(math.ceil(left_s / _GUESS_S) * _GUESS_S)} left"
        line = Table.grid(padding=(0, 2, 0, 0))
        bar = ProgressBar(total=limit, completed=done, width=min(40, max(10, self._console.width - 40)))
        line.add_row(bar, Text.assemble((f"{done}/{limit}", "bold"), " trials", (left, _DIM)))
        return line


def best_line(record: StudyRecord) -> Text:
    """Return the best trial on one line."""
    best = record.best
    if best is None:
        return Text("no trial is complete yet", style=_DIM)
    values = ", ".join(f"{metric} {explain.number(value)}" for metric, value in best.values.items())
    line = Text.assemble(
        ("best ", _DIM),
        (values, "bold green"),
        f"  trial {best.number}  ",
        (explain.parameters(best.params), _DIM),
    )
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def running_table(follower: Follower, running: Sequence[TrialRecord], width: int) -> Table:
    """Return a line per running trial: how far it is, its metric and where that goes."""
    metric = follower.facts.objectives[0].metric
    # Columns that keep their width: nothing moves but what has news.
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style=_DIM, width=width)
    for name, width in (("trial", 5), ("step", 6), (metric, max(len(metric), 9))):
        made.add_column(Text(name), justify="right", no_wrap=True, width=width)
    made.add_column("", no_wrap=True, width=_SPARKS, style="cyan")
    made.add_column("took", justify="right", no_wrap=True, width=7)
    made.add_column("parameters", no_wrap=True, overflow="ellipsis", ratio=1, style=_DIM)
    now_s = time.time()
    for trial in running:
        points = follower.points(trial)
        values = [decode_number(p.metrics[metric]) for p in points if metric in p.metrics]
        attempt = results.newest_attempt(trial)
        began = attempt.started_at if attempt else None
        made.add_row(
            str(trial.number),
            str(points[-1].step) if points else "",
            Text(explain.steady(values[-1]) if values else "", style="bold"),
            sparkline(values[-_SPARKS:]),
            "starts" if began is None else explain.clock(max(0.0, now_s - began)),
            Text(explain.parameters(trial.params)),
        )
    return made


def sparkline(values: Sequence[float]) -> str:
    """Return *values* as a row of bars between their lowest and highest; a blank for NaN."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = high - low or 1.0
    return "".join(
        _BARS[round((value - low) / span * (len(_BARS) - 1))] if math.isfinite(value) else " "
        for value in values
    )


def end_line(trial: TrialRecord, facts: results.StudyFacts) -> str:
    """Return the end of a trial on one line."""
    metric = facts.objectives[0].metric
    value = (trial.values or {}).get(metric)
    told = f"trial {trial.number} {trial.state.value}"
    if value is not None:
        told += f": {metric} {explain.number(value)}"
    elif trial.reason:
        told += f": {trial.reason}"
    took = results.run_time(trial, trial.ended_at or 0.0)
    return (
        told
        if took is None
        else f"{told} ({explain.count(trial.reports, 'report')}, {explain.duration(took)})"
    )
