"""What /metrics says."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

import pytest
from prometheus_client.exposition import generate_latest

from sweepd.errors import UsageError
from sweepd.messages import Event
from sweepd.records import EndRecord
from sweepd.states import AttemptOutcome, TrialState
from sweepd_coordinator.core.changes import Changes
from sweepd_coordinator.core.engine import Gauges
from sweepd_coordinator.metrics import Metrics, Taken, serve


def sample(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def changes() -> Changes:
    made = Changes(1, "1-0", 0.0)
    made.events = [
        Event("trial.reported", "s", 1, data={"step": 1, "count": 3}),
        Event("trial.reported", "s", 2, data={"step": 1, "count": 1}),
        Event("trial.decided", "s", 1, data={"verdict": "stop"}),
        Event("trial.decided", "s", 2, data={"verdict": "continue"}),
        Event("study.done", "s"),
    ]
    for outcome in (AttemptOutcome.FINISHED, AttemptOutcome.PRUNED, AttemptOutcome.PRUNED):
        made.ends.append(EndRecord("s", 1, 1, "a", "t", outcome, TrialState.COMPLETE, 1, 0.0))
    return made


def test_a_commit_is_counted() -> None:
    metrics = Metrics()
    metrics.committed(changes(), Taken(messages=5, rejected=2, lag_s=0.25), 0.003)
    assert sample(metrics, "sweepd_messages_total") == 5
    assert sample(metrics, "sweepd_messages_rejected_total") == 2
    assert sample(metrics, "sweepd_reports_total") == 4
    assert sample(metrics, "sweepd_decisions_total", verdict="stop") == 1
    assert sample(metrics, "sweepd_decisions_total", verdict="continue") == 1
    assert sample(metrics, "sweepd_decisions_total", verdict="pause") == 0
    assert sample(metrics, "sweepd_attempts_ended_total", outcome="pruned") == 2
    assert sample(metrics, "sweepd_commit_messages_sum") == 5
    assert sample(metrics, "sweepd_commit_seconds_sum") == 0.003
    assert sample(metrics, "sweepd_inbox_lag_seconds") == 0.25
    metrics.rests()
    assert sample(metrics, "sweepd_inbox_lag_seconds") == 0


def test_a_commit_of_suggestions_alone_is_no_batch_of_messages() -> None:
    metrics = Metrics()
    metrics.committed(Changes(1, "1-0", 0.0), Taken(), 0.001)
    assert sample(metrics, "sweepd_commit_seconds_count") == 1
    assert sample(metrics, "sweepd_commit_messages_count") == 0


def test_what_the_engine_holds_is_shown_and_gone_with_the_leadership() -> None:
    metrics = Metrics()
    metrics.leads(3)
    metrics.holds(
        Gauges(
            trials={"running": 4},
            studies={"done": 2},
            agents={"lost": 1},
            leases=4,
            slots_total=6,
            slots_free=2,
            superseded=5,
            asked=1,
        )
    )
    assert sample(metrics, "sweepd_leading") == 1
    assert sample(metrics, "sweepd_leader_epoch") == 3
    assert sample(metrics, "sweepd_trials", state="running") == 4
    assert sample(metrics, "sweepd_trials", state="failed") == 0
    assert sample(metrics, "sweepd_studies", state="done") == 2
    assert sample(metrics, "sweepd_agents", state="lost") == 1
    assert sample(metrics, "sweepd_leases") == 4
    assert (sample(metrics, "sweepd_slots"), sample(metrics, "sweepd_slots_used")) == (6, 4)
    assert sample(metrics, "sweepd_suggestions_pending") == 1
    metrics.stands_by()
    assert sample(metrics, "sweepd_leading") == 0
    assert sample(metrics, "sweepd_trials", state="running") == 0
    assert sample(metrics, "sweepd_slots") == 0
    assert sample(metrics, "sweepd_messages_superseded_total") == 5


def test_superseded_messages_go_on_counting_over_terms() -> None:
    """The engine counts from its own start; the process counts from its start."""
    metrics = Metrics()
    metrics.leads(1)
    for superseded in (2, 5):
        metrics.holds(Gauges(superseded=superseded))
    metrics.leads(2)
    metrics.holds(Gauges(superseded=1))
    assert sample(metrics, "sweepd_messages_superseded_total") == 6


def test_it_is_served_until_it_is_closed() -> None:
    metrics = Metrics()
    metrics.suggested("tpe", 0.007)
    port, close = serve(metrics, "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    assert 'sweepd_suggestion_seconds_count{sampler="tpe"} 1.0' in text
    assert 'sweepd_build_info{component="coordinator",version="' in text
    with pytest.raises(UsageError, match=rf"/metrics cannot listen on 127.0.0.1:{port}: .*in use"):
        serve(metrics, "127.0.0.1", port)
    close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10)


@pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not on PATH (apt-get install prometheus)"
)
def test_promtool_has_nothing_to_say() -> None:
    metrics = Metrics()
    metrics.suggested("random", 0.001)
    metrics.committed(changes(), Taken(messages=5), 0.003)
    text = generate_latest(metrics.registry)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, timeout=30)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
