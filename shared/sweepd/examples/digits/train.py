"""The demo as a program: hyperparameters come as arguments, the SDK takes the reports."""

from __future__ import annotations

import argparse

from model import EPOCHS, Network

import sweepd


def main() -> None:
    """Train one network; run by hand, `python train.py --learning_rate=1e-3` prints its reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--alpha", type=float, default=1e-4)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--activation", default="relu", choices=["relu", "tanh", "logistic"])
    network = Network(**vars(parser.parse_args()))
    for epoch in range(1, EPOCHS + 1):
        sweepd.report(network.train_epoch(), step=epoch)
        if sweepd.should_stop():
            break


if __name__ == "__main__":
    main()
