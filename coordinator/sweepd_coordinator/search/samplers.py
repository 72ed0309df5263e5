"""The kinds of sampler: what a study file may name, and how each is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sweepd.errors import SpecError
from sweepd.space import Parameter
from sweepd.spec import StudySpec
from sweepd_coordinator.core.changes import TrialPending, TrialTold
from sweepd_coordinator.search.random import RandomSearch


class StudySampler(Protocol):
    """What suggests for one study. Called from one thread; may raise, which fails that suggestion.

    `suggest` and `suggest_one` return a function of the study's seed, the arguments and the
    trials taken before, and take no notice of what was suggested and not handed back by `pending`.
    """

    def pending(self, note: TrialPending) -> None:
        """Take a trial that has parameters and no value; again when a parameter was added."""
        ...

    def told(self, note: TrialTold) -> None:
        """Take the end of a trial."""
        ...

    def suggest(self, number: int) -> dict[str, Any]:
        """Return all declared parameters of trial *number*, in the order of the space."""
        ...

    def suggest_one(self, number: int, name: str, distribution: Parameter) -> Any:
        """Return the value of a parameter that the job of trial *number* asks for."""
        ...


@dataclass(frozen=True, slots=True)
class SamplerKind:
    """A `sampler.type`.

    `stateless`: a suggestion needs no history and takes microseconds, so that the answers to
    many questions are worth handing over together.
    """

    type: str
    stateless: bool
    build: Callable[[StudySpec, int], StudySampler]  #: the study and its seed


def _random(spec: StudySpec, seed: int) -> StudySampler:
    return RandomSearch(spec.space, seed)


def _tpe(spec: StudySpec, seed: int) -> StudySampler:
    from sweepd_coordinator.search.tpe import TpeSearch  # loads Optuna

    return TpeSearch(spec.space, spec.objectives[0].direction == "maximize", seed)


KINDS: Mapping[str, SamplerKind] = {
    kind.type: kind for kind in (SamplerKind("random", True, _random), SamplerKind("tpe", False, _tpe))
}


def kind_of(spec: StudySpec) -> SamplerKind:
    """Return the kind of sampler that *spec* names; raises SpecError if there is none."""
    kind = KINDS.get(spec.sampler.type)
    if kind is None:
        raise SpecError([f"sampler.type: {spec.sampler.type!r} is not one of {', '.join(KINDS)}"])
    return kind


def build(spec: StudySpec) -> StudySampler:
    """Return a sampler for *spec* that has seen no trial.

    Raises SpecError if its type is not known or its seed is missing, without which no suggestion
    could be computed again; `sweepd.study_file` draws one where the file has none.
    """
    kind = kind_of(spec)
    if spec.sampler.seed is None:
        raise SpecError(
            ["sampler.seed: missing; set one, or load the file with sweepd.study_file, which draws one"]
        )
    return kind.build(spec, spec.sampler.seed)
