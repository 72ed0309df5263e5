"""What to try next: the samplers, and the thread that asks them.

The only part of the coordinator that may import Optuna, and it does so when the first study
needs it: a coordinator that serves random search never loads it.
"""

from sweepd_coordinator.search.samplers import KINDS, SamplerKind, StudySampler
from sweepd_coordinator.search.worker import Search

__all__ = ["KINDS", "SamplerKind", "Search", "StudySampler"]
