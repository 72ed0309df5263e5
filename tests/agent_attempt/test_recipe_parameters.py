"""Parameters set as attributes of what a NeMo Run recipe returned."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sweepd.job.result import BadConfig

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # NeMo Run's own, of today's libraries
    run = pytest.importorskip("nemo_run")
    from sweepd.job.configs import set_parameters

pytestmark = pytest.mark.nemo


@dataclass
class Schedule:
    warmup: int = 10


@dataclass
class Optimizer:
    lr: float = 0.1
    schedule: Schedule = field(default_factory=Schedule)
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    betas: list[float] = field(default_factory=list[float])


class Plain:
    """No Config, and none can be made of it."""


def train(optimizer: Optimizer, steps: int = 1, plain: Any = None) -> None:
    raise NotImplementedError(optimizer, steps, plain)


def flexible(name: str, **options: Any) -> None:
    raise NotImplementedError(name, options)


def task() -> Any:
    optimizer = run.Config(
        Optimizer, schedule=run.Config(Schedule), options={"eps": 1e-8}, betas=[0.9, 0.999]
    )
    return run.Partial(train, optimizer=optimizer, plain=Plain())


SETTINGS: dict[str, tuple[Any, str]] = {
    "steps": (5, "steps"),
    "optimizer.lr": (0.5, "optimizer.lr"),
    "optimizer.schedule.warmup": (20, "optimizer.schedule.warmup"),
    "optimizer.options.eps": (1e-6, "optimizer.options['eps']"),
    "optimizer.betas.1": (0.99, "optimizer.betas[1]"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_dotted_name_is_walked(name: str) -> None:
    value, expression = SETTINGS[name]
    one = task()
    set_parameters([one], {name: value})
    assert eval(f"one.{expression}") == value
    assert run.config.fdl.build(one).keywords  # still something to call


def test_text_stays_text() -> None:
    """NeMo Run's own parser would import and call this."""
    one = task()
    set_parameters([one], {"plain": "os.getpid", "optimizer.lr": "os.getpid()"})
    assert one.plain == "os.getpid"
    assert one.optimizer.lr == "os.getpid()"


WRONG: dict[str, tuple[str, str]] = {
    "a typo": ("stepz", "no attribute 'stepz' to set to that parameter; did you mean 'steps'?"),
    "a typo inside": ("optimizer.schedule.warmap", "did you mean 'optimizer.schedule.warmup'?"),
    "a typo on the way": ("optimiser.lr", "did you mean 'optimizer.lr'?"),
    "no such key": ("optimizer.options.epz", "did you mean 'optimizer.options.eps'?"),
    "no such index": ("optimizer.betas.2", "no attribute 'optimizer.betas.2'"),
    "nothing like it": ("zzz", "no attribute 'zzz' to set to that parameter$"),
    "a whole config": ("optimizer", "'optimizer' is a whole Config: name one of its attributes"),
    "inside what is no config": (
        "plain.x",
        "leads through 'plain', which is a Plain: make it a nemo_run.Config",
    ),
}


@pytest.mark.parametrize(("name", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_no_attribute_is_an_error(name: str, problem: str) -> None:
    with pytest.raises(BadConfig, match=problem):
        set_parameters([task()], {name: 1})


def test_a_function_that_takes_anything_takes_anything() -> None:
    one = run.Partial(flexible, name="a")
    set_parameters([one], {"temperature": 0.5})
    assert one.temperature == 0.5


def test_of_several_those_that_have_it_are_set() -> None:
    first, second, third = task(), run.Partial(flexible, name="a"), run.Script(inline="echo")
    set_parameters([first, second, third], {"steps": 3, "env.LR": 0.5, "env.NAME": "b", "env.FAST": True})
    assert first.steps == 3
    assert second.steps == 3
    assert third.env == {"LR": "0.5", "NAME": "b", "FAST": "true"}


def test_a_script_has_variables_only() -> None:
    params: Mapping[str, Any] = {"lr": 1}
    with pytest.raises(BadConfig, match=r"a Script has env\.NAME only, but its recipe may take parameters"):
        set_parameters([run.Script(inline="echo")], params)
