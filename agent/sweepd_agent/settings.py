"""What an agent is told when it starts: options, or the environment, or defaults.

Each option has a variable: `--stop-grace` is SWEEPD_STOP_GRACE. An option wins over its variable.
A complaint names the one that was used.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sweepd import __version__
from sweepd.errors import UsageError
from sweepd_agent.core.attempt import Patience

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")  #: an agent's id: it is part of a key and of paths


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once. Times are seconds."""

    redis: str = "redis://127.0.0.1:6379/0"
    namespace: str = "sweepd"  #: hash tag of all keys; two installations may share a server
    state: Path  #: everything this agent keeps; one agent at a time
    id: str | None = None  #: None: the host's name and a suffix that stays in the state directory
    slots: int | None = None  #: None: one per device, or one per processor where there is none
    labels: dict[str, str] = {}
    devices: str | list[str] = "auto"  #: auto, none, or UUIDs
    nemo_python: str = sys.executable  #: the interpreter that has nemo_run
    stop_grace_s: float = 30.0  #: from a stop verdict to SIGTERM: an epoch should fit
    kill_grace_s: float = 10.0  #: from SIGTERM to SIGKILL
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  #: None: no metrics; 0: any free port, which is logged
    connect_timeout_s: float = 30.0  #: how long the store may be away when the agent starts

    @property
    def patience(self) -> Patience:
        return Patience(stop_s=self.stop_grace_s, kill_s=self.kill_grace_s)


def default_state(environment: Mapping[str, str]) -> Path:
    """Return where an agent keeps its state when nobody says so."""
    home = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "sweepd" / "agent"


def load(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises :class:`UsageError`, and SystemExit for --help and --version."""
    options = {
        name: value for name, value in vars(_parser().parse_args(arguments)).items() if value is not None
    }
    found: dict[str, Any] = {"state": default_state(environment)}
    for name, field, parse in _OPTIONS:
        variable = "SWEEPD_" + name.upper().replace("-", "_")
        key = name.replace("-", "_")
        if key in options:
            source, text = f"--{name}", options[key]
        elif environment.get(variable):
            source, text = variable, environment[variable]
            if parse is _labels:
                text = text.split(",")
        else:
            continue
        try:
            found[field] = parse(text)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
    return Settings(**found)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 7 * 86400:
        raise ValueError(f"{text!r} is not a number of seconds from 0 to a week")
    return value


def _labels(texts: Sequence[str]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise ValueError(f"{text!r} is not of the form name=value")
        labels[name.strip()] = value.strip()
    return labels


def _devices(text: str) -> str | list[str]:
    if text in ("auto", "none"):
        return text
    uuids = [uuid.strip() for uuid in text.split(",") if uuid.strip()]
    wrong = [uuid for uuid in uuids if not uuid.startswith(("GPU-", "MIG-"))]
    if wrong or not uuids:
        named = repr(wrong[0]) if wrong else "an empty list"
        raise ValueError(
            f"{named} is not auto, none or UUIDs such as GPU-1f2e... (nvidia-smi -L prints them)"
        )
    return list(dict.fromkeys(uuids))


def _name(what: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not NAME.fullmatch(text):
            raise ValueError(f"{text!r} cannot be {what}: letters, digits, '.', '_' and '-', at most 100")
        return text

    return parse


def _directory(text: str) -> Path:
    return Path(text).expanduser().absolute()


_OPTIONS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("redis", "redis", str),
    ("namespace", "namespace", _name("a namespace")),
    ("state", "state", _directory),
    ("id", "id", _name("an agent's id")),
    ("slots", "slots", _whole(1, 1_000)),
    ("label", "labels", _labels),
    ("devices", "devices", _devices),
    ("nemo-python", "nemo_python", str),
    ("stop-grace", "stop_grace_s", _seconds),
    ("kill-grace", "kill_grace_s", _seconds),
    ("metrics-host", "metrics_host", str),
    ("metrics-port", "metrics_port", _whole(0, 65_535)),
    ("connect-timeout", "connect_timeout_s", _seconds),
]

_HELP = {
    "redis": ("URL", "the store: redis://, rediss:// or unix:///path?db=0"),
    "namespace": ("NAME", "the installation, where several share a server (sweepd)"),
    "state": ("DIR", "what this agent keeps; one agent at a time"),
    "id": ("ID", "what others call this agent (the host's name and a suffix that stays)"),
    "slots": ("N", "how many attempts run at once (one per GPU, or one per processor without GPUs)"),
    "label": ("K=V", "what resources.labels of a study may ask for; may be repeated"),
    "devices": ("WHICH", "auto, none, or GPUs by UUID, separated by commas (auto)"),
    "nemo-python": ("PATH", "the interpreter that has nemo_run (this one)"),
    "stop-grace": ("S", "seconds from a stop verdict to SIGTERM (30)"),
    "kill-grace": ("S", "seconds from SIGTERM to SIGKILL (10)"),
    "metrics-host": ("HOST", "where /metrics listens (127.0.0.1)"),
    "metrics-port": ("N", "the port of /metrics; 0 takes a free one (no metrics)"),
    "connect-timeout": ("S", "seconds that the store may be away at start (30)"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweepd agent",
        description="Run trials on this machine for the coordinator that uses the same store.",
        epilog="Every option can also be an environment variable: --stop-grace is SWEEPD_STOP_GRACE.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sweepd-agent {__version__}")
    for name, _, parse in _OPTIONS:
        metavar, text = _HELP[name]
        action = "append" if parse is _labels else "store"
        parser.add_argument(f"--{name}", metavar=metavar, help=text, action=action)
    return parser
