"""The alerts of deploy/prometheus: each fires when it should, and not before (cases in alerts.yml)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[2] / "deploy/prometheus/alerts.yml"
CASES = Path(__file__).with_name("alerts.yml")


def test_the_alerts_fire_as_the_cases_say(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not on PATH; on Debian: apt-get install prometheus")
    shutil.copy(RULES, tmp_path / "alerts_under_test.yml")
    cases = shutil.copy(CASES, tmp_path)
    done = subprocess.run([promtool, "test", "rules", cases], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    rules: Any = yaml.safe_load(RULES.read_text())
    cases: Any = yaml.safe_load(CASES.read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    fired = {
        case["alertname"]
        for test in cases["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }

    assert fired == alerts
