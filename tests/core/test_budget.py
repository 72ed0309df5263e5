"""Budgets and looking ahead, as tables."""

from __future__ import annotations

import pytest

from core.world import study_spec
from sweepd import spec as specs
from sweepd.records import StudyRecord
from sweepd.states import StudyState
from sweepd_coordinator.core import budget


@pytest.mark.parametrize(
    ("counts", "asked", "remaining"),
    [
        ({}, 0, 10),
        ({"waiting": 2, "running": 3, "complete": 1}, 0, 4),
        ({"waiting": 2, "running": 3, "complete": 1}, 3, 1),
        ({"failed": 4, "pruned": 6}, 0, 0),
        ({"cancelled": 5, "complete": 4}, 0, 6),  # cancelled ones are not counted
        ({"complete": 12}, 0, 0),  # the budget was made smaller
    ],
)
def test_what_remains(counts: dict[str, int], asked: int, remaining: int) -> None:
    spec = specs.parse(study_spec(budget={"trials": 10}))
    record = StudyRecord("s", "s", StudyState.RUNNING, 0.0, 1, counts=counts)
    assert budget.remaining(record, spec, asked) == remaining


@pytest.mark.parametrize(
    ("sampler", "free", "total", "on_hand", "asked"),
    [
        # a sampler that learns: one per free slot, and one for every eight slots
        ("tpe", 0, 0, 0, 1),
        ("tpe", 0, 0, 1, 0),
        ("tpe", 4, 16, 0, 6),
        ("tpe", 0, 16, 1, 1),
        ("tpe", 0, 16, 9, 0),
        # one that does not: a store of twice the slots, filled when half of it is used up
        ("random", 0, 0, 0, 8),
        ("random", 0, 0, 5, 0),
        ("random", 0, 0, 4, 4),
        ("random", 4, 16, 0, 36),
        ("random", 4, 16, 20, 16),
        ("random", 4, 16, 21, 0),
    ],
)
def test_how_many_are_prepared_ahead(sampler: str, free: int, total: int, on_hand: int, asked: int) -> None:
    assert budget.to_ask(sampler, free, total, on_hand) == asked
