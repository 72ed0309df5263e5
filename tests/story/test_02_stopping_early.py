"""Reports while a job runs, and the scheduler that stops what is not worth going on with."""

from __future__ import annotations

from pathlib import Path

import sweepd

PROGRAM = """
import time
import sweepd

quality = sweepd.params()["quality"]
for epoch in range(1, 10):
    time.sleep(0.02)
    if sweepd.report({"accuracy": quality * epoch / 9}, step=epoch) == "stop":
        break
"""

STUDY = {
    "name": "early",
    "task": {"command": ["python3", "train.py"]},
    "objectives": [{"metric": "accuracy", "direction": "maximize"}],
    "space": {"quality": {"type": "float", "low": 0, "high": 1}},
    "sampler": {"type": "random", "seed": 4},
    "scheduler": {"type": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 18},
    "executor": {"type": "process"},
}


def test_poor_trials_are_stopped_and_say_why(client: sweepd.Client, folder: Path) -> None:
    """A trial that is not among the best third at a rung is pruned, with the reason in words."""
    (folder / "train.py").write_text(PROGRAM)
    study = client.submit(STUDY)
    study.wait(timeout_s=60)

    trials = study.trials(reports=True)
    pruned = [trial for trial in trials if trial["state"] == "pruned"]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    assert pruned
    assert complete
    assert all("below the cut" in trial["reason"] for trial in pruned)
    assert all(len(trial["curve"]) == 9 for trial in complete)
    trained = sum(len(trial["curve"]) for trial in trials)
    assert trained < 9 * len(trials)
    assert study.best()[0]["number"] in {trial["number"] for trial in complete}
