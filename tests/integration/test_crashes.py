"""The coordinator dies again and again; the study is none the worse for it."""

from __future__ import annotations

import random
from collections.abc import Generator
from pathlib import Path

import pytest
from servers import DURABLE, debian_redis, redis_binary
from waiting import wait_until

from integration.fleet import Fleet, fleet
from sweepd.states import AttemptOutcome, StudyState, TrialState

TRAIN = """
import sweepd, time
x = sweepd.params()["x"]
for step in range(1, 10):
    if sweepd.report({"score": x * step}, step=step) == "stop":
        break
    time.sleep(0.03)
"""


@pytest.fixture
def machines(tmp_path: Path) -> Generator[Fleet]:
    if redis_binary() is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    (tmp_path / "train.py").write_text(TRAIN)
    with debian_redis(DURABLE) as server, fleet(server, tmp_path, agents=2, slots=2) as it:
        yield it


@pytest.mark.parametrize("scheduler", ["none", "asha"])
def test_forty_trials_end_once_each_whatever_happens_to_the_coordinator(
    machines: Fleet, tmp_path: Path, scheduler: str
) -> None:
    """Exactly the budget, one accepted end per trial, no acknowledged report missing."""
    study = machines.submit(
        {
            "name": "crashes",
            "task": {"command": ["python3", "train.py"]},
            "objectives": [{"metric": "score", "direction": "maximize"}],
            "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
            "sampler": {"type": "random", "seed": 7},
            "scheduler": {"type": "none"} if scheduler == "none" else {"type": "asha", "min": 1, "max": 9},
            "budget": {"trials": 40},
            "executor": {"type": "process"},
        },
        tmp_path,
    )
    chance = random.Random(3)
    kills = 0
    for ended in (2, 9, 16, 23, 30):
        wait_until(
            lambda ended=ended: len(machines.ends(study)) >= ended, timeout_s=60, describe=machines.told
        )
        machines.coordinator.kill()
        kills += 1
        if chance.random() < 0.5:  # sometimes the next one dies before it has done anything
            machines.coordinator.start()
            machines.coordinator.kill()
            kills += 1
        machines.coordinator.start()
    record = machines.wait_ended(study)
    assert kills >= 5
    assert record.state is StudyState.DONE
    trials = machines.trials(study)
    assert list(trials) == list(range(40))
    ends = machines.ends(study)
    assert sorted(end.trial for end in ends) == list(range(40)), "one accepted end per trial"
    curves = {trial["number"]: trial["curve"] for trial in machines.client.study(study).trials(reports=True)}
    for number, trial in trials.items():
        assert trial.state in {TrialState.COMPLETE, TrialState.PRUNED}
        (attempt,) = trial.attempts  # nobody was blamed for the outages
        assert attempt.outcome in {AttemptOutcome.FINISHED, AttemptOutcome.PRUNED}
        steps = [step for step, _ in curves[number]]
        assert steps == list(range(1, trial.reports + 1)), "reports are there once, in order"
        if trial.state is TrialState.COMPLETE:
            assert trial.values == {"score": pytest.approx(9 * trial.params["x"])}


def test_random_search_is_the_same_with_and_without_crashes(machines: Fleet, tmp_path: Path) -> None:
    """Promise 4: the set of (trial, parameters, value) does not show the crash."""
    study = {
        "task": {"command": ["python3", "train.py"]},
        "objectives": [{"metric": "score", "direction": "maximize"}],
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 11},
        "budget": {"trials": 12},
        "executor": {"type": "process"},
    }
    quiet = machines.submit({"name": "quiet", **study}, tmp_path)
    machines.wait_ended(quiet)
    shaken = machines.submit({"name": "shaken", **study}, tmp_path)
    for ended in (1, 5, 9):
        wait_until(lambda ended=ended: len(machines.ends(shaken)) >= ended, timeout_s=60)
        machines.coordinator.kill()
        machines.coordinator.start()
    machines.wait_ended(shaken)
    outcomes = [
        [(number, trial.params, trial.values) for number, trial in machines.trials(name).items()]
        for name in (quiet, shaken)
    ]
    assert outcomes[0] == outcomes[1]
