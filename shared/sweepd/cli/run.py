"""`run`: a study from its file to its result, with everything it needs on this machine."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from typing import Annotated

import typer
from rich.text import Text

from sweepd.cli import options, screen
from sweepd.cli.guard import guarded
from sweepd.cli.interrupts import Interrupts
from sweepd.cli.progress import watching
from sweepd.cli.service import Service
from sweepd.cli.session import Session
from sweepd.cli.summary import exit_code, one_line, print_failure, print_hints, print_result
from sweepd.client import Client
from sweepd.errors import UsageError
from sweepd.follow import Follower
from sweepd.records import StudyRecord
from sweepd.spec import StudySpec
from sweepd.statedir import DEFAULT_STATE, Purpose, StateDirectory
from sweepd.states import STUDY_ENDS, StudyState
from sweepd.study_file import for_objective, load

SUBMIT_TIMEOUT_S = 120.0  #: a coordinator that takes over from a killed one waits for its term to end


@dataclass(frozen=True)
class Plan:
    """What to run, and how."""

    spec: StudySpec
    directory: StateDirectory
    redis: str | None
    namespace: str
    slots: int | None
    new: bool
    quiet: bool
    again: list[str]  #: the command that goes on with it
    where: list[str]  #: the options with which other commands find it


@dataclass(frozen=True)
class Ran:
    """What became of it."""

    follower: Follower
    shown: dict[str, object] = field(default_factory=dict[str, object])

    @property
    def record(self) -> StudyRecord:
        return self.follower.record


def run(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="The study's YAML file.", show_default=False)
    ] = None,
    slots: options.Slots = None,
    redis: options.OwnRedis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    new: options.New = False,
    quiet: options.Quiet = False,
    as_json: options.Json = False,
    objective: Annotated[
        str | None,
        typer.Option(
            "--objective",
            metavar="FILE.py:FN",
            help="Instead of FILE: an Optuna objective that suggests its parameters.",
            show_default=False,
        ),
    ] = None,
    direction: Annotated[
        str | None,
        typer.Option(
            "--direction", metavar="maximize|minimize", help="With --objective.", show_default=False
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", metavar="N", min=1, help="With --objective.", show_default=False),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--name", metavar="NAME", help="With --objective. Default: the file's name.", show_default=False
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            "--executor",
            metavar="local|process",
            help="With --objective: local runs jobs with NeMo Run, process without.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a study on this machine and show its result.

    Starts a store, a coordinator and an agent, and takes them down at the end.

    Ctrl-C once pauses the study, and the same command goes on with it.

    Ctrl-C twice: out at once.
    """
    spec = study_of(file, objective, direction, trials, name, executor)
    plan = Plan(
        spec=spec,
        directory=StateDirectory.at(state or DEFAULT_STATE),
        redis=redis,
        namespace=namespace,
        slots=slots,
        new=new,
        quiet=quiet,
        again=[*screen.program(), *(word for word in sys.argv[1:] if word != "--new")],
        where=where(redis, namespace, state),
    )
    with Interrupts() as interrupts:
        ran = guarded(lambda: carry_out(plan, interrupts))
        _report(plan, ran, as_json)
        raise typer.Exit(interrupts.exit_code if interrupts.first else exit_code(ran.record))


def where(redis: str | None, namespace: str, state: str | None) -> list[str]:
    """Return the options that lead another command to the store of this one."""
    store = ["--redis", redis] if redis else ["--state", state] if state else []
    return [*store, *(["--namespace", namespace] if namespace != "sweepd" else [])]


def study_of(
    file: str | None,
    objective: str | None,
    direction: str | None,
    trials: int | None,
    name: str | None,
    executor: str | None,
) -> StudySpec:
    """Return the study that FILE or --objective and its companions ask for."""
    if objective is None:
        if file is None:
            raise UsageError("name a study file, or an --objective FILE.py:FN with --direction and --trials")
        given = {"--direction": direction, "--trials": trials, "--name": name, "--executor": executor}
        extra = [option for option, value in given.items() if value is not None]
        if extra:
            raise UsageError(f"{extra[0]} goes with --objective: write it into {file}")
        if file.endswith(".py"):
            raise UsageError(
                f"{file} is a program and no study file: name the study's YAML file, "
                f"or give --objective {file}:FUNCTION with --direction and --trials"
            )
        return load(file)
    if file is not None:
        raise UsageError(f"give either the study file {file} or --objective, not both")
    if direction is None or trials is None:
        missing = "--direction maximize (or minimize)" if direction is None else "--trials N"
        raise UsageError(f"--objective also needs {missing}")
    overrides = {"name": name, "executor.type": executor}
    return for_objective(
        objective,
        direction,
        trials,
        overrides={place: value for place, value in overrides.items() if value is not None},
    )


def carry_out(plan: Plan, interrupts: Interrupts) -> Ran:
    """Start everything, run the study until it rests, take everything down."""
    plan.directory.create()
    with plan.directory.lock(Purpose.RUN), watching(screen.stderr(), plan.quiet) as view:
        view.status("starting the store, the coordinator and the agent")
        service = Service(
            plan.directory,
            Purpose.RUN,
            redis=plan.redis,
            namespace=plan.namespace,
            slots=plan.slots,
            notice=view.note,
        )
        with service, Client(service.url, plan.namespace) as client:

            def idle() -> None:
                service.check()
                interrupts.check()

            study = client.submit(plan.spec, new=plan.new, timeout_s=SUBMIT_TIMEOUT_S, idle=idle)
            if study.resumed:
                view.note(f"going on with {study.name} ({study.id})")
            elif not (study.created or plan.quiet) and study.state in STUDY_ENDS:
                view.note(f"{study.name} is {study.state.value} already; --new runs another one")
            session = Session(study, plan.spec, service, view, interrupts, alone=plan.redis is None)
            session.follow()
            ran = Ran(session.follower, study.show())
            view.status("taking everything down")
        return ran


def _report(plan: Plan, ran: Ran, as_json: bool) -> None:
    record = ran.record
    if record.failure and (record.state is StudyState.PAUSED or record.best is None):
        print_failure(record)
    if as_json:
        screen.print_json(ran.shown)
    elif plan.quiet:
        print(one_line(record))
    else:
        print_result(ran.follower)
    if not plan.quiet:
        print_hints(record, plan.directory.logs, plan.where, plan.again)
    elif record.state is StudyState.PAUSED:
        screen.stderr().print(Text(f"go on: {shlex.join(plan.again)}"))
