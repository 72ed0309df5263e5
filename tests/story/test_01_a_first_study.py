"""A program, a file that says what to vary, and the best of what was tried."""

from __future__ import annotations

from pathlib import Path

import sweepd

PROGRAM = """
import sweepd

params = sweepd.params()
loss = (params["x"] - 0.3) ** 2 + (0.1 if params["kind"] == "odd" else 0.0)
sweepd.report({"loss": loss}, step=1)
"""

STUDY = """
name: first
task: {command: [python3, train.py]}
objectives: [{metric: loss, direction: minimize}]
space:
  x: {type: float, low: 0, high: 1}
  kind: {type: categorical, choices: [odd, even]}
sampler: {type: tpe, seed: 1}
budget: {trials: 12}
executor: {type: process}
"""


def test_a_study_runs_its_trials_and_shows_the_best(client: sweepd.Client, folder: Path) -> None:
    """A submitted study creates exactly the trials of its budget and knows the best of them."""
    (folder / "train.py").write_text(PROGRAM)
    (folder / "study.yaml").write_text(STUDY)

    study = client.submit("study.yaml")
    assert study.wait(timeout_s=60) == "done"

    trials = study.trials()
    assert [trial["number"] for trial in trials] == list(range(12))
    assert {trial["state"] for trial in trials} == {"complete"}
    (best,) = study.best()
    assert best["values"]["loss"] == min(trial["values"]["loss"] for trial in trials)
    assert set(best["params"]) == {"x", "kind"}


def test_a_study_submitted_again_is_the_same_study(client: sweepd.Client, folder: Path) -> None:
    """The name is the study: submitting twice creates one, and a larger budget lets it go on."""
    (folder / "train.py").write_text(PROGRAM)
    (folder / "study.yaml").write_text(STUDY.replace("first", "again").replace("12", "3"))
    study = client.submit("study.yaml")
    study.wait(timeout_s=60)

    (folder / "study.yaml").write_text(STUDY.replace("first", "again").replace("12", "5"))
    more = client.submit("study.yaml")

    assert (more.id, more.created, more.resumed) == (study.id, False, True)
    more.wait(timeout_s=60)
    assert len(more.trials()) == 5
