"""A study as its author writes it: the structs, and how they are read, checked and compared.

Everything here is pure: the engine uses it too. What touches files and chance (reading a study
file, the study of a bare objective) is in `study_file.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec

from sweepd import units
from sweepd.errors import SpecError
from sweepd.not_yet import values_of, words_of
from sweepd.space import NAME, SPACE, Parameter
from sweepd.words import (
    Duration,
    Flag,
    Json,
    ListOf,
    MapOf,
    OneOf,
    Real,
    Section,
    Size,
    Text,
    Whole,
    Word,
    Wrong,
    join,
    listed,
)

KINDS = ("objective", "nemo", "command")

# --- structs --------------------------------------------------------------------------------


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What runs: exactly one of objective, nemo, command."""

    objective: str | None = None
    nemo: str | None = None
    command: list[str] | None = None
    args: dict[str, Any] = {}  #: arguments of the recipe's factory
    python: str | None = None  #: the interpreter; the agent's own if None
    workdir: str = "."  #: absolute once a client has read the file
    env: dict[str, str] = {}

    @property
    def kind(self) -> str:
        """Which of objective, nemo and command it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def target(self) -> str | list[str]:
        """What the word of its kind says."""
        return getattr(self, self.kind)


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The metric that is optimized. `at`: which report of the curve counts."""

    metric: str
    direction: str  #: minimize | maximize
    at: str = "last"  #: last | best


