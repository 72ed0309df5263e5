"""One study in the foreground of `run`: shown until it rests, paused at Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sweepd.cli.fit import misfit
from sweepd.cli.interrupts import Interrupts
from sweepd.cli.progress import View, at_rest
from sweepd.cli.service import Service
from sweepd.client import Study
from sweepd.errors import StoreUnreachable, SweepdError, UsageError
from sweepd.follow import Follower
from sweepd.records import TrialRecord
from sweepd.spec import StudySpec

GIVE_BACK_S = 60.0  #: for running attempts to end after a pause; longer than their grace periods
LOOK_S = 0.25
STUCK_S = 5.0  #: an agent that has not taken a trial by then is asked why


class Session:
    """Follows *study* on *service*. *alone*: the only agent there is, is the service's own."""

    def __init__(
        self,
        study: Study,
        spec: StudySpec,
        service: Service,
        view: View,
        interrupts: Interrupts,
        *,
        alone: bool,
    ) -> None:
        self.follower = Follower(study.client, study.id)
        self._study = study
        self._spec = spec
        self._service = service
        self._view = view
        self._interrupts = interrupts
        self._alone = alone
        self._began_s = time.monotonic()
        self._fits = False

    def follow(self) -> None:
        """Show the study until it rests and nothing of it runs; after Ctrl-C ask it to.

        Raises UsageError for a study whose trials can never start, DaemonDied for a part that
        keeps ending.
        """
        follower = self.follower
        self._show(list(follower.trials.values()))
        give_up_s = float("inf")
        asked = False
        while not at_rest(follower.record) or follower.running:
            if self._interrupts.first and not asked:
                asked = True
                self._pause()
            if (asked or at_rest(follower.record)) and give_up_s == float("inf"):
                give_up_s = time.monotonic() + GIVE_BACK_S
            if time.monotonic() > give_up_s:
                return
            self._service.check()
            try:
                changed = follower.update(LOOK_S)
                self._see_to_it_that_trials_fit()
            except StoreUnreachable:
                self._view.note("the store does not answer; waiting for it")
                self._wait_for_store()
                changed = []
            self._show(changed)

    def _show(self, changed: Sequence[TrialRecord]) -> None:
        try:
            self._view.show(self.follower, changed)
        except OSError:
            # The reader of a pipe went away: nobody sends a signal for that.
            self._interrupts.hang_up()

    def _pause(self) -> None:
        self._view.note("pausing: running trials give their slots back (Ctrl-C again: out at once)")
        try:
            self._study.pause("interrupted")
        except UsageError:
            pass  # it came to its end meanwhile
        except SweepdError as error:
            self._view.note(str(error))

    def _wait_for_store(self) -> None:
        """Wait until the store is back; one of our own is started again by the service."""
        while True:
            self._service.check()
            time.sleep(LOOK_S)
            try:
                return self.follower.reload()
            except StoreUnreachable:
                if self._interrupts.first:
                    raise

    def _see_to_it_that_trials_fit(self) -> None:
        """Complain about a study whose trials are too large for the agents that there are."""
        if self._fits or time.monotonic() < self._began_s + STUCK_S:
            return
        record = self.follower.record
        if set(record.counts) - {"waiting"}:
            self._fits = True
            return
        agents = [agent for agent in self._study.client.agents() if agent.state == "connected"]
        problems = [misfit(self._spec.resources, agent) for agent in agents]
        if not problems or not all(problems):
            return
        problem = f"no trial of {record.name} can start: {problems[0]}; change resources in the study file"
        if self._alone:
            raise UsageError(problem)
        self._fits = True
        self._view.note(problem)
