"""The devices, through the real bindings over a stand-in for the driver's library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from nvml import NvmlStub, build_stub
from prometheus_client.parser import text_string_to_metric_families
from scripted import ScriptedCoordinator, agent_process, assign, script
from servers import RedisServer
from waiting import wait_until

from sweepd.messages import Device, Finished, Offer, Resources, Revoke
from sweepd.states import AttemptOutcome

A = "GPU-a NVIDIA-H100 81559 512 37 350500 45 ok"
B = "GPU-b NVIDIA-A10 22731 0 0 15000 30 ok"

PROBE = """
import json, logging, sys
logging.basicConfig(level=logging.INFO, format="%(message)s")
import msgspec
from sweepd.errors import UsageError
from sweepd_agent.gpus import Gpus
try:
    gpus = Gpus.open(json.loads(sys.argv[1]))
except UsageError as error:
    print(json.dumps({"error": str(error)}))
    sys.exit()
said = {"devices": gpus.devices, "readings": gpus.readings()}
said["used"] = {device.uuid: gpus.memory_used_mib(device.uuid) for device in gpus.devices}
said["back"] = [gpus.memory_is_back(uuid, baseline) for uuid, baseline in json.loads(sys.argv[2])]
gpus.close()
print(msgspec.json.encode(said).decode())
"""


@pytest.fixture(scope="module")
def stub(tmp_path_factory: pytest.TempPathFactory) -> NvmlStub:
    return build_stub(tmp_path_factory.mktemp("nvml"))


def ask(
    stub: NvmlStub, choice: str | list[str] = "auto", back: list[list[Any]] | None = None
) -> dict[str, Any]:
    """Open the devices in a process of their own and return what they say, and the log."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(choice), json.dumps(back or [])],
        env={**os.environ, **stub.environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return {**json.loads(done.stdout), "log": done.stderr}


def test_devices_are_listed_by_uuid_with_what_they_say(stub: NvmlStub) -> None:
    stub.devices(A, B)
    said = ask(stub)
    assert said["devices"] == [
        {"uuid": "GPU-a", "name": "NVIDIA-H100", "memory_mib": 81559},
        {"uuid": "GPU-b", "name": "NVIDIA-A10", "memory_mib": 22731},
    ]
    assert said["readings"]["GPU-a"] == {
        "memory_used_mib": 512,
        "memory_total_mib": 81559,
        "utilisation": 0.37,
        "power_w": 350.5,
        "temperature_c": 45,
    }
    assert said["used"] == {"GPU-a": 512, "GPU-b": 0}
    assert said["log"].count("gpus.found") == 2


def test_a_device_may_tell_less_than_all(stub: NvmlStub) -> None:
    stub.devices("GPU-a Old 4096 10 -1 -1 -1 ok", "GPU-b Mute 1 1 1 1 1 mute")
    said = ask(stub)
    assert [device["uuid"] for device in said["devices"]] == ["GPU-a", "GPU-b"]
    assert said["readings"]["GPU-a"]["memory_used_mib"] == 10
    nothing = {"utilisation": None, "power_w": None, "temperature_c": None}
    assert said["readings"]["GPU-a"].items() >= nothing.items()
    assert said["readings"]["GPU-b"] == {**nothing, "memory_used_mib": None, "memory_total_mib": None}


def test_a_device_that_is_lost_is_left_out_and_said(stub: NvmlStub) -> None:
    stub.devices("GPU-a Gone 1 1 1 1 1 lost", B)
    said = ask(stub)
    assert [device["uuid"] for device in said["devices"]] == ["GPU-b"]
    assert "gpus.unusable index=0 error=GPU is lost" in said["log"]


def test_a_device_in_mig_mode_is_replaced_by_its_parts(stub: NvmlStub) -> None:
    stub.devices(
        "GPU-a H100 81559 0 0 350000 45 mig",
        "MIG-1 H100-3g.40gb 40448 5 -1 -1 -1 part",
        "MIG-2 H100-3g.40gb 40448 0 -1 -1 -1 part",
        B,
    )
    said = ask(stub)
    assert [device["uuid"] for device in said["devices"]] == ["MIG-1", "MIG-2", "GPU-b"]
    assert said["readings"]["MIG-1"]["memory_used_mib"] == 5
    assert said["readings"]["MIG-1"]["utilisation"] is None


def test_without_a_driver_there_are_no_devices_and_it_is_said_once(stub: NvmlStub) -> None:
    stub.devices(A, driver="missing")
    said = ask(stub)
    assert said["devices"] == []
    assert said["log"].splitlines() == ["gpus.none reason=Driver Not Loaded"]


def test_a_driver_without_devices_says_so(stub: NvmlStub) -> None:
    stub.devices()
    assert ask(stub)["log"].splitlines() == ["gpus.none reason=the driver knows of no device"]


def test_devices_may_be_chosen_or_left_alone(stub: NvmlStub) -> None:
    stub.devices(A, B)
    assert [device["uuid"] for device in ask(stub, ["GPU-b"])["devices"]] == ["GPU-b"]
    assert ask(stub, "none") == {"devices": [], "readings": {}, "used": {}, "back": [], "log": ""}
    assert ask(stub, ["GPU-b", "GPU-z"])["error"] == (
        "--devices GPU-z: there is no such device here, but: GPU-a, GPU-b"
    )
    stub.devices(driver="missing")
    assert ask(stub, ["GPU-b"])["error"].startswith("--devices GPU-b: the NVIDIA driver does not answer")


@pytest.mark.parametrize(
    ("line", "baseline_mib", "back"),
    [
        ("GPU-a H100 1000 500 0 0 0 ok", 500, True),
        ("GPU-a H100 1000 564 0 0 0 ok", 500, True),
        ("GPU-a H100 1000 565 0 0 0 ok", 500, False),
        ("GPU-a H100 1000 900 0 0 0 ok", None, True),
        ("GPU-a H100 1000 0 0 0 0 mute", 500, False),
        ("GPU-b H100 1000 0 0 0 0 ok", 500, True),
    ],
    ids=["the same", "a little more", "more", "never known", "silent now", "not ours"],
)
def test_memory_is_back_when_no_more_is_used_than_before(
    stub: NvmlStub, line: str, baseline_mib: int | None, back: bool
) -> None:
    stub.devices(line)
    assert ask(stub, back=[["GPU-a", baseline_mib]])["back"] == [back]


def test_a_trial_gets_its_device_and_gives_it_back_when_its_memory_is_back(
    stub: NvmlStub, store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    stub.devices(A, B)
    show = "import os, time; print(repr(os.environ['CUDA_VISIBLE_DEVICES']), flush=True); time.sleep(600)"
    options = ("--metrics-port", "0")
    with agent_process(store, state, *options, devices="auto", environment=stub.environment) as agent:
        hello = coordinator.welcome()
        assert hello.devices == [Device("GPU-a", "NVIDIA-H100", 81559), Device("GPU-b", "NVIDIA-A10", 22731)]
        assert coordinator.hear(Offer).devices == ["GPU-a", "GPU-b"]
        coordinator.say(
            assign("t", script(show), resources=Resources(gpus=1), devices=["GPU-b"]),
            assign("u", script(show), trial=1),
        )
        outputs = [state / "attempts" / "s1" / trial / "1" / "output.log" for trial in "01"]
        wait_until(lambda: all(file.exists() and file.read_text() for file in outputs))
        assert [file.read_text().strip() for file in outputs] == ["'GPU-b'", "''"]

        port = agent.says("metrics.serving").rsplit("port=", 1)[1]
        assert scraped(port, "GPU-a") == {
            "memory_used_bytes": 512 * 2**20,
            "memory_total_bytes": 81559 * 2**20,
            "utilisation_ratio": 0.37,
            "power_watts": 350.5,
            "temperature_celsius": 45,
            "leased": 0,
        }
        assert scraped(port, "GPU-b")["leased"] == 1

        stub.devices(A, B.replace(" 22731 0 ", " 22731 9000 "))  # something of it stays behind
        coordinator.say(Revoke("t", AttemptOutcome.CANCELLED, ""))
        assert coordinator.hear(Finished).token == "t"
        offer = coordinator.hear(Offer)
        assert (offer.slots, offer.devices) == (1, ["GPU-a"])
        stub.devices(A, B)
        assert coordinator.hear(Offer).devices == ["GPU-a", "GPU-b"]


def scraped(port: str, uuid: str) -> dict[str, float]:
    """Return the readings of one device as Prometheus sees them."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        sample.name.removeprefix("sweepd_agent_device_"): sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("uuid") == uuid and sample.labels["name"].startswith("NVIDIA")
    }


def test_with_gpus_there_is_a_slot_for_each_of_them(
    stub: NvmlStub, store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    stub.devices(A, B, B.replace("GPU-b", "GPU-c"))
    environment = {**stub.environment, "SWEEPD_DEVICES": "auto"}
    with agent_process(store, state, slots=None, devices=None, environment=environment):
        assert coordinator.welcome().slots == 3
