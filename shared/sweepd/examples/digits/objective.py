"""The demo as an Optuna objective. Nothing in it knows of sweepd: `study.optimize` runs it too."""

from __future__ import annotations

import optuna
from model import EPOCHS, Network


def objective(trial: optuna.Trial) -> float:
    """Train one network and return its accuracy on pictures it has not seen."""
    network = Network(
        learning_rate=trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True),
        alpha=trial.suggest_float("alpha", 1e-6, 1e-1, log=True),
        hidden=trial.suggest_int("hidden", 16, 128, log=True),
        layers=trial.suggest_int("layers", 1, 3),
        batch_size=trial.suggest_categorical("batch_size", [16, 32, 64, 128]),
        activation=trial.suggest_categorical("activation", ["relu", "tanh", "logistic"]),
    )
    accuracy = 0.0
    for epoch in range(1, EPOCHS + 1):
        accuracy = network.train_epoch()["val_accuracy"]
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy
