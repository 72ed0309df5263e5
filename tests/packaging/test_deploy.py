"""The files under deploy/: each reads as what it is, and they agree with each other.

That Prometheus and Redis accept theirs is shown in tests/integration/test_panels.py.
"""

from __future__ import annotations

import configparser
import json
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweepd_agent import settings as agent_settings
from sweepd_coordinator import settings as coordinator_settings

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def _load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text())


def _panels() -> list[dict[str, Any]]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/sweepd.json").read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_compose_file_names_only_what_exists() -> None:
    compose = _load("compose.yaml")
    for name, service in compose["services"].items():
        assert "image" in service or "build" in service, name
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file(), name
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (DEPLOY / source).exists(), f"{name}: {source}"
            else:
                assert source in compose["volumes"], f"{name}: {source}"
        for needed in service.get("depends_on", []):
            assert needed in compose["services"], f"{name}: {needed}"


def test_a_dockerfile_copies_only_what_exists() -> None:
    for file in (DEPLOY / "docker").glob("*.Dockerfile"):
        for line in file.read_text().splitlines():
            if line.startswith("COPY "):
                *sources, _ = line.split()[1:]
                assert all((ROOT / source).exists() for source in sources), f"{file.name}: {line}"


def test_the_daemons_accept_what_the_files_tell_them() -> None:
    services = _load("compose.yaml")["services"]
    for name, load in (("coordinator", coordinator_settings.load), ("agent", agent_settings.load)):
        assert load(services[name]["command"], {}).metrics_host == "0.0.0.0"
        lines = (DEPLOY / f"systemd/{name}.env").read_text().splitlines()
        variables = dict(line.split("=", maxsplit=1) for line in lines if not line.startswith("#"))
        settings = load([], variables)
        assert settings.redis == variables["SWEEPD_REDIS"]
        told = {f"SWEEPD_{field.upper()}" for field in type(settings).__struct_fields__}
        assert set(variables) <= told, "a variable that nobody reads"


def test_prometheus_scrapes_the_ports_that_compose_opens() -> None:
    services = _load("compose.yaml")["services"]
    for job in _load("prometheus/prometheus.yml")["scrape_configs"]:
        for group in job["static_configs"]:
            for target in group["targets"]:
                host, _, port = target.partition(":")
                command = services[host]["command"]
                assert {f"--metrics-port={port}", "--metrics-host=0.0.0.0"} <= set(command), target


def test_grafana_finds_the_dashboard_and_its_data_source() -> None:
    [source] = _load("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    [provider] = _load("grafana/provisioning/dashboards/sweepd.yaml")["providers"]
    mounts = dict(volume.split(":")[:2] for volume in _load("compose.yaml")["services"]["grafana"]["volumes"])

    assert source["url"] == "http://prometheus:9090"
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    for panel in _panels():
        assert panel["datasource"]["uid"] == source["uid"], panel["title"]
        assert all(target["datasource"]["uid"] == source["uid"] for target in panel["targets"]), panel[
            "title"
        ]


def test_the_panels_of_the_dashboard_have_a_place_each() -> None:
    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return (
            one["x"] < other["x"] + other["w"]
            and other["x"] < one["x"] + one["w"]
            and one["y"] < other["y"] + other["h"]
            and other["y"] < one["y"] + one["h"]
        )

    panels = json.loads((DEPLOY / "grafana/dashboards/sweepd.json").read_text())["panels"]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in panels)
    assert [
        (one["title"], other["title"])
        for one, other in combinations(panels, 2)
        if overlap(one["gridPos"], other["gridPos"])
    ] == []


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_accepts_the_units(unit: Path, tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on PATH; on Debian: apt-get install systemd")
    # The program of the unit is installed on the machine it is for, not on this one.
    lines = unit.read_text().splitlines()
    copied = tmp_path / unit.name
    copied.write_text(
        "\n".join("ExecStart=/bin/true" if line.startswith("ExecStart=") else line for line in lines)
    )
    done = subprocess.run([analyze, "verify", "--man=no", copied], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_a_killed_agent_leaves_its_supervisors_alone() -> None:
    """By default systemd kills all processes of a unit: no attempt would outlive its agent."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "systemd/sweepd-agent.service")

    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["OOMPolicy"] == "continue"
