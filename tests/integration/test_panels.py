"""The dashboard and the alerts, on a real Prometheus that scrapes a real run: no panel is empty."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from nvml import NvmlStub
from servers import free_port, valkey_binary
from waiting import wait_until

from integration.deployed import DEPLOY, deployed
from sweepd.client import Client

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="prometheus and promtool are not on PATH; on Debian: apt-get install prometheus",
)

#: Slow enough to be seen running, with a metric by which some are stopped early.
TRAIN = """
import time, sweepd
quality = sweepd.params()["x"]
for step in range(1, 10):
    if sweepd.report({"score": quality * step}, step=step) == "stop":
        break
    time.sleep(0.05)
"""


@dataclass(frozen=True)
class Scraped:
    """A Prometheus and what it scrapes: `/metrics` by job."""

    url: str
    metrics: dict[str, str]

    def ask(self, path: str, **arguments: str) -> Any:
        """Return `data` of an answer of Prometheus's HTTP API."""
        query = urllib.parse.urlencode(arguments)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[float]:
        """Return the finite values of an instant query."""
        result = self.ask("query", query=expression)["result"]
        return [value for series in result if math.isfinite(value := float(series["value"][1]))]


@contextmanager
def _process(command: list[str], log: Path, **environment: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a daemon; SIGTERM at the end, and its exit code must be 0."""
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
    assert code == 0, log.read_text(errors="replace")[-4000:]


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _prometheus_config(ports: dict[str, int]) -> str:
    """Return deploy/prometheus/prometheus.yml, for targets on this machine and an impatient reader."""
    config = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in config["rule_files"]]
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    return yaml.safe_dump(config)


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory, two_gpus: NvmlStub) -> Generator[Scraped]:
    """A store, a coordinator and an agent with GPUs, a study that runs, and Prometheus over them."""
    directory = tmp_path_factory.mktemp("panels")
    (directory / "train.py").write_text(TRAIN)
    ports = {"sweepd-coordinator": free_port(), "sweepd-agent": free_port()}
    targets = {job: f"http://127.0.0.1:{port}/metrics" for job, port in ports.items()}
    config = directory / "prometheus.yml"
    config.write_text(_prometheus_config(ports))
    web = free_port()

    with ExitStack() as stack:
        store = stack.enter_context(deployed(valkey_binary()))
        for name, job, more in [
            ("coordinator", "sweepd-coordinator", []),
            ("agent", "sweepd-agent", ["--state", str(directory / "agent"), "--slots", "2"]),
        ]:
            command = [sys.executable, "-m", f"sweepd_{name}", "--redis", store.url_of(name)]
            command += ["--metrics-port", str(ports[job]), *more]
            stack.enter_context(_process(command, directory / f"{name}.log", **two_gpus.environment))
        client = stack.enter_context(Client(store.url_of("client")))
        study = client.submit(
            {
                "name": "panels",
                "task": {"command": [sys.executable, "train.py"], "workdir": str(directory)},
                "objectives": [{"metric": "score", "direction": "maximize"}],
                "space": {"x": {"type": "float", "low": 0, "high": 1}},
                "sampler": {"type": "tpe", "seed": 1},
                "scheduler": {"type": "asha", "min": 1, "max": 9, "eta": 3},
                "budget": {"trials": 100_000},
                "resources": {"gpus": 1},
                "executor": {"type": "process"},
            }
        )
        stack.callback(client.cancel, study.id, "the test ends")
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}"]
        command += [f"--web.listen-address=127.0.0.1:{web}", "--log.level=warn"]
        stack.enter_context(_process(command, directory / "prometheus.log"))
        here = Scraped(f"http://127.0.0.1:{web}", targets)
        wait_until(lambda: _answers(f"{here.url}/-/ready"), 30, (directory / "prometheus.log").read_text)
        # One trial of each kind of end, so that every label has been there.
        wait_until(
            lambda: all(study.show()["counts"][state] for state in ("complete", "pruned", "running")),
            60,
            lambda: (study.show(), (directory / "agent.log").read_text()[-4000:]),
        )
        yield here


def _queries() -> list[Any]:
    dashboard = json.loads((DEPLOY / "grafana/dashboards/sweepd.json").read_text())
    return [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.mark.parametrize("expression", _queries())
def test_a_panel_is_not_empty(scraped: Scraped, expression: str) -> None:
    # Grafana puts four scrape intervals here; ten seconds of this run say as much.
    query = expression.replace("$__rate_interval", "10s")
    wait_until(
        lambda: scraped.values(query), 30, lambda: (query, scraped.ask("query", query=query)["result"])
    )


def test_prometheus_evaluates_every_alert(scraped: Scraped) -> None:
    def evaluated() -> bool:
        rules = [rule for group in scraped.ask("rules")["groups"] for rule in group["rules"]]
        return bool(rules) and all(rule["health"] == "ok" for rule in rules)

    wait_until(evaluated, 30, lambda: scraped.ask("rules"))


@pytest.mark.parametrize("job", ["sweepd-coordinator", "sweepd-agent"])
def test_promtool_likes_the_metrics(scraped: Scraped, job: str) -> None:
    with urllib.request.urlopen(scraped.metrics[job], timeout=10) as answer:
        text = answer.read()
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)

    assert b"sweepd_" in text
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_promtool_likes_the_files() -> None:
    for what, name in [("config", "prometheus.yml"), ("rules", "alerts.yml")]:
        done = subprocess.run(
            ["promtool", "check", what, DEPLOY / "prometheus" / name], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
