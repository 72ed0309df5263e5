"""What a coordinator says about itself to Prometheus.

One registry of its own per process. Names: `sweepd_`, the thing, the base unit, `_total` for
counters. Labels come from short closed lists. Counters count what this process committed since
it started; gauges of what the engine holds are zero while the process stands by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    start_http_server,
)

from sweepd import __version__
from sweepd.errors import UsageError
from sweepd.states import AttemptOutcome, StudyState, TrialState, Verdict
from sweepd_coordinator.core.changes import Changes
from sweepd_coordinator.core.engine import Gauges

AGENT_STATES = ("connected", "lost", "left")

_SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)
_COMMIT_S = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
_SUGGESTION_S = (0.0001, 0.0003, 0.001, 0.003, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


@dataclass(frozen=True, slots=True)
class Taken:
    """What one turn took from the inbox.

    `lag_s`: how long the oldest entry had waited, by the clocks of store and coordinator.
    """

    messages: int = 0
    rejected: int = 0
    lag_s: float = 0.0


class Metrics:
    """The numbers of one process; `serve` shows them. Thread-safe as prometheus_client is."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("sweepd_build", "The version of this program.", registry=registry).info(
            {"version": __version__, "component": "coordinator"}
        )

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"sweepd_{name}", text, registry=registry)

        def counter(name: str, text: str) -> Counter:
            return Counter(f"sweepd_{name}", text, registry=registry)

        # Every child of a label exists from the start: a panel of a rate needs the zero before.
        def gauges(name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Gauge]:
            parent = Gauge(f"sweepd_{name}", text, [label], registry=registry)
            return {value: parent.labels(value) for value in values}

        def counters(name: str, text: str, label: str, values: Iterable[str]) -> dict[str, Counter]:
            parent = Counter(f"sweepd_{name}", text, [label], registry=registry)
            return {value: parent.labels(value) for value in values}

        self._trials = gauges("trials", "Trials of all studies, by state.", "state", _values(TrialState))
        self._studies = gauges("studies", "Studies, by state.", "state", _values(StudyState))
        self._agents = gauges("agents", "Agents, by state.", "state", AGENT_STATES)
        self._leases = gauge("leases", "Attempts that hold a lease.")
        self._slots = gauge("slots", "Slots of all connected agents.")
        self._slots_used = gauge("slots_used", "Slots of connected agents that are not on offer.")
        self._asked = gauge("suggestions_pending", "Suggestions that were asked for and have not come yet.")

        self._messages = counter("messages_total", "Messages of agents and clients that were handled.")
        self._rejected = counter("messages_rejected_total", "Inbox entries that could not be read.")
        self._superseded = counter(
            "messages_superseded_total",
            "Messages that named a lease or a session that is not valid any more.",
        )
        self._reports = counter("reports_total", "Reports of jobs that were recorded.")
        self._decisions = counters(
            "decisions_total", "Decisions of schedulers, by verdict.", "verdict", _values(Verdict)
        )
        self._ends = counters(
            "attempts_ended_total",
            "Accepted ends of attempts, by outcome.",
            "outcome",
            _values(AttemptOutcome),
        )
        self._suggestion_s = Histogram(
            "sweepd_suggestion_seconds",
            "Time a sampler took for one suggestion, by type of sampler.",
            ["sampler"],
            buckets=_SUGGESTION_S,
            registry=registry,
        )
        self._commit_messages = Histogram(
            "sweepd_commit_messages", "Messages in one commit.", buckets=_SIZES, registry=registry
        )
        self._commit_s = Histogram(
            "sweepd_commit_seconds",
            "Time from sending a commit to its answer.",
            buckets=_COMMIT_S,
            registry=registry,
        )
        self._inbox_lag_s = gauge(
            "inbox_lag_seconds",
            "How long the oldest entry of the last turn had waited; zero when nothing waits.",
        )
        self._inbox_entries = gauge("inbox_entries", "Inbox entries that are not committed yet.")
        self._outages = counter("store_outages_total", "Times that the store could not be reached.")
        self._leading = gauge("leading", "Whether this coordinator leads (1) or stands by (0).")
        self._epoch = gauge("leader_epoch", "The epoch in which this coordinator leads, or led last.")
        self._superseded_seen = 0

    # --- told by the loop -------------------------------------------------------------------

    def leads(self, epoch: int) -> None:
        self._leading.set(1)
        self._epoch.set(epoch)
        self._superseded_seen = 0

    def stands_by(self) -> None:
        self._leading.set(0)
        self.holds(Gauges())
        self.inbox(0)

    def committed(self, changes: Changes, taken: Taken, seconds: float) -> None:
        """Count a commit that went through."""
        self._commit_s.observe(seconds)
        self._inbox_lag_s.set(taken.lag_s)
        if taken.messages:
            self._commit_messages.observe(taken.messages)
            self._messages.inc(taken.messages)
        if taken.rejected:
            self._rejected.inc(taken.rejected)
        reports = 0
        for event in changes.events:
            if event.kind == "trial.reported":
                reports += event.data["count"]
            elif event.kind == "trial.decided":
                self._decisions[event.data["verdict"]].inc()
        if reports:
            self._reports.inc(reports)
        for end in changes.ends:
            self._ends[end.outcome.value].inc()

    def rests(self) -> None:
        """Nothing waits."""
        self._inbox_lag_s.set(0)

    def holds(self, held: Gauges) -> None:
        """Show what the engine holds."""
        for values, gauges in (
            (held.trials, self._trials),
            (held.studies, self._studies),
            (held.agents, self._agents),
        ):
            for name, gauge in gauges.items():
                gauge.set(values.get(name, 0))
        self._leases.set(held.leases)
        self._slots.set(held.slots_total)
        self._slots_used.set(held.slots_total - held.slots_free)
        self._asked.set(held.asked)
        if held.superseded > self._superseded_seen:
            self._superseded.inc(held.superseded - self._superseded_seen)
            self._superseded_seen = held.superseded

    def inbox(self, entries: int) -> None:
        self._inbox_entries.set(entries)

    def outage(self) -> None:
        self._outages.inc()

    def suggested(self, sampler: str, seconds: float) -> None:
        """Called by the search, in its thread."""
        self._suggestion_s.labels(sampler).observe(seconds)


def _values(states: type[Enum]) -> list[str]:
    return [state.value for state in states]


def serve(metrics: Metrics, host: str, port: int) -> tuple[int, Callable[[], None]]:
    """Serve /metrics in a thread; return the port it listens on and a function that ends it.

    Raises UsageError if it cannot listen there.
    """
    try:
        server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    except OSError as error:
        raise UsageError(f"/metrics cannot listen on {host}:{port}: {error.strerror or error}") from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return server.server_port, stop
