"""`coordinator` and `agent`: the daemons, under the command that people know."""

from __future__ import annotations

import os
import sys

import typer

from sweepd.cli.service import AGENT, COORDINATOR, module_command


def coordinator(context: typer.Context) -> None:
    """Run a coordinator: the daemon that holds every study and decides."""
    _become(COORDINATOR, context.args)


def agent(context: typer.Context) -> None:
    """Run an agent: the daemon that runs trials on this machine."""
    _become(AGENT, context.args)


def _become(module: str, arguments: list[str]) -> None:
    command = module_command(module, arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)
