"""Whether an agent could ever run a trial of a study."""

from __future__ import annotations

from sweepd.explain import count
from sweepd.records import AgentRecord
from sweepd.spec import ResourceSpec


def misfit(wanted: ResourceSpec, agent: AgentRecord) -> str:
    """Return why *agent* can take no trial that wants these resources; empty if it can.

    To be asked while the agent is idle: processors and memory are judged by what it offers.
    """
    large = [device for device in agent.devices if device.memory_mib >= wanted.gpu_memory_mib]
    if len(agent.devices) < wanted.gpus:
        return f"each wants {count(wanted.gpus, 'GPU')} and {agent.host} has {len(agent.devices)}"
    if len(large) < wanted.gpus:
        return (
            f"each wants {count(wanted.gpus, 'GPU')} of {wanted.gpu_memory_mib} MiB "
            f"and {agent.host} has {len(large)} so large"
        )
    for name, value in wanted.labels.items():
        if agent.labels.get(name) != value:
            return f"each wants the label {name}={value}, which {agent.host} does not have"
    if agent.offer is not None and wanted.cpus > agent.offer.cpus:
        return f"each wants {wanted.cpus:g} CPUs and {agent.host} offers {agent.offer.cpus:g}"
    if agent.offer is not None and wanted.memory_mib > agent.offer.memory_mib:
        return f"each wants {wanted.memory_mib} MiB and {agent.host} offers {agent.offer.memory_mib}"
    return ""
