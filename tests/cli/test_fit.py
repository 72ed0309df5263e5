"""What a study wants, against what an agent has."""

from __future__ import annotations

import pytest

from sweepd.cli.fit import misfit
from sweepd.messages import Device, Offer
from sweepd.records import AgentRecord
from sweepd.spec import ResourceSpec

NODE = AgentRecord(
    "node-a",
    "host-a",
    "session",
    slots=4,
    devices=[Device("GPU-1", "H200", 141_000), Device("GPU-2", "L4", 24_000)],
    labels={"pool": "a100"},
    offer=Offer(1, 4, ["GPU-1", "GPU-2"], cpus=8, memory_mib=64_000),
)

CASES = [
    (ResourceSpec(), ""),
    (ResourceSpec(gpus=2, cpus=8, memory="60GiB", labels={"pool": "a100"}), ""),
    (ResourceSpec(gpus=1, gpu_memory="80GiB"), ""),
    (ResourceSpec(gpus=3), "each wants 3 GPUs and host-a has 2"),
    (ResourceSpec(gpus=2, gpu_memory="80GiB"), "each wants 2 GPUs of 81920 MiB and host-a has 1 so large"),
    (ResourceSpec(labels={"pool": "h200"}), "each wants the label pool=h200, which host-a does not have"),
    (ResourceSpec(cpus=9), "each wants 9 CPUs and host-a offers 8"),
    (ResourceSpec(memory="128GiB"), "each wants 131072 MiB and host-a offers 64000"),
]


@pytest.mark.parametrize(("wanted", "told"), CASES)
def test_what_does_not_fit_is_named(wanted: ResourceSpec, told: str) -> None:
    assert misfit(wanted, NODE) == told


def test_without_an_offer_only_what_cannot_change_is_judged() -> None:
    silent = AgentRecord("node-b", "host-b", "session")
    assert misfit(ResourceSpec(cpus=1000), silent) == ""
    assert misfit(ResourceSpec(gpus=1), silent) == "each wants 1 GPU and host-b has 0"
