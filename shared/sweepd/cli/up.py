"""`up`: a store, a coordinator and an agent on this machine, until Ctrl-C."""

from __future__ import annotations

import time

import typer
from rich.text import Text

from sweepd.cli import options, screen
from sweepd.cli.guard import guarded
from sweepd.cli.interrupts import Interrupts
from sweepd.cli.service import Service
from sweepd.reader import Reader, shown_url
from sweepd.statedir import DEFAULT_STATE, Purpose, StateDirectory

LOOK_S = 0.25


def up(
    slots: options.Slots = None,
    redis: options.OwnRedis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
) -> None:
    """Keep a store, a coordinator and an agent running here, for `sweepd submit`."""
    directory = StateDirectory.at(state or DEFAULT_STATE)
    with Interrupts() as interrupts:
        guarded(lambda: _keep(directory, redis, namespace, slots, interrupts))
        raise typer.Exit(0)


def _keep(
    directory: StateDirectory, redis: str | None, namespace: str, slots: int | None, interrupts: Interrupts
) -> None:
    console = screen.stderr()

    def say(text: str) -> None:
        console.print(Text(text))

    directory.create()
    began = time.time()
    with directory.lock(Purpose.UP):
        service = Service(directory, Purpose.UP, redis=redis, namespace=namespace, slots=slots, notice=say)
        with service, Reader(service.url, namespace) as reader:
            while not (interrupts.first or any(agent.last_seen_at >= began for agent in reader.agents())):
                service.check()
                time.sleep(LOOK_S)
            if not interrupts.first:
                say(f"sweepd is up: store {shown_url(service.url)}, logs in {directory.logs}")
                say("submit a study from this directory with `sweepd submit FILE`; Ctrl-C ends everything")
            while not interrupts.first:
                service.check()
                time.sleep(LOOK_S)
            say("taking everything down (Ctrl-C again: at once)")
