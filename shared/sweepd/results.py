"""From records to what people and programs read: the stable JSON contracts.

Pure functions: no store, no clock. Times are ISO 8601 in UTC. JSON has no NaN and no infinity:
such numbers are null in everything that is made here (the records keep them as text).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import msgspec

from sweepd.messages import Number, decode_number
from sweepd.records import AgentRecord, AttemptRecord, CurvePoint, StudyRecord, TrialRecord
from sweepd.states import TrialState

# In the order in which people think of them.
STATES = ("waiting", "running", "paused", "complete", "pruned", "failed", "cancelled")


class ObjectiveFacts(msgspec.Struct, frozen=True):
    """A metric that is optimized."""

    metric: str
    direction: str


class SchedulerFacts(msgspec.Struct, frozen=True):
    """How trials are stopped early."""

    type: str = "none"
    resource: str = "reports"


class BudgetFacts(msgspec.Struct, frozen=True):
    """What the study may spend."""

    trials: int | None = None


class StudyFacts(msgspec.Struct, frozen=True):
    """What readers need of a spec: tolerant, where the spec itself is strict.

    So an older client reads the studies of a newer coordinator.
    """

    objectives: list[ObjectiveFacts]
    budget: BudgetFacts = BudgetFacts()
    scheduler: SchedulerFacts = SchedulerFacts()


@dataclass(frozen=True)
class Holding:
    """An attempt that holds a lease."""

    study: str
    trial: int
    attempt: int
    agent: str
    devices: tuple[str, ...]


def plain_number(value: Number | None) -> float | None:
    """Return a number as JSON can carry it: null for NaN and infinities."""
    if value is None:
        return None
    number = decode_number(value)
    return number if math.isfinite(number) else None


def plain_values(values: Mapping[str, Number] | None) -> dict[str, float | None]:
    """Return values by metric; an empty object where there are none."""
    return {metric: plain_number(value) for metric, value in (values or {}).items()}


def instant(at: float | None) -> str | None:
    """Return seconds since 1970 as ISO 8601 in UTC with milliseconds."""
    if at is None:
        return None
    moment = datetime.fromtimestamp(at, tz=timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- the contracts ----------------------------------------------------------------------------


def show(record: StudyRecord, facts: StudyFacts) -> dict[str, Any]:
    """Return the object of `show --json` (and of `run --json`)."""
    counts = {state: record.counts.get(state, 0) for state in STATES}
    best = record.best
    return {
        "id": record.id,
        "name": record.name,
        "state": record.state.value,
        "objectives": [{"metric": o.metric, "direction": o.direction} for o in facts.objectives],
        "counts": counts,
        "best": []
        if best is None
        else [{"number": best.number, "values": plain_values(best.values), "params": best.params}],
        "budget": budget(counts, facts),
        "created_at": instant(record.created_at),
        "finished_at": instant(record.finished_at),
    }


def budget(counts: Mapping[str, int], facts: StudyFacts) -> dict[str, Any]:
    """Return each limit of the budget and what of it is used.

    A trial is used up when it was given to an agent; a cancelled one gives its place back.
    """
    if facts.budget.trials is None:
        return {}
    used = sum(number for state, number in counts.items() if state not in ("waiting", "cancelled"))
    return {"trials": {"limit": facts.budget.trials, "used": used}}


def trial(record: TrialRecord, now_s: float, points: Sequence[CurvePoint] | None = None) -> dict[str, Any]:
    """Return an item of `trials --json`; with *points* also its curve. *now_s*: since 1970."""
    found: dict[str, Any] = {
        "number": record.number,
        "state": record.state.value,
        "params": record.params,
        "values": None if record.values is None else plain_values(record.values),
        "last_step": record.last_step,
        "reports": record.reports,
        "bracket": record.bracket,
        "rung": record.rung,
        "reason": record.reason,
        "duration_s": run_time(record, now_s),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
    }
    if points is not None:
        found["curve"] = [
            [point.step, plain_values(point.metrics)] for point in curve(points, record.attempts)
        ]
    return found


def _attempt(record: AttemptRecord) -> dict[str, Any]:
    return {
        "attempt": record.attempt,
        "agent": record.agent,
        "outcome": None if record.outcome is None else record.outcome.value,
        "gpus": record.devices,
        "started_at": instant(record.started_at),
        "ended_at": instant(record.ended_at),
        "start_step": record.start_step,
        "end_step": record.end_step,
    }


def run_time(record: TrialRecord, now_s: float) -> float | None:
    """Return the seconds that the trial's jobs ran, over all attempts; None if none started."""
    spans = [
        (attempt.ended_at or now_s) - attempt.started_at
        for attempt in record.attempts
        if attempt.started_at is not None
    ]
    return round(sum(max(0.0, span) for span in spans), 3) if spans else None


