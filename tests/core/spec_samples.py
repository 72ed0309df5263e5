"""Studies for the tests of the spec: a small one as it is written, and any that the parser accepts."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sweepd.space import Categorical, Float, Int, Parameter
from sweepd.spec import (
    Budget,
    ExecutorSpec,
    Limits,
    Objective,
    ResourceSpec,
    Retry,
    Sampler,
    Scheduler,
    StudySpec,
    Task,
)


def good() -> dict[str, Any]:
    """Return a study as JSON values, which the caller may change."""
    return {
        "name": "digits",
        "task": {"objective": "train.py:objective"},
        "objectives": [{"metric": "acc", "direction": "maximize"}],
        "space": {"lr": {"type": "float", "low": 0, "high": 1}},
        "budget": {"trials": 10},
    }


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,9}", fullmatch=True).filter(lambda name: name != "args")
metrics = st.sampled_from(["acc", "val/loss", "f1@5"])
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda number: number + 0.0)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    if kind == "log":
        low, high = sorted((draw(st.floats(1e-9, 1e9)), draw(st.floats(1e-9, 1e9))))
        return Float(low, high, log=True)
    if kind == "step":
        low, step = draw(st.integers(-100, 100)), draw(st.integers(1, 9))
        return Float(low / 10, (low + step * draw(st.integers(1, 20))) / 10, step=step / 10)
    low, high = sorted((draw(numbers), draw(numbers)))
    return Float(low, high)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    low, count = draw(st.integers(1, 10**6)), draw(st.integers(0, 1000))
    if draw(st.booleans()):
        return Int(low, low + count, log=True)
    step = draw(st.integers(1, 7))
    return Int(-low, -low + step * max(count, 1), step=step)


def parameters() -> st.SearchStrategy[Parameter]:
    choices = st.lists(json_values, min_size=1, max_size=4, unique_by=repr)
    return floats() | ints() | choices.map(Categorical)


def tasks(kind: str) -> st.SearchStrategy[Task]:
    env = st.dictionaries(st.sampled_from(["A", "OMP_NUM_THREADS"]), texts, max_size=2)
    workdir = st.sampled_from([".", "/srv/work"])
    if kind == "objective":
        return st.builds(Task, objective=st.just("train.py:objective"), env=env, workdir=workdir)
    if kind == "command":
        return st.builds(Task, command=st.just(["python", "t.py", "{args}"]), env=env, workdir=workdir)
    args = st.dictionaries(st.sampled_from(["nodes", "model"]), json_values, max_size=2)
    return st.builds(Task, nemo=st.just("pkg.recipes:tune"), args=args, env=env, workdir=workdir)


@st.composite
def schedulers(draw: st.DrawFn, metric: str) -> Scheduler:
    if draw(st.booleans()):
        return Scheduler()
    low = draw(st.integers(1, 10))
    return Scheduler(
        "asha",
        metric=draw(st.sampled_from([None, metric])),
        resource=draw(st.sampled_from(["reports", "step"])),
        min=low,
        max=low + draw(st.integers(0, 100)),
        eta=draw(st.integers(2, 5)),
    )


@st.composite
def resources(draw: st.DrawFn) -> ResourceSpec:
    gpus = draw(st.integers(0, 8))
    sizes = st.sampled_from(["512MiB", "1.5 GB", 0])
    return ResourceSpec(
        gpus,
        draw(st.floats(0, 64)),
        draw(sizes),
        draw(sizes) if gpus else 0,
        draw(st.dictionaries(st.sampled_from(["pool", "host"]), st.sampled_from(["a", "b c"]), max_size=2)),
    )


@st.composite
def specs(draw: st.DrawFn) -> StudySpec:
    kind = draw(st.sampled_from(["objective", "nemo", "command"]))
    metric = draw(metrics)
    least = 0 if kind == "objective" else 1
    return StudySpec(
        name=draw(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)),
        task=draw(tasks(kind)),
        objectives=[
            Objective(
                metric,
                draw(st.sampled_from(["minimize", "maximize"])),
                draw(st.sampled_from(["last", "best"])),
            )
        ],
        space=draw(st.dictionaries(names, parameters(), min_size=least, max_size=4)),
        sampler=Sampler(
            draw(st.sampled_from(["tpe", "random"])),
            draw(st.none() | st.integers(0, 2**32)),
            draw(st.booleans()),
        ),
        scheduler=draw(schedulers(metric)),
        budget=Budget(draw(st.integers(1, 10**9))),
        resources=draw(resources()),
        limits=Limits(draw(st.sampled_from([None, "2h", "1h30m", 90, 0.5]))),
        retry=Retry(draw(st.integers(1, 1000))),
        executor=ExecutorSpec("local" if kind == "nemo" else draw(st.sampled_from(["local", "process"]))),
    )
