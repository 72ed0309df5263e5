"""A copy of one study that follows the store: for progress on a screen.

The feed says which trials something happened to; those are read again. A study of many thousand
trials costs no more to follow than a small one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from sweepd.reader import Reader
from sweepd.records import CurvePoint, StudyRecord, TrialRecord
from sweepd.results import newest_attempt
from sweepd.states import TrialState

TAIL_LENGTH = 24  #: points of a running trial that are kept


class Follower:
    """`record`, `trials` (by number) and `tails` (of running trials) of one study, as of `update`."""

    def __init__(self, reader: Reader, study: str) -> None:
        self._reader = reader
        self.study = study
        self.facts = reader.facts(study)
        self.record: StudyRecord
        self.trials: dict[int, TrialRecord] = {}
        self.tails: dict[int, list[CurvePoint]] = {}
        self.reload()

    @property
    def running(self) -> list[TrialRecord]:
        """The trials that hold a lease, by number."""
        return [self.trials[n] for n in sorted(self.trials) if self.trials[n].state is TrialState.RUNNING]

    def points(self, trial: TrialRecord) -> list[CurvePoint]:
        """Return the last points of a running trial's newest attempt."""
        tail, attempt = self.tails.get(trial.number), newest_attempt(trial)
        if tail is None or attempt is None:
            return []
        return [point for point in tail if point.attempt == attempt.attempt]

    def reload(self) -> None:
        """Read everything again."""
        self._after = self._reader.feed_end()
        self.record = self._reader.record(self.study)
        self.trials = {record.number: record for record in self._reader.trials(self.study)}
        self._read_tails(self.trials)

    def update(self, block_s: float) -> list[TrialRecord]:
        """Wait up to *block_s* for something to happen, and take it over.

        Returns the trials that something happened to, as they are now, by number.
        """
        touched: set[int] = set()
        entries = self._reader.feed(self._after, block_s)
        while entries:
            self._after = entries[-1][0]
            for _, entry in entries:
                touched.update(
                    event.trial
                    for event in entry.events
                    if event.study == self.study and event.trial is not None
                )
            entries = self._reader.feed(self._after)
        self.record = self._reader.record(self.study)
        if not touched and not self._agrees():
            # The feed was cut while nobody read it, or the store went back in time.
            self.reload()
            return [self.trials[number] for number in sorted(self.trials)]
        changed = self._reader.some_trials(self.study, sorted(touched))
        self.trials.update(changed)
        self._read_tails(changed)
        return list(changed.values())

    def _read_tails(self, numbers: Collection[int]) -> None:
        running = [n for n in numbers if self.trials[n].state is TrialState.RUNNING]
        self.tails.update(self._reader.points(self.study, running, last=TAIL_LENGTH))
        for number in numbers:
            if self.trials[number].state is not TrialState.RUNNING:
                self.tails.pop(number, None)

    def _agrees(self) -> bool:
        seen = Counter(trial.state.value for trial in self.trials.values())
        return all(seen[state] == count for state, count in self.record.counts.items())
