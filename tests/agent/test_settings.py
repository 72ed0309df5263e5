"""What an agent is told: options, variables, defaults; and what it says when they make no sense."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sweepd.errors import UsageError
from sweepd_agent.settings import load


def test_without_anything_the_defaults_hold() -> None:
    told = load([], {"XDG_STATE_HOME": "/var/state"})
    assert told.redis == "redis://127.0.0.1:6379/0"
    assert told.state == Path("/var/state/sweepd/agent")
    assert (told.id, told.slots, told.devices, told.metrics_port) == (None, None, "auto", None)
    assert told.nemo_python == sys.executable
    assert (told.patience.stop_s, told.patience.kill_s) == (30, 10)


def test_an_option_wins_over_its_variable_and_a_variable_over_the_default() -> None:
    environment = {
        "SWEEPD_REDIS": "unix:///run/redis.sock?db=0",
        "SWEEPD_SLOTS": "3",
        "SWEEPD_STOP_GRACE": "1.5",
        "SWEEPD_LABEL": "pool=a100,site=x",
        "SWEEPD_DEVICES": "GPU-b, GPU-a,GPU-b",
        "SWEEPD_NAMESPACE": "",
    }
    told = load(["--slots", "5", "--state", "relative"], environment)
    assert (told.redis, told.slots, told.stop_grace_s) == ("unix:///run/redis.sock?db=0", 5, 1.5)
    assert told.labels == {"pool": "a100", "site": "x"}
    assert told.devices == ["GPU-b", "GPU-a"]
    assert told.namespace == "sweepd", "an empty variable says nothing"
    assert told.state == Path.cwd() / "relative"


def test_labels_on_the_command_line_may_be_repeated() -> None:
    assert load(["--label", "a=1", "--label", "b=x=y"], {}).labels == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        (["--slots", "0"], {}, "--slots: '0' is not a whole number from 1 to 1000"),
        ([], {"SWEEPD_SLOTS": "many"}, "SWEEPD_SLOTS: 'many' is not a whole number from 1 to 1000"),
        (["--kill-grace", "-1"], {}, "--kill-grace: '-1' is not a number of seconds from 0 to a week"),
        (["--stop-grace", "nan"], {}, "--stop-grace: 'nan' is not a number of seconds"),
        (["--stop-grace", "soon"], {}, "--stop-grace: 'soon' is not a number of seconds"),
        (["--metrics-port", "70000"], {}, "--metrics-port: '70000' is not a whole number from 0 to 65535"),
        (["--label", "pool"], {}, "--label: 'pool' is not of the form name=value"),
        ([], {"SWEEPD_LABEL": "a=1,=2"}, "SWEEPD_LABEL: '=2' is not of the form name=value"),
        (["--id", "a b"], {}, "--id: 'a b' cannot be an agent's id"),
        (["--namespace", "{x}"], {}, "--namespace: '{x}' cannot be a namespace"),
        (["--devices", "0,1"], {}, "--devices: '0' is not auto, none or UUIDs such as GPU-"),
        (["--devices", ","], {}, "--devices: an empty list is not auto, none or UUIDs"),
    ],
)
def test_what_makes_no_sense_is_said_by_name(
    arguments: list[str], environment: dict[str, str], complaint: str
) -> None:
    with pytest.raises(UsageError) as raised:
        load(arguments, environment)
    assert str(raised.value).startswith(complaint)


@pytest.mark.parametrize("arguments", [["--slot", "3"], ["--slots"], ["extra"]])
def test_an_unknown_option_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        load(arguments, {})
    assert raised.value.code == 2
    assert "usage: sweepd agent" in capsys.readouterr().err


def test_help_names_every_option_and_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--version"]):
        with pytest.raises(SystemExit) as raised:
            load(arguments, {})
        assert raised.value.code == 0
    said = capsys.readouterr().out
    for option in ("redis", "slots", "state", "id", "label", "devices", "nemo-python", "connect-timeout"):
        assert f"--{option}" in said
    assert "sweepd-agent 0.1.0" in said
