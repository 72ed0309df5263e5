"""`check`: what is wrong with a study file, or what it says."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.text import Text

from sweepd import explain, space
from sweepd import spec as specs
from sweepd.cli import options, screen
from sweepd.errors import SpecError, UsageError
from sweepd.study_file import load


def check(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The study's YAML file.", show_default=False)
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema, for editors.")] = False,
    as_json: options.Json = False,
) -> None:
    """Check a study file: print all its errors, or what it says."""
    if schema:
        screen.print_json(specs.json_schema())
        return
    if file is None:
        raise UsageError("name a study file, or ask for the --schema")
    try:
        spec = load(file)
    except SpecError as error:
        if as_json:
            screen.print_json({"valid": False, "problems": error.problems})
            raise typer.Exit(error.exit_code) from error
        raise
    if as_json:
        screen.print_json({"valid": True, "spec": specs.to_builtins(spec)})
        return
    print(f"{file} is fine")
    made = screen.facts()
    for label, text in summary(spec):
        made.add_row(label, Text(text))
    screen.stdout().print(made)


def summary(spec: specs.StudySpec) -> list[tuple[str, str]]:
    """Return what a study says, as lines of a label and a text."""
    target = spec.task.target
    lines = [
        ("study", spec.name),
        (spec.kind, target if isinstance(target, str) else " ".join(target)),
        ("goal", ", ".join(f"{o.direction} {o.metric} ({o.at} report)" for o in spec.objectives)),
    ]
    if spec.space:
        lines.append(("space", combinations(spec)))
        lines += [("", f"{name}: {domain(parameter)}") for name, parameter in spec.space.items()]
    else:
        lines.append(("space", "the objective suggests its parameters as it goes"))
    seed = f", seed {spec.sampler.seed}" if not spec.sampler.seed_drawn else ""
    lines.append(("sampler", f"{spec.sampler.type}{seed}"))
    lines.append(("scheduler", _scheduler(spec)))
    lines.append(("budget", explain.count(spec.budget.trials, "trial")))
    lines.append(("each trial", ", ".join(["one slot", *_resources(spec.resources)])))
    if spec.limits.time_s is not None:
        lines.append(("time limit", f"{explain.duration(spec.limits.time_s)} an attempt"))
    lines.append(("attempts", f"at most {spec.retry.max_attempts} a trial"))
    lines.append(("executor", spec.executor.type))
    return lines


def _resources(wanted: specs.ResourceSpec) -> list[str]:
    found = {
        explain.count(wanted.gpus, "GPU"): wanted.gpus,
        f"{wanted.cpus:g} CPUs": wanted.cpus,
        f"{wanted.memory_mib} MiB of memory": wanted.memory_mib,
        f"{wanted.gpu_memory_mib} MiB on each GPU": wanted.gpu_memory_mib,
        "labels " + explain.parameters(wanted.labels): len(wanted.labels),
    }
    return [text for text, amount in found.items() if amount]


def domain(parameter: space.Parameter) -> str:
    """Return what values a parameter takes."""
    if isinstance(parameter, space.Categorical):
        return "one of " + ", ".join(explain.parameter(choice) for choice in parameter.choices)
    kind = "int" if isinstance(parameter, space.Int) else "float"
    scale = ", on a log scale" if parameter.log else ""
    step = f", in steps of {parameter.step:g}" if parameter.step not in (None, 1) else ""
    return f"{kind} from {parameter.low:g} to {parameter.high:g}{step}{scale}"


def combinations(spec: specs.StudySpec) -> str:
    """Return how many points the space has."""
    count = explain.count(len(spec.space), "parameter")
    sizes: list[int] = []
    for parameter in spec.space.values():
        if isinstance(parameter, space.Categorical):
            sizes.append(len(parameter.choices))
        elif isinstance(parameter, space.Int):
            sizes.append((parameter.high - parameter.low) // parameter.step + 1)
        elif parameter.step is not None:
            sizes.append(math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1)
        else:
            return count
    return f"{count}, {math.prod(sizes):,} combinations"


def _scheduler(spec: specs.StudySpec) -> str:
    scheduler = spec.scheduler
    if scheduler.type == "none":
        return "none: every trial runs to its own end"
    rungs = ", ".join(map(str, scheduler.rungs))
    unit = "reports" if scheduler.resource == "reports" else scheduler.resource
    best = f"the best 1/{scheduler.eta} go on"
    return f"{scheduler.type}: compared after {rungs} {unit}, {best}; complete at {scheduler.max}"
