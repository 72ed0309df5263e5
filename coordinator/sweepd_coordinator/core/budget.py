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


def to_ask(sampler: str, free_slots: int, total_slots: int, on_hand: int) -> int:
    """How many trials to prepare now, so that no slot waits for the sampler.

    *on_hand*: trials that wait with their parameters, and suggestions on their way.

    For a sampler that learns, every trial prepared ahead is chosen without the results of those
    that run: a few are enough, since one is asked for as soon as one is leased. For one that
    does not, many are prepared, and only when half of them are used up: each answer that comes
    alone is a commit of its own.
    """
    if sampler not in MEMORYLESS:
        return max(0, free_slots + max(1, total_slots // 8) - on_hand)
    store = max(8, 2 * total_slots)
    spare = on_hand - free_slots
    return 0 if spare > store // 2 else store - spare
