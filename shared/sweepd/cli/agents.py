"""`agents`: the machines that run trials, and what they hold."""

from __future__ import annotations

import time
from typing import Any

from sweepd import explain, results
from sweepd.cli import options, screen
from sweepd.cli.connect import Where, reading


def agents(
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """List the agents: their slots, their GPUs, what runs on them."""
    with reading(Where(redis, namespace, state)) as client:
        held = client.holdings()
        listed = [results.agent(record, time.time(), held) for record in client.agents()]
    if screen.object_or(listed, as_json):
        return
    if not listed:
        screen.stderr().print("no agents yet: `sweepd agent` starts one on a machine")
        return
    made = screen.table("agent", "host", "state", "seen", "slots", "GPUs", "running", right=("slots", "GPUs"))
    for agent in listed:
        made.add_row(
            agent["id"],
            agent["host"],
            agent["state"],
            f"{explain.duration(agent['last_seen_s'])} ago",
            f"{len(agent['running'])}/{agent['slots']}",
            _gpus(agent["gpus"]),
            ", ".join(f"{study} #{trial}" for study, trial, _ in agent["running"]) or "-",
        )
    screen.stdout().print(made)


def _gpus(gpus: list[dict[str, Any]]) -> str:
    leased = sum(gpu["leased_by"] is not None for gpu in gpus)
    return f"{leased}/{len(gpus)}" if gpus else "-"
