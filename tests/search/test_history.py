"""Which trials a sampler is shown: the best, the newest of the others, in whatever order they ended."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from search.studies import pending, told

from sweepd_coordinator.core.changes import TrialTold
from sweepd_coordinator.search.history import BEST, NEWEST, History


def shown(history: History) -> list[int]:
    return [note.number for note in history.finished()]


# (how many trials, all complete, trial n has value n) -> numbers shown when minimizing, maximizing
TABLE = [
    (0, [], []),
    (3, [0, 1, 2], [0, 1, 2]),
    (5, [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    # 2 best and the 3 newest of the others; maximizing, the newest are the best.
    (6, [0, 1, 3, 4, 5], [1, 2, 3, 4, 5]),
    (10, [0, 1, 7, 8, 9], [5, 6, 7, 8, 9]),
]


@pytest.mark.parametrize(("count", "minimizing", "maximizing"), TABLE)
def test_the_best_and_the_newest_of_the_others(
    count: int, minimizing: list[int], maximizing: list[int]
) -> None:
    for maximize, expected in ((False, minimizing), (True, maximizing)):
        history = History(maximize, best=2, newest=3)
        for number in range(count):
            history.told(told(number, float(number)))
        assert shown(history) == expected
        assert len(history) == len(expected)


def test_a_thousand_of_many() -> None:
    history = History(maximize=False)
    for number in range(5000):
        history.told(told(number, float(number)))
    assert (BEST, NEWEST) == (250, 750)
    assert shown(history) == [*range(250), *range(4250, 5000)]


# Best first, minimizing: complete by value, then pruned by how far they came, then by value.
RANKED = [
    told(9, -math.inf),
    told(3, 0.5),
    told(7, 0.5),
    told(1, math.inf),
    told(4, 5.0, state="pruned", step=9),
    told(2, 6.0, state="pruned", step=9),
    told(6, 0.1, state="pruned", step=3),
    told(8, math.nan, state="pruned", step=3),
    told(5, None, state="pruned"),
]


@pytest.mark.parametrize("count", range(1, len(RANKED) + 1))
def test_what_counts_as_better(count: int) -> None:
    for seed in range(5):
        history = History(maximize=False, best=count, newest=0)
        for note in Random(seed).sample(RANKED, len(RANKED)):
            history.told(note)
        assert shown(history) == sorted(note.number for note in RANKED[:count])


def test_the_better_of_two_when_maximizing() -> None:
    history = History(maximize=True, best=1, newest=0)
    for note in (told(0, 0.2), told(1, 0.9), told(2, 0.5), told(3, 2.0, state="pruned")):
        history.told(note)
    assert shown(history) == [1]


def test_failed_and_cancelled_trials_are_not_shown() -> None:
    history = History(maximize=False)
    for number, state in enumerate(("failed", "cancelled", "complete")):
        history.pending(pending(number, {"x": 1.0}))
        history.told(told(number, 1.0 if state == "complete" else None, state=state))
    assert shown(history) == [2]
    assert history.unfinished() == []


def test_pending_trials_stay_until_they_end() -> None:
    history = History(maximize=False)
    for number in (5, 2, 8):
        history.pending(pending(number, {"x": 1.0}))
    grown = pending(2, {"x": 1.0, "y": 2.0})
    history.pending(grown)
    history.told(told(8, 1.0))
    assert [note.number for note in history.unfinished()] == [2, 5]
    assert history.unfinished()[0] is grown


ends = st.lists(
    st.tuples(
        st.sampled_from(["complete", "pruned", "failed"]),
        st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf, -math.inf]),
        st.integers(1, 3),
    ),
    max_size=40,
).map(lambda rows: [told(n, value, state=state, step=step) for n, (state, value, step) in enumerate(rows)])


@given(notes=ends, order=st.randoms(use_true_random=False), maximize=st.booleans())
def test_the_order_in_which_trials_end_does_not_matter(
    notes: list[TrialTold], order: Random, maximize: bool
) -> None:
    history = History(maximize, best=3, newest=5)
    shuffled = list(notes)
    order.shuffle(shuffled)
    for note in shuffled:
        history.told(note)

    def rank(note: TrialTold) -> tuple[bool, int, float, int]:
        assert note.value is not None
        assert note.step is not None
        value = -note.value if maximize else note.value
        return (note.state == "pruned", -note.step if note.state == "pruned" else 0, value, note.number)

    ranked = sorted((note for note in notes if note.state != "failed"), key=rank)
    newest = sorted(note.number for note in ranked[3:])[-5:]
    assert shown(history) == sorted([note.number for note in ranked[:3]] + newest)
