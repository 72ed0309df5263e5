"""Which trials of a study a model-based sampler is shown.

A sampler that fits a model to everything gets slower with every trial: Optuna's TPE takes 9 ms
for a suggestion after 1,000 trials and 110 ms after 10,000. So it is shown the best trials, for
what they say about where to look, and the newest of the others, for what they say about where
not to, and all that are pending.

What is shown is a function of the *set* of trials, not of the order in which they ended: a
coordinator that starts again and tells the trials in another order shows the same. And no
trial that was passed over is ever wanted again, so the others are not even kept: the best of a
growing set are among the best so far and the new one, and likewise the newest.
"""

from __future__ import annotations

from bisect import insort
from math import inf, isnan
from operator import itemgetter

from sweepd_coordinator.core.changes import TrialPending, TrialTold

BEST = 250  #: TPE's good trials are at most 25
NEWEST = 750

_Rank = tuple[int, float, float, int]
_first = itemgetter(0)


class History:
    """The pending trials of one study, and at most best + newest of the finished ones."""

    def __init__(self, maximize: bool, best: int = BEST, newest: int = NEWEST) -> None:
        self._sign = -1.0 if maximize else 1.0
        self._best_limit, self._newest_limit = best, newest
        self._best: list[tuple[_Rank, TrialTold]] = []  # by rank, the best first
        self._others: list[tuple[int, TrialTold]] = []  # by number
        self._pending: dict[int, TrialPending] = {}

    def pending(self, note: TrialPending) -> None:
        """Take a trial that has parameters and no value, or one whose parameters grew."""
        self._pending[note.number] = note

    def told(self, note: TrialTold) -> None:
        """Take the end of a trial. One that failed or was cancelled says nothing and is forgotten."""
        self._pending.pop(note.number, None)
        if note.state not in ("complete", "pruned"):
            return
        insort(self._best, (self._rank(note), note), key=_first)
        if len(self._best) <= self._best_limit:
            return
        _, other = self._best.pop()
        insort(self._others, (other.number, other), key=_first)
        if len(self._others) > self._newest_limit:
            del self._others[0]

    def finished(self) -> list[TrialTold]:
        """Return the finished trials to show, by number."""
        shown = [note for _, note in self._best]
        shown += [note for _, note in self._others]
        shown.sort(key=lambda note: note.number)
        return shown

    def unfinished(self) -> list[TrialPending]:
        """Return the pending trials, by number."""
        return [self._pending[number] for number in sorted(self._pending)]

    def __len__(self) -> int:
        """How many finished trials are shown."""
        return len(self._best) + len(self._others)

    def _rank(self, note: TrialTold) -> _Rank:
        """Return the order in which Optuna's TPE ranks trials; its good ones are the first of it.

        Complete trials by value; then pruned ones, those that came further first, by value.
        """
        value = inf if note.value is None or isnan(note.value) else self._sign * note.value
        if note.state == "complete":
            return (0, 0.0, value, note.number)
        reached = inf if note.value is None else -float(note.step or 0)
        return (1, reached, value, note.number)
