"""A small network that learns scikit-learn's digits: 1,797 pictures of 8 x 8 pixels.

The three forms of the demo study share it. An epoch takes 10 to 100 ms, and how well it goes is
a function of the hyperparameters alone: the split and the first weights are always the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

EPOCHS = 27
VALIDATION = 450  #: pictures that are held back


class Network:
    """A multi-layer perceptron, trained with Adam one epoch at a time.

    It has `layers` hidden layers of `hidden` units; `alpha` is the strength of the L2 penalty.
    """

    def __init__(
        self, learning_rate: float, alpha: float, hidden: int, layers: int, batch_size: int, activation: str
    ) -> None:
        data: Any = load_digits()
        order = np.random.default_rng(0).permutation(len(data.target))
        pictures, digits = data.data[order] / 16, data.target[order]
        self._held_back = pictures[:VALIDATION], digits[:VALIDATION]
        self._seen = _with_shifts(pictures[VALIDATION:]), np.tile(digits[VALIDATION:], 3)
        self._network = MLPClassifier(
            hidden_layer_sizes=(hidden,) * layers,
            activation=activation,
            alpha=alpha,
            batch_size=batch_size,  # pyright: ignore[reportArgumentType]: guessed from its default "auto"
            learning_rate_init=learning_rate,
            random_state=0,
        )

    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch; return `val_accuracy` and `val_loss` (cross-entropy) after it."""
        self._network.partial_fit(*self._seen, classes=range(10))
        pictures, digits = self._held_back
        likelihood = np.asarray(self._network.predict_proba(pictures))
        accuracy = (likelihood.argmax(axis=1) == digits).mean()
        loss = -np.log(likelihood[np.arange(len(digits)), digits].clip(1e-12)).mean()
        return {"val_accuracy": float(accuracy), "val_loss": float(loss)}


def _with_shifts(pictures: np.ndarray) -> np.ndarray:
    """Return *pictures*, and each of them one pixel to the left and to the right."""
    rows = pictures.reshape(-1, 8, 8)
    blank = np.zeros((len(rows), 8, 1))
    left = np.concatenate([rows[:, :, 1:], blank], axis=2)
    right = np.concatenate([blank, rows[:, :, :-1]], axis=2)
    return np.concatenate([rows, left, right]).reshape(-1, 64)
