"""What an agent tells Prometheus. Its registry is its own; what can be read when asked is not stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol
from wsgiref.simple_server import WSGIServer

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from sweepd import __version__
from sweepd.errors import UsageError
from sweepd.messages import Device
from sweepd.states import AttemptOutcome
from sweepd_agent.gpus import MIB, Reading

LAUNCH_BUCKETS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)


class Sources(Protocol):
    """Where current values come from. Called in the thread that serves a scrape."""

    devices: dict[str, Device]

    @property
    def slots_total(self) -> int: ...
    @property
    def slots_used(self) -> int: ...
    @property
    def connected(self) -> bool: ...
    @property
    def unacknowledged(self) -> int: ...
    @property
    def spool_bytes(self) -> int: ...
    @property
    def leased(self) -> frozenset[str]: ...


class Metrics:
    """Counters that the agent moves."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        Info("sweepd_build", "The version of this program.", registry=self.registry).info(
            {"version": __version__, "component": "agent"}
        )
        self._attempts = Counter(
            "sweepd_agent_attempts",
            "Attempts that ended on this agent, by what became of them.",
            ["outcome"],
            registry=self.registry,
        )
        for outcome in AttemptOutcome:  # a rate needs its zero
            self._attempts.labels(outcome.value)
        self.declined = Counter(
            "sweepd_agent_attempts_declined",
            "Attempts that were assigned to this agent and not taken.",
            registry=self.registry,
        )
        self.launch_s = Histogram(
            "sweepd_agent_launch_seconds",
            "From reading an attempt's assignment to its running supervisor.",
            buckets=LAUNCH_BUCKETS_S,
            registry=self.registry,
        )
        self.reports = Counter(
            "sweepd_agent_reports",
            "Reports of jobs that were handed on to the coordinator.",
            registry=self.registry,
        )

    def ended(self, outcome: AttemptOutcome) -> None:
        self._attempts.labels(outcome.value).inc()

    def observe(self, sources: Sources, readings: Callable[[], dict[str, Reading]]) -> None:
        """Add what is read at each scrape."""
        self.registry.register(_AtScrape(sources, readings))

    def serve(self, host: str, port: int) -> WSGIServer:
        """Answer scrapes from a thread of its own; raises UsageError if the port cannot be had."""
        try:
            server, _ = prometheus_client.start_http_server(port, host, self.registry)
        except OSError as error:
            raise UsageError(f"--metrics-port {port} on {host}: {error.strerror or error}") from None
        return server


class _AtScrape(Collector):
    def __init__(self, sources: Sources, readings: Callable[[], dict[str, Reading]]) -> None:
        self._sources, self._readings = sources, readings

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the devices."""
        return []

    def collect(self) -> Iterator[Metric]:
        sources = self._sources
        for name, text, value in (
            ("slots", "Attempts that this agent can run at once.", sources.slots_total),
            ("slots_used", "Attempts that it runs now.", sources.slots_used),
            ("connected", "Whether the store answers this agent (1) or not (0).", sources.connected),
            (
                "unacknowledged_messages",
                "Messages sent that the coordinator has not acknowledged yet.",
                sources.unacknowledged,
            ),
            ("spool_bytes", "Size of the file of ends that are still owed.", sources.spool_bytes),
        ):
            yield GaugeMetricFamily(f"sweepd_agent_{name}", text, value=float(value))
        if sources.devices:
            yield from self._of_devices(sources.devices, sources.leased)

    def _of_devices(self, devices: dict[str, Device], leased: frozenset[str]) -> Iterator[Metric]:
        families = {
            name: GaugeMetricFamily(f"sweepd_agent_device_{name}", text, labels=["uuid", "name"])
            for name, text in (
                ("memory_used_bytes", "Memory of the device that is in use."),
                ("memory_total_bytes", "Memory of the device."),
                ("utilisation_ratio", "Share of the last moments in which the device computed."),
                ("power_watts", "Power that the device draws."),
                ("temperature_celsius", "Temperature of the device."),
                ("leased", "Whether an attempt holds the device (1) or not (0)."),
            )
        }
        for uuid, reading in self._readings().items():
            used, total = reading.memory_used_mib, reading.memory_total_mib
            for name, value in (
                ("memory_used_bytes", None if used is None else used * MIB),
                ("memory_total_bytes", None if total is None else total * MIB),
                ("utilisation_ratio", reading.utilisation),
                ("power_watts", reading.power_w),
                ("temperature_celsius", reading.temperature_c),
                ("leased", uuid in leased),
            ):
                if value is not None:
                    families[name].add_metric([uuid, devices[uuid].name], float(value))
        yield from families.values()