class Sampler(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is tried next."""

    type: str = "tpe"  #: tpe | random
    seed: int | None = None  #: `study_file.load` draws one when the file has none
    seed_drawn: bool = False  #: nobody wrote the seed: another draw is no edit of the study


class Scheduler(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How far a trial runs. Reaching `max` makes it complete."""

    type: str = "none"  #: none | asha
    metric: str | None = None  #: the objective's if None
    resource: str = "reports"  #: reports | step | the name of a metric
    min: int = 1
    max: int | None = None
    eta: int = 3

    @property
    def rungs(self) -> tuple[int, ...]:
        """The resources at which a trial is compared and may be stopped: min * eta**k below max."""
        levels: list[int] = []
        level = self.min
        while self.max is not None and level < self.max:
            levels.append(level)
            level *= self.eta
        return tuple(levels)


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """When the study is done: cancelled trials do not count."""

    trials: int


class ResourceSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What one trial takes of a node while it runs."""

    gpus: int = 0
    cpus: float = 0
    memory: str | int = 0  #: "16GB", "24GiB", or 0
    gpu_memory: str | int = 0  #: of each device
    labels: dict[str, str] = {}

    @property
    def memory_mib(self) -> int:
        return units.size_mib(self.memory) if isinstance(self.memory, str) else 0

    @property
    def gpu_memory_mib(self) -> int:
        return units.size_mib(self.gpu_memory) if isinstance(self.gpu_memory, str) else 0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What ends an attempt by force."""

    time: str | float | None = None  #: of one attempt: "2h", or seconds

    @property
    def time_s(self) -> float | None:
        return units.duration_s(self.time) if isinstance(self.time, str) else self.time


class Retry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How often a trial whose job fails may be attempted; lost and preempted attempts do not count."""

    max_attempts: int = 1


class ExecutorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What starts a job."""

    type: str = "local"  #: local (NeMo Run) | process


class StudySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A study. Without a space its objective suggests as it goes."""

    name: str
    task: Task
    objectives: list[Objective]
    space: dict[str, Parameter] = {}
    sampler: Sampler = Sampler()
    scheduler: Scheduler = Scheduler()
    budget: Budget
    resources: ResourceSpec = ResourceSpec()
    limits: Limits = Limits()
    retry: Retry = Retry()
    executor: ExecutorSpec = ExecutorSpec()

    @property
    def kind(self) -> str:
        """What the task is: objective, nemo or command."""
        return self.task.kind

    @property
    def directions(self) -> tuple[str, ...]:
        """minimize or maximize, in the order of the objectives."""
        return tuple(objective.direction for objective in self.objectives)


# --- words ----------------------------------------------------------------------------------

_FUNCTION = r"(?:[^:\n]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*"
_METRIC = Text("the name of a metric, without spaces", r"\S{1,200}")
_PATH = Text("a path", r"[^\n]+")
_ANY_TEXT = Text("text", r"[\s\S]*")


def _check_task(task: Task, place: str) -> list[str]:
    kinds = [kind for kind in KINDS if getattr(task, kind) is not None]
    if not kinds:
        return [
            f"{place}: says nothing to run; write one of {listed(KINDS)}, as objective: train.py:objective"
        ]
    if len(kinds) > 1:
        return [f"{place}: has {' and '.join(kinds)}; keep one of them"]
    if task.args and task.kind != "nemo":
        return [f"{place}.args: are for the function of a nemo recipe, and this is {task.kind}; remove them"]
    if task.command is not None and not task.command[0]:
        return [f"{place}.command[0]: is empty; write the program to run"]
    return []


def _check_scheduler(scheduler: Scheduler, place: str) -> list[str]:
    if scheduler.type == "none":
        return [
            f"{place}.{word}: means nothing to the scheduler none; remove it or write type: asha"
            for word in msgspec.to_builtins(scheduler)
            if word != "type"
        ]
    if scheduler.max is None:
        return [
            f"{place}.max: is missing; write at how many {scheduler.resource} a trial is complete, as max: 27"
        ]
    if scheduler.max < scheduler.min:
        enough = msgspec.structs.replace(scheduler, max=scheduler.min * scheduler.eta**3)
        return [
            f"{place}.max: is {scheduler.max}, below min ({scheduler.min}), so there is no rung; "
            f"max: {enough.max} would make the rungs {', '.join(map(str, enough.rungs))}"
        ]
    return []


def _check_resources(resources: ResourceSpec, place: str) -> list[str]:
    if resources.gpu_memory_mib and not resources.gpus:
        return [f"{place}.gpu_memory: asks for memory of a GPU, and gpus is 0; write gpus: 1 or remove it"]
    return []


_TASK = Section(
    words={
        "objective": Word(
            Text("a function of a file or a module, as train.py:objective or pkg.train:objective", _FUNCTION),
            "An Optuna objective: FILE.py:FUNCTION (relative to workdir) or MODULE:FUNCTION.",
        ),
        "nemo": Word(
            Text(
                "a function of a file or a module, as recipes.py:finetune or pkg.recipes:finetune", _FUNCTION
            ),
            "A function that returns a nemo_run.Partial, Config, Script or a list of them.",
        ),
        "command": Word(
            ListOf(_ANY_TEXT, '[python, train.py, "{args}"]'),
            "A program and its arguments. {name} becomes the value of a parameter, {args} all of them.",
        ),
        "args": Word(
            MapOf(Text("an argument's name", r"[A-Za-z_]\w*"), Json(), "{num_nodes: 1}"),
            "Arguments of the nemo recipe's function.",
        ),
        "python": Word(_PATH, "The interpreter of the job; by default the agent's own."),
        "workdir": Word(_PATH, "The job's working directory, relative to this file.", default="."),
        "env": Word(
            MapOf(
                Text(
                    "a name of letters, digits and _",
                    r"[A-Za-z_][A-Za-z0-9_]*",
                    reserved={
                        "CUDA_VISIBLE_DEVICES": "the agent sets it; ask for devices with resources.gpus",
                        "SWEEPD_ATTEMPT": "the agent sets it; remove it",
                    },
                ),
                _ANY_TEXT,
                '{OMP_NUM_THREADS: "4"}',
            ),
            "Environment variables of the job, added to the agent's.",
        ),
    },
    build=Task,
    check=_check_task,
    later=words_of("task"),
    example="{objective: train.py:objective}",
    rules={"oneOf": [{"required": [kind]} for kind in KINDS]},
)

_OBJECTIVE = Section(
    words={
        "metric": Word(_METRIC, "The name of the metric.", missing="write the name of the metric"),
        "direction": Word(
            OneOf(("minimize", "maximize")),
            "What is better.",
            missing="write direction: minimize or maximize",
        ),
        "at": Word(OneOf(("last", "best")), "Which report of the trial counts.", default="last"),
    },
    build=Objective,
    example="{metric: val_loss, direction: minimize}",
)

_SAMPLER = Section(
    words={
        "type": Word(
            OneOf(("tpe", "random"), values_of("sampler.type")), "How parameters are chosen.", default="tpe"
        ),
        "seed": Word(Whole(0), "Makes the choices repeatable. Drawn, and shown, if absent."),
        "seed_drawn": Word(Flag(), "Written by sweepd where it drew the seed.", default=False),
    },
    build=Sampler,
    example="{type: tpe, seed: 42}",
)

_SCHEDULER = Section(
    words={
        "type": Word(
            OneOf(("none", "asha"), values_of("scheduler.type")),
            "Whether trials are stopped early.",
            default="none",
        ),
        "metric": Word(_METRIC, "What is compared; by default the objective's metric."),
        "resource": Word(
            _METRIC,
            "What measures a trial's progress: reports (their number), step, or a metric.",
            default="reports",
        ),
        "min": Word(Whole(1), "The resource of the first rung.", default=1),
        "max": Word(Whole(1), "The resource at which a trial is complete. Asha needs it."),
        "eta": Word(
            Whole(2), "Between rungs the resource grows by this, and 1/eta of the trials go on.", default=3
        ),
    },
    build=Scheduler,
    check=_check_scheduler,
    later=words_of("scheduler"),
    example="{type: asha, max: 27}",
    rules={
        "if": {"properties": {"type": {"const": "asha"}}, "required": ["type"]},
        "then": {"required": ["max"]},
        "else": {"propertyNames": {"const": "type"}},
    },
)

_BUDGET = Section(
    words={"trials": Word(Whole(1, 10**9), "How many trials are run.", missing="write trials: 100")},
    build=Budget,
    later=words_of("budget"),
    example="{trials: 100}",
)

_RESOURCES = Section(
    words={
        "gpus": Word(Whole(0, 10_000), "Whole devices that one trial gets.", default=0),
        "cpus": Word(Real(0), "Cores.", default=0),
        "memory": Word(Size(), "Memory of the node, as 16GB or 24GiB."),
        "gpu_memory": Word(Size(), "The least memory of each device."),
        "labels": Word(
            MapOf(Text("a name without spaces", r"\S{1,200}"), Text("text", r"[^\n]{1,200}"), "{pool: a100}"),
            "Labels that the agent must have.",
        ),
    },
    build=ResourceSpec,
    check=_check_resources,
    example="{gpus: 1, cpus: 4}",
)

_LIMITS = Section(
    words={"time": Word(Duration(), "How long one attempt may run, as 2h, 1h30m, 90s or seconds.")},
    build=Limits,
    later=words_of("limits"),
    example="{time: 2h}",
)

_RETRY = Section(
    words={
        "max_attempts": Word(
            Whole(1, 1000),
            "Attempts of a trial whose job fails. Lost and preempted ones do not count.",
            default=1,
        )
    },
    build=Retry,
    example="{max_attempts: 3}",
)

_EXECUTOR = Section(
    words={
        "type": Word(
            OneOf(("local", "process"), values_of("executor.type")),
            "local runs jobs as NeMo Run experiments, process without NeMo Run.",
            default="local",
        )
    },
    build=ExecutorSpec,
    example="{type: local}",
)


class _Objectives:
    """The list of objectives: one, for as long as several are not available."""

    _list = ListOf(_OBJECTIVE, "[{metric: val_loss, direction: minimize}]")

    def read(self, value: object, place: str) -> list[Objective]:
        objectives = self._list.read(value, place)
        if len(objectives) > 1:
            raise Wrong(
                [f"{place}: several are known, but not available yet; keep one of the {len(objectives)}"]
            )
        return objectives

    def schema(self) -> dict[str, Any]:
        return {**self._list.schema(), "maxItems": 1}


_STUDY = Section(
    words={
        "name": Word(
            Text(
                "a name of letters, digits, _, - and . that begins with a letter or digit",
                r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
            ),
            "The study's name. Submitted again under this name, it goes on.",
            missing="write the name of the study",
        ),
        "task": Word(
            _TASK, "What runs.", missing="write what runs, as task: {objective: train.py:objective}"
        ),
        "objectives": Word(
            _Objectives(),
            "What is optimized.",
            missing="write objectives: [{metric: val_loss, direction: minimize}]",
        ),
        "space": Word(SPACE, "The parameters. An objective may do without and suggest as it goes."),
        "sampler": Word(_SAMPLER, "What is tried next."),
        "scheduler": Word(_SCHEDULER, "How far trials run."),
        "budget": Word(_BUDGET, "When the study is done.", missing="write budget: {trials: 100}"),
        "resources": Word(_RESOURCES, "What one trial takes of a node."),
        "limits": Word(_LIMITS, "What ends an attempt by force."),
        "retry": Word(_RETRY, "What happens to trials that fail."),
        "executor": Word(_EXECUTOR, "What starts a job."),
        "on_disconnect": Word(
            OneOf(("continue",), values_of("on_disconnect")),
            "What a job does while its agent cannot reach the coordinator.",
            default="continue",
            kept=False,  # nothing to choose yet
        ),
    },
    build=StudySpec,
    later=words_of(""),
    example="{name: ..., task: ..., objectives: ..., space: ..., budget: ...}",
)


# --- reading and writing --------------------------------------------------------------------


def parse(data: object, source: str | None = None) -> StudySpec:
    """Return the study that *data* (values as JSON or YAML has them) describes.

    Pure. Raises SpecError with every problem; *source* names the file in its message.
    """
    try:
        read, problems = _STUDY.read_words(data, "")
    except Wrong as wrong:
        raise SpecError(wrong.problems, source) from None
    problems += _check_study(read, cast("dict[str, object]", data))
    if problems:
        raise SpecError(problems, source)
    return StudySpec(**read)


def _check_study(read: Mapping[str, Any], data: Mapping[str, object]) -> list[str]:
    """Return the problems between sections, of those that are right by themselves."""
    problems: list[str] = []
    task: Task | None = read.get("task")
    objectives: list[Objective] | None = read.get("objectives")
    scheduler: Scheduler | None = read.get("scheduler")
    executor: ExecutorSpec | None = read.get("executor")
    if task is not None and task.kind != "objective" and not data.get("space"):
        problems.append(
            f"space: is missing; only an objective can do without, and this is {task.kind}: "
            "write space: {learning_rate: {type: float, low: 1e-5, high: 1e-2, log: true}}"
        )
    elif task is not None and "space" in read:
        problems += _check_command(task.command or [], list(read["space"]))
    if scheduler is not None and objectives is not None:
        problems += _check_metrics(scheduler, objectives[0].metric, task)
    if task is not None and executor is not None and task.kind == "nemo" and executor.type == "process":
        problems.append("executor.type: is process, which cannot run a nemo recipe; write local")
    return problems


def _check_command(command: list[str], names: list[str]) -> list[str]:
    return [
        f"task.command[{i}]: has {{{name}}}, and the space has no parameter of that name; "
        f"write {listed([f'{{{known}}}' for known in [*names, 'args']])}"
        for i, word in enumerate(command)
        for name in re.findall(rf"\{{({NAME})\}}", word)
        if name not in names and name != "args"
    ]


def _check_metrics(scheduler: Scheduler, metric: str, task: Task | None) -> list[str]:
    problems: list[str] = []
    if scheduler.metric not in (None, metric):
        problems.append(
            f"scheduler.metric: is {scheduler.metric}, which is no objective, so its direction is unknown; "
            f"write {metric} or remove it"
        )
    if scheduler.resource == metric:
        problems.append(f"scheduler.resource: is {metric}, the objective itself; write reports or step")
    elif scheduler.resource not in ("reports", "step") and task is not None and task.kind == "objective":
        problems.append(
            f"scheduler.resource: is {scheduler.resource}, and an Optuna objective reports one metric only; "
            "write reports or step"
        )
    return problems


def to_builtins(spec: StudySpec) -> dict[str, Any]:
    """Return *spec* as JSON values, defaults left out: `parse(to_builtins(spec)) == spec`."""
    return msgspec.to_builtins(spec)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a study file, for editors.

    It says less than `parse`: that low is below high, for example, no schema can say.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sweepd study",
        **_STUDY.schema(),
    }


# --- editing --------------------------------------------------------------------------------

#: What may change in a study that has begun: none of it changes what its trials mean.
EDITABLE = ("budget", "resources", "limits", "retry")


class Difference(msgspec.Struct, frozen=True):
    """What a study that is submitted again says differently.

    `lines`: `place: old -> new`. If the study is not `editable`, only those that cannot change.
    `spec`: what it goes on with, if it is editable: the new one, with the old seed where the new
    one's was drawn.
    """

    editable: bool
    lines: list[str]
    spec: StudySpec


def difference(old: StudySpec, new: StudySpec) -> Difference:
    """Compare the study that exists with one that is submitted under its name."""
    if new.sampler.seed is None or new.sampler.seed_drawn:
        seed, drawn = old.sampler.seed, old.sampler.seed_drawn
        new = msgspec.structs.replace(
            new, sampler=msgspec.structs.replace(new.sampler, seed=seed, seed_drawn=drawn)
        )
    before, after = dict(_leaves(old, "")), dict(_leaves(new, ""))
    changed = [place for place in {**before, **after} if before.get(place) != after.get(place)]
    fixed = [place for place in changed if place.partition(".")[0] not in EDITABLE]
    lines = [f"{at}: {before.get(at, 'absent')} -> {after.get(at, 'absent')}" for at in fixed or changed]
    return Difference(not fixed, lines, new)


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield every place and its value, defaults included, as JSON: for Python 1, 1.0 and true are equal."""
    if isinstance(value, msgspec.Struct):
        if value.__struct_config__.tag is not None:
            yield join(place, "type"), json.dumps(value.__struct_config__.tag)
        for name in value.__struct_fields__:
            item = getattr(value, name)
            if item is not None and name != "seed_drawn":
                yield from _leaves(item, join(place, name))
    elif isinstance(value, dict):
        for name, item in cast("dict[str, Any]", value).items():
            yield from _leaves(item, join(place, name))
    elif isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        for i, item in enumerate(cast("list[Any]", value)):
            yield from _leaves(item, f"{place}[{i}]")
    else:
        yield place, json.dumps(value)
