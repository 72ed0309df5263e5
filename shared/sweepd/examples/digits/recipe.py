"""The demo as a NeMo Run recipe: a function that returns what to run."""

from __future__ import annotations

import nemo_run as run
from model import EPOCHS, Network

import sweepd


def train(
    learning_rate: float, alpha: float, hidden: int, layers: int, batch_size: int, activation: str
) -> None:
    """Train one network, reporting each epoch, until it is good or sweepd has seen enough."""
    network = Network(learning_rate, alpha, hidden, layers, batch_size, activation)
    for epoch in range(1, EPOCHS + 1):
        sweepd.report(network.train_epoch(), step=epoch)
        if sweepd.should_stop():
            break


def digits() -> run.Partial[None]:
    """Return a training with ordinary values; sweepd sets those of the study's space."""
    return run.Partial(
        train, learning_rate=1e-3, alpha=1e-4, hidden=64, layers=1, batch_size=32, activation="relu"
    )
