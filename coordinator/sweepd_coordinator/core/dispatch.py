"""Which agents and which studies come first when trials are given away."""

from __future__ import annotations

from collections.abc import Iterable

from sweepd_coordinator.core.agents import Agent
from sweepd_coordinator.core.study import Study


def agents_by_room(agents: Iterable[Agent]) -> list[Agent]:
    """Agents that can take work, those with most free slots first: trials spread over nodes."""
    free = [agent for agent in agents if agent.free_slots > 0]
    free.sort(key=lambda agent: (-agent.free_slots, agent.record.id))
    return free


def studies_by_share(studies: Iterable[Study]) -> list[Study]:
    """Studies with waiting trials, the one with the fewest running trials first (fair share)."""
    waiting = [study for study in studies if study.leasable]
    waiting.sort(key=lambda study: (study.count("running"), study.record.ordinal))
    return waiting
