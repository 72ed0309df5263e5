"""How long to wait before a store that cannot be reached is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Pauses that double from *first_s* to *longest_s*, each a random part of that (at least half).

    The randomness keeps several coordinators from coming back in step.
    """

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Return the next pause."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The store answered."""
        self._next_s = self._first_s
