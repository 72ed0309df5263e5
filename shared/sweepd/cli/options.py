"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

File = Annotated[str, typer.Argument(metavar="FILE", help="The study's YAML file.", show_default=False)]
StudyName = Annotated[
    str,
    typer.Argument(metavar="STUDY", help="Name of a study (its newest) or id.", show_default=False),
]
TrialNumber = Annotated[
    int, typer.Argument(metavar="TRIAL", help="Number of a trial.", min=0, show_default=False)
]

Redis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        envvar="SWEEPD_REDIS",
        help="The store: redis://, rediss:// or unix://. Default: the one in the state directory, "
        "else Redis on this machine.",
        show_default=False,
    ),
]
# Not from the environment: a coordinator and an agent of one's own on the store that everybody
# uses are a decision.
OwnRedis = Annotated[
    str | None,
    typer.Option(
        "--redis",
        metavar="URL",
        help="Use this Redis or Valkey instead of the embedded store.",
        show_default=False,
    ),
]
Namespace = Annotated[
    str,
    typer.Option(
        "--namespace", metavar="NAME", envvar="SWEEPD_NAMESPACE", help="The installation within the store."
    ),
]
State = Annotated[
    str | None,
    typer.Option(
        "--state",
        metavar="DIR",
        envvar="SWEEPD_STATE",
        help="The state directory. Default: .sweepd",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON (a stable contract).")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the result only.")]
Slots = Annotated[
    int | None,
    typer.Option(
        "--slots",
        metavar="N",
        min=1,
        help="Trials that run at a time. Default: one per GPU, without GPUs one per CPU.",
        show_default=False,
    ),
]
New = Annotated[bool, typer.Option("--new", help="Create another study although the name is taken.")]