def agent(record: AgentRecord, now_s: float, held: Iterable[Holding]) -> dict[str, Any]:
    """Return an item of `agents --json`; *held*: the leases of all agents."""
    mine = [lease for lease in held if lease.agent == record.id]
    owners = {device: [h.study, h.trial, h.attempt] for h in mine for device in h.devices}
    return {
        "id": record.id,
        "host": record.host,
        "state": record.state,
        "last_seen_s": round(max(0.0, now_s - record.last_seen_at), 3),
        "slots": record.slots,
        "gpus": [
            {
                "uuid": device.uuid,
                "name": device.name,
                "memory_mib": device.memory_mib,
                "leased_by": owners.get(device.uuid),
            }
            for device in record.devices
        ],
        "running": [[lease.study, lease.trial, lease.attempt] for lease in mine],
    }


# --- what the records mean ----------------------------------------------------------------------


def newest_attempt(record: TrialRecord) -> AttemptRecord | None:
    """Return the attempt that holds or last held the lease; None before the first."""
    return record.attempts[-1] if record.attempts else None


def holdings(study: str, trials: Iterable[TrialRecord]) -> list[Holding]:
    """Return the attempts of *trials* that hold a lease."""
    return [
        Holding(study, record.number, attempt.attempt, attempt.agent, tuple(attempt.devices))
        for record in trials
        for attempt in record.attempts[-1:]
        if attempt.outcome is None
    ]


def curve(points: Iterable[CurvePoint], attempts: Sequence[AttemptRecord]) -> list[CurvePoint]:
    """Return a trial's curve: the newest attempt's from its start step on, before it the older ones'."""
    starts = {attempt.attempt: attempt.start_step for attempt in attempts}
    by_attempt: dict[int, list[CurvePoint]] = {}
    for point in points:
        by_attempt.setdefault(point.attempt, []).append(point)
    kept: list[CurvePoint] = []
    for attempt in sorted(by_attempt):
        start = starts.get(attempt, 0)
        kept = [point for point in kept if start and point.step < start] + by_attempt[attempt]
    return kept


def with_points(record: TrialRecord, points: Sequence[CurvePoint]) -> TrialRecord:
    """Return a running trial's record with the steps and reports of its *points*.

    A report never rewrites the record of its trial: the points of running trials are a list apart.
    """
    newest = record.attempts[-1].attempt if record.attempts else 0
    mine = [point for point in points if point.attempt == newest]
    if record.state is not TrialState.RUNNING or not mine:
        return record
    return msgspec.structs.replace(record, reports=len(mine), last_step=mine[-1].step)


def ranked(records: Iterable[TrialRecord], objective: ObjectiveFacts) -> list[TrialRecord]:
    """Return the trials with a value, best first.

    Complete trials come before pruned ones, whose values are of less training; a NaN ranks worst,
    a lower number breaks ties.
    """

    def key(record: TrialRecord) -> tuple[bool, bool, float, int]:
        value = decode_number((record.values or {})[objective.metric])
        pruned = record.state is not TrialState.COMPLETE
        if math.isnan(value):
            return pruned, True, 0.0, record.number
        return pruned, False, -value if objective.direction == "maximize" else value, record.number

    return sorted((r for r in records if r.values and objective.metric in r.values), key=key)
