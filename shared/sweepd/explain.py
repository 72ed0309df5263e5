"""What people read: numbers and durations in few characters, and `why` in sentences.

Pure functions; `now_s` is seconds since 1970.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from sweepd.messages import Number, decode_number
from sweepd.records import AttemptRecord, StudyRecord, TrialRecord
from sweepd.results import StudyFacts
from sweepd.states import AttemptOutcome, TrialState


def duration(seconds: float) -> str:
    """Return a duration for people: 0.4 s, 12 s, 3:07, 1:02:03, 2 d 03:00:00."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes}:{rest:02d}"
    days, hours = divmod(hours, 24)
    if not days:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{days} d {hours:02d}:{minutes:02d}:{rest:02d}"


def count(number: int, thing: str) -> str:
    """Return a number of things: 1 report, 2 reports."""
    return f"{number} {thing}" if number == 1 else f"{number:,} {thing}s"


def clock(seconds: float) -> str:
    """Return a running time in whole seconds, 0:07 or 1:02:03: it ticks, it does not flicker."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def steady(value: float) -> str:
    """Return a value whose digits stay in their places while it changes."""
    return f"{value:.4f}" if 0.001 <= abs(value) < 1000 or value == 0 else f"{value:.3e}"


def number(value: Number | None) -> str:
    """Return a metric's value for people: at most six significant digits."""
    if value is None:
        return "-"
    found = decode_number(value)
    if not math.isfinite(found):
        return str(value)
    return f"{found:.6g}"


def parameter(value: Any) -> str:
    """Return a parameter's value for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return exact(value)


def exact(value: Any) -> str:
    """Return a parameter's value with all its digits: for copying."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def parameters(params: Mapping[str, Any]) -> str:
    """Return parameters on one line."""
    return "  ".join(f"{name}={parameter(value)}" for name, value in params.items())


def why(record: TrialRecord, study: StudyRecord, facts: StudyFacts, now_s: float) -> list[str]:
    """Return, in sentences, where a trial is and how it came there; *now_s*: since 1970."""
    head = f"Trial {record.number} of {study.name} is {record.state.value}"
    told = [_sentence(f"{head}: {record.reason}" if record.reason else head)]
    if record.values:
        values = ", ".join(f"{metric} {number(value)}" for metric, value in record.values.items())
        told.append(f"Its value is {values}.")
    if record.params:
        seen = f" at commit {record.cut}" if record.cut else ""
        told.append(f"Its parameters were suggested{seen}: {parameters(record.params)}.")
    for attempt in record.attempts:
        told += _why_attempt(attempt, now_s)
        if attempt.message and attempt.message != record.reason:
            told += [f"    {line}" for line in attempt.message.rstrip().splitlines()]
    resource = "reports" if facts.scheduler.resource == "reports" else facts.scheduler.resource
    for level in sorted(record.rungs):
        told.append(f"At the rung of {level} {resource} it was compared by {number(record.rungs[level])}.")
    if record.stop:
        told.append(f"The scheduler's standing order is to {record.stop} it.")
    if record.state is TrialState.WAITING:
        told.append(
            f"The study is {study.state.value}"
            + (f": {study.reason}." if study.reason else " and no slot took it yet.")
        )
    return told


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _why_attempt(attempt: AttemptRecord, now_s: float) -> list[str]:
    where = f"on {attempt.agent}" + (f" ({attempt.host})" if attempt.host != attempt.agent else "")
    gpus = f" with {count(len(attempt.devices), 'GPU')}" if attempt.devices else ""
    began = attempt.started_at or attempt.leased_at
    spent = duration(max(0.0, (attempt.ended_at or now_s) - began))
    reached = f" at step {attempt.end_step}" if attempt.end_step is not None else ""
    reports = f" after {count(attempt.reports, 'report')}" if attempt.reports else ""
    head = f"Attempt {attempt.attempt} {where}{gpus}"
    if attempt.outcome is None:
        if attempt.started_at is None:
            return [f"{head} was leased {spent} ago and has not started."]
        told = f"{head} has been running for {spent}"
        return [told + (f" and was told to stop ({attempt.revoked.value})." if attempt.revoked else ".")]
    end = attempt.outcome.value
    if attempt.outcome is AttemptOutcome.FAILED and attempt.failure:
        end = f"failed ({attempt.failure.value})"
    return [f"{head} ran for {spent} and ended {end}{reached}{reports}."]
