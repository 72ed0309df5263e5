"""sweepd: hyperparameter optimization for GPU fleets.

Inside a training job this package touches the standard library only: everything else is
loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sweepd.client import Client as Client
    from sweepd.job import checkpoint as checkpoint
    from sweepd.job import params as params
    from sweepd.job import report as report
    from sweepd.job import restore_dir as restore_dir
    from sweepd.job import should_stop as should_stop

_HOMES = {
    "Client": "sweepd.client",
    "checkpoint": "sweepd.job",
    "params": "sweepd.job",
    "report": "sweepd.job",
    "restore_dir": "sweepd.job",
    "should_stop": "sweepd.job",
}

__all__ = ["Client", "__version__", "checkpoint", "params", "report", "restore_dir", "should_stop"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'sweepd' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
