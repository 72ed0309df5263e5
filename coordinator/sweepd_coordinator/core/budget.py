"""How many trials a study may still create, and how many to prepare ahead."""

from __future__ import annotations

from sweepd.records import StudyRecord
from sweepd.spec import StudySpec
from sweepd.states import TrialState

#: Samplers whose suggestions do not depend on results: preparing many ahead costs no quality.
MEMORYLESS = frozenset({"random"})


def created(record: StudyRecord) -> int:
    """Trials that count against the budget: all but the cancelled ones."""
    return sum(record.counts.values()) - record.counts.get(TrialState.CANCELLED.value, 0)


def remaining(record: StudyRecord, spec: StudySpec, asked: int) -> int:
    """How many more trials may be created, with *asked* suggestions on their way."""
    return max(0, spec.budget.trials - created(record) - asked)


def look_ahead(sampler: str, free_slots: int, total_slots: int) -> int:
    """How many trials should wait with their parameters, so that no slot waits for the sampler.

    For a sampler that learns, every trial prepared ahead is chosen without the results of those
    that run: a few are enough, since one is asked for as soon as one is leased.
    """
    if sampler in MEMORYLESS:
        return free_slots + max(8, 2 * total_slots)
    return free_slots + max(1, total_slots // 8)
