"""An objective written for Optuna runs as it is, also where it suggests as it goes."""

from __future__ import annotations

from pathlib import Path

import sweepd

PROGRAM = """
import optuna

def objective(trial):
    layers = trial.suggest_int("layers", 1, 3)
    sizes = [trial.suggest_int(f"size_{i}", 8, 64, log=True) for i in range(layers)]
    trial.set_user_attr("sizes", sizes)
    for step in range(3):
        trial.report(sum(sizes) / (step + 1), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(sum(sizes))
"""


def test_parameters_are_suggested_as_the_objective_asks(client: sweepd.Client, folder: Path) -> None:
    """Without a `space` the job asks for each parameter when it comes to it; loops and ifs work."""
    (folder / "train.py").write_text(PROGRAM)
    study = client.submit(
        {
            "name": "as-it-goes",
            "task": {"objective": "train.py:objective"},
            "objectives": [{"metric": "total", "direction": "minimize"}],
            "budget": {"trials": 4},
            "executor": {"type": "process"},
        }
    )
    study.wait(timeout_s=90)

    for trial in study.trials():
        sizes = [trial["params"][f"size_{i}"] for i in range(trial["params"]["layers"])]
        assert trial["values"] == {"total": sum(sizes)}
        assert all(8 <= size <= 64 for size in sizes)
