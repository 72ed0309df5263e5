"""What a coordinator is told, and what it says to nonsense."""

from __future__ import annotations

import re

import pytest

from sweepd.errors import UsageError
from sweepd_coordinator.settings import Settings, load


def test_the_defaults() -> None:
    assert load([], {}) == Settings()
    assert load([], {}).metrics_host == "127.0.0.1"


def test_options_and_variables_mean_the_same() -> None:
    options = {
        "redis": "unix:///tmp/x.sock?db=0",
        "namespace": "lab-1",
        "lease-ttl": "12.5",
        "leader-ttl": "3",
        "store-timeout": "2",
        "connect-timeout": "0",
        "metrics-host": "0.0.0.0",
        "metrics-port": "9464",
        "log-level": "DEBUG",
    }
    wanted = Settings(
        redis="unix:///tmp/x.sock?db=0",
        namespace="lab-1",
        lease_ttl_s=12.5,
        leader_ttl_s=3,
        store_timeout_s=2,
        connect_timeout_s=0,
        metrics_host="0.0.0.0",
        metrics_port=9464,
        log_level="debug",
    )
    assert load([f"--{name}={value}" for name, value in options.items()], {}) == wanted
    variables = {"SWEEPD_" + name.upper().replace("-", "_"): value for name, value in options.items()}
    assert load([], variables) == wanted


def test_an_option_wins_over_its_variable() -> None:
    assert load(["--lease-ttl", "5"], {"SWEEPD_LEASE_TTL": "7"}).lease_ttl_s == 5
    assert load([], {"SWEEPD_LEASE_TTL": ""}).lease_ttl_s == 30


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("lease-ttl", "soon", "seconds from 1 to 86400"),
        ("lease-ttl", "0.5", "seconds from 1 to 86400"),
        ("lease-ttl", "nan", "seconds from 1 to 86400"),
        ("leader-ttl", "0.1", "seconds from 0.5 to 3600"),
        ("store-timeout", "-1", "seconds from 0.1 to 3600"),
        ("connect-timeout", "inf", "seconds from 0 to"),
        ("metrics-port", "65536", "a whole number from 0 (any free one) to 65535"),
        ("metrics-port", "-1", "a whole number"),
        ("metrics-port", "http", "a whole number"),
        ("namespace", "a:b", "letters, digits"),
        ("namespace", "{x}", "letters, digits"),
        ("log-level", "loud", "debug, info, warning, error"),
    ],
)
def test_a_complaint_names_the_option_or_the_variable_and_the_remedy(
    name: str, value: str, remedy: str
) -> None:
    with pytest.raises(UsageError, match=rf"^--{name}: '{re.escape(value)}' .*{re.escape(remedy)}"):
        load([f"--{name}={value}"], {})
    variable = "SWEEPD_" + name.upper().replace("-", "_")
    with pytest.raises(UsageError, match=rf"^{variable}: '{re.escape(value)}' .*{re.escape(remedy)}"):
        load([], {variable: value})


def test_help_names_every_option_and_version_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(["--help"], {})
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name in ("redis", "namespace", "lease-ttl", "metrics-port", "SWEEPD_LEASE_TTL"):
        assert name in shown
    with pytest.raises(SystemExit):
        load(["--version"], {})
    assert capsys.readouterr().out.startswith("sweepd-coordinator ")
