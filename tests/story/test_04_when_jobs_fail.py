"""A job that fails costs its trial, not the study; three alike stop the waste."""

from __future__ import annotations

from pathlib import Path

import sweepd

STUDY = {
    "task": {"command": ["python3", "train.py"]},
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "space": {"x": {"type": "float", "low": 0, "high": 1}},
    "sampler": {"type": "random", "seed": 1},
    "budget": {"trials": 8},
    "executor": {"type": "process"},
}


def test_the_first_three_failing_alike_pause_the_study(client: sweepd.Client, folder: Path) -> None:
    """A mistake that hits every trial is shown after three of them, not after the whole budget."""
    (folder / "train.py").write_text("raise FileNotFoundError('data.csv')")
    study = client.submit(STUDY | {"name": "hopeless"})

    assert study.wait(timeout_s=60) == "paused"
    record = study.record()
    assert "FileNotFoundError: data.csv" in record.reason
    assert "Traceback" in record.failure


def test_a_failing_trial_is_tried_again_as_often_as_asked(client: sweepd.Client, folder: Path) -> None:
    """`retry.max_attempts` runs a trial again with the same parameters."""
    (folder / "train.py").write_text(
        "import os, pathlib, sweepd\n"
        "x = sweepd.params()['x']\n"
        "mark = pathlib.Path(f'seen-{x}')\n"
        "if not mark.exists():\n"
        "    mark.touch(); os._exit(7)\n"
        "sweepd.report({'loss': x})\n"
    )
    study = client.submit(STUDY | {"name": "second-time", "retry": {"max_attempts": 2}})
    assert study.wait(timeout_s=60) == "done"
    for trial in study.trials():
        assert trial["state"] == "complete"
        assert [attempt["outcome"] for attempt in trial["attempts"]] == ["failed", "finished"]


def test_a_study_can_be_cancelled(client: sweepd.Client, folder: Path) -> None:
    """Cancel stops what runs; what was found stays."""
    (folder / "train.py").write_text(
        "import time, sweepd\n"
        "sweepd.report({'loss': 1.0})\n"
        "while not sweepd.should_stop():\n"
        "    time.sleep(0.01)\n"
    )
    study = client.submit(STUDY | {"name": "enough"})
    study.cancel("seen enough")
    assert study.wait(timeout_s=60) == "cancelled"
    assert {trial["state"] for trial in study.trials()} <= {"cancelled", "complete"}
