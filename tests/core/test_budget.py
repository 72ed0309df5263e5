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
    ("sampler", "free", "total", "ahead"),
    [("tpe", 0, 0, 1), ("tpe", 4, 16, 6), ("random", 0, 0, 8), ("random", 4, 16, 36)],
)
def test_how_many_wait_ahead(sampler: str, free: int, total: int, ahead: int) -> None:
    assert budget.look_ahead(sampler, free, total) == ahead
