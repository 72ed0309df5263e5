"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperGroup

import sweepd
from sweepd.cli import (
    agents,
    check,
    daemons,
    logs,
    once,
    run,
    screen,
    submit,
    tables,
    up,
    watch,
    why,
)
from sweepd.errors import SweepdError

# The daemons have their options from their own command lines.
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


class Commands(TyperGroup):
    """All commands; an error of ours is a sentence and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except SweepdError as error:
            screen.stderr().print(Text.assemble(("error: ", "bold red"), str(error)))
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    cls=Commands,
    name="sweepd",
    help="Hyperparameter optimization for GPU fleets.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"sweepd {sweepd.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Hyperparameter optimization for GPU fleets."""


_HERE = "On this machine"
_STUDIES = "Studies"
_FLEET = "A fleet"

app.command("run", rich_help_panel=_HERE)(run.run)
app.command("try", rich_help_panel=_HERE)(once.try_)
app.command("up", rich_help_panel=_HERE)(up.up)
app.command("check", rich_help_panel=_HERE)(check.check)
app.command("submit", rich_help_panel=_STUDIES)(submit.submit)
app.command("ls", rich_help_panel=_STUDIES)(tables.ls)
app.command("show", rich_help_panel=_STUDIES)(tables.show)
app.command("trials", rich_help_panel=_STUDIES)(tables.trials)
app.command("best", rich_help_panel=_STUDIES)(tables.best)
app.command("watch", rich_help_panel=_STUDIES)(watch.watch)
app.command("why", rich_help_panel=_STUDIES)(why.why)
app.command("logs", rich_help_panel=_STUDIES)(logs.logs)
app.command("cancel", rich_help_panel=_STUDIES)(submit.cancel)
app.command("agents", rich_help_panel=_FLEET)(agents.agents)
app.command("coordinator", rich_help_panel=_FLEET, context_settings=PASS_ON)(daemons.coordinator)
app.command("agent", rich_help_panel=_FLEET, context_settings=PASS_ON)(daemons.agent)
