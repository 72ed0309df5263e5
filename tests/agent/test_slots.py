"""What an agent offers, takes and gives back."""

from __future__ import annotations

import pytest

from sweepd.messages import Device, Offer, Resources
from sweepd_agent.core.slots import Slots

GPUS = [Device("GPU-a", "Big", 80_000), Device("GPU-b", "Small", 24_000)]


def slots(count: int = 3) -> Slots:
    return Slots(count, GPUS, cpus=4, memory_mib=8_000)


def test_an_offer_is_all_that_is_free_and_offers_are_numbered() -> None:
    node = slots()
    assert node.offer() == Offer(1, slots=3, devices=["GPU-a", "GPU-b"], cpus=4, memory_mib=8_000)
    assert node.hold("t", Resources(gpus=1, cpus=1.5, memory_mib=3_000), ["GPU-b"]) is None
    assert node.offer() == Offer(2, slots=2, devices=["GPU-a"], cpus=2.5, memory_mib=5_000)
    assert (node.used, node.leased) == (1, frozenset({"GPU-b"}))
    node.begin_session()
    assert node.offer().number == 1


def test_a_device_returns_to_the_offer_only_when_it_is_given_back() -> None:
    node = slots()
    node.hold("t", Resources(gpus=2), ["GPU-b", "GPU-a"])
    assert node.release("t") == ("GPU-b", "GPU-a")
    assert node.offer() == Offer(1, slots=3, devices=[], cpus=4, memory_mib=8_000)
    assert node.withheld == {"GPU-a", "GPU-b"}
    node.give_back("GPU-a")
    assert node.offer().devices == ["GPU-a"]
    node.give_back("GPU-b")
    assert node.offer().devices == ["GPU-a", "GPU-b"]


def test_what_an_earlier_agent_started_counts_whatever_this_one_allows() -> None:
    node = slots(1)
    node.hold("t", Resources(), [])
    node.adopt("old", Resources(gpus=2, cpus=99), ["GPU-a", "GPU-elsewhere"])
    assert node.offer() == Offer(1, slots=0, devices=["GPU-b"], cpus=0, memory_mib=8_000)
    assert node.release("old") == ("GPU-a", "GPU-elsewhere")
    for uuid in ("GPU-a", "GPU-elsewhere"):
        node.give_back(uuid)
    node.release("t")
    assert node.offer() == Offer(2, slots=1, devices=["GPU-a", "GPU-b"], cpus=4, memory_mib=8_000)


def test_a_trial_without_gpus_takes_a_slot_and_no_device() -> None:
    node = slots(1)
    assert node.hold("t", Resources(), []) is None
    assert node.offer() == Offer(1, slots=0, devices=["GPU-a", "GPU-b"], cpus=4, memory_mib=8_000)


@pytest.mark.parametrize(
    ("resources", "devices", "reason"),
    [
        (Resources(gpus=1), [], "1 devices are wanted and 0 were assigned"),
        (Resources(), ["GPU-a"], "0 devices are wanted and 1 were assigned"),
        (Resources(gpus=2), ["GPU-a", "GPU-a"], "2 devices are wanted and 1 were assigned"),
        (Resources(gpus=1), ["GPU-z"], "there is no device GPU-z here"),
        (Resources(gpus=1), ["GPU-b"], "device GPU-b is held by another attempt"),
        (
            Resources(gpus=1, gpu_memory_mib=81_000),
            ["GPU-a"],
            "device GPU-a has 80000 MiB, 81000 MiB are wanted",
        ),
        (Resources(cpus=4), [], "4 cpus are wanted and 3 are free"),
        (Resources(memory_mib=7_001), [], "7001 MiB of memory are wanted and 7000 are free"),
    ],
)
def test_what_cannot_be_held_is_refused_with_the_reason(
    resources: Resources, devices: list[str], reason: str
) -> None:
    node = slots()
    assert node.hold("first", Resources(gpus=1, cpus=1, memory_mib=1_000), ["GPU-b"]) is None
    assert node.hold("t", resources, devices) == reason
    assert node.used == 1, "a refusal changes nothing"


def test_withheld_devices_full_slots_and_known_tokens_are_refused() -> None:
    node = slots(2)
    node.hold("first", Resources(gpus=1), ["GPU-a"])
    assert node.hold("first", Resources(), []) == "this attempt already runs here"
    node.release("first")
    assert node.hold("t", Resources(gpus=1), ["GPU-a"]) == (
        "the memory of device GPU-a is not back from its last attempt"
    )
    assert node.hold("one", Resources(), []) is None
    assert node.hold("two", Resources(), []) is None
    assert node.hold("three", Resources(), []) == "all 2 slots are taken"


def test_an_agent_that_leaves_offers_nothing_and_takes_nothing() -> None:
    node = slots()
    node.close()
    assert node.offer() == Offer(1, slots=0)
    assert node.hold("t", Resources(), []) == "the agent is leaving"


def test_more_than_the_machine_has_leaves_an_offer_of_nothing_not_of_less() -> None:
    node = Slots(2, [], cpus=0, memory_mib=0)
    assert node.offer() == Offer(1, slots=2)
