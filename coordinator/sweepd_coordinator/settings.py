"""What a coordinator is told when it starts: options, or the environment, or defaults.

Each option has a variable: `--lease-ttl` is SWEEPD_LEASE_TTL. An option wins over its variable.
A complaint names the one that was used.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sweepd import __version__
from sweepd.errors import UsageError

_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LEVELS = ("debug", "info", "warning", "error")


class TurnSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the loop takes its turns. Not options: measured once, right for all."""

    #: What one turn takes of the inbox at most: throughput comes from large turns, but a turn is
    #: also how long a verdict waits. The first entry is taken whatever its size.
    messages: int = 2_000
    bytes: int = 4 * 1024 * 1024
    #: A turn comes at least so often, for leases and gauges, in seconds. Also how long a read of
    #: the inbox blocks: an answer to it is the proof that the store is there.
    idle_s: float = 1.0
    #: The first and the longest pause before an unreachable store is tried again, in seconds.
    retry_first_s: float = 0.05
    retry_longest_s: float = 2.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Read once. Times are seconds."""

    redis: str = "redis://127.0.0.1:6379/0"
    namespace: str = "sweepd"  #: hash tag of all keys; two installations may share a server
    lease_ttl_s: float = 30.0  #: an agent that is silent for so long has lost its attempts
    #: a leader that is silent for so long is replaced by one that stands by. Short, because the
    #: fence and not this term keeps two leaders from writing.
    leader_ttl_s: float = 5.0
    store_timeout_s: float = 5.0  #: a command without an answer for so long found no store
    connect_timeout_s: float = 30.0  #: how long the store may be away when the coordinator starts
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  #: None: no metrics; 0: any free port, which is logged
    log_level: str = "info"
    turns: TurnSettings = TurnSettings()


def load(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings; raises :class:`UsageError`, and SystemExit for --help and --version."""
    given = vars(_parser().parse_args(arguments))
    found: dict[str, Any] = {}
    for option in _OPTIONS:
        if given[option.field] is not None:
            source, text = f"--{option.name}", given[option.field]
        elif environment.get(option.variable):
            source, text = option.variable, environment[option.variable]
        else:
            continue
        try:
            found[option.field] = option.parse(text)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from None
    return Settings(**found)


def _port(text: str) -> int:
    if not re.fullmatch(r"\d{1,5}", text) or int(text) > 65_535:
        raise ValueError(f"{text!r} is not a port: a whole number from 0 (any free one) to 65535")
    return int(text)


def _seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not least <= value <= most:
            raise ValueError(f"{text!r} is not a number of seconds from {least:g} to {most:g}")
        return value

    return parse


def _namespace(text: str) -> str:
    if not _NAMESPACE.fullmatch(text):
        raise ValueError(
            f"{text!r} cannot be a namespace: letters, digits, '.', '_' and '-', at most 100, "
            "the first a letter or a digit"
        )
    return text


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise ValueError(f"{text!r} is none of {', '.join(_LEVELS)}")
    return text.lower()


@dataclass(frozen=True)
class _Option:
    name: str
    field: str
    parse: Callable[[str], Any]
    metavar: str
    help: str

    @property
    def variable(self) -> str:
        return "SWEEPD_" + self.name.upper().replace("-", "_")


_OPTIONS = (
    _Option("redis", "redis", str, "URL", "the store: redis://, rediss:// or unix:///path?db=0"),
    _Option(
        "namespace",
        "namespace",
        _namespace,
        "NAME",
        "the installation, where several share a server (sweepd)",
    ),
    _Option(
        "lease-ttl",
        "lease_ttl_s",
        _seconds(1, 86_400),
        "S",
        "seconds after which the attempts of a silent agent are lost (30)",
    ),
    _Option(
        "leader-ttl",
        "leader_ttl_s",
        _seconds(0.5, 3_600),
        "S",
        "seconds after which a silent leader is replaced by one that stands by (5)",
    ),
    _Option(
        "store-timeout",
        "store_timeout_s",
        _seconds(0.1, 3_600),
        "S",
        "seconds without an answer after which the store counts as away (5)",
    ),
    _Option(
        "connect-timeout",
        "connect_timeout_s",
        _seconds(0, 7 * 86_400),
        "S",
        "seconds that the store may be away at start (30)",
    ),
    _Option("metrics-host", "metrics_host", str, "HOST", "where /metrics listens (127.0.0.1)"),
    _Option(
        "metrics-port",
        "metrics_port",
        _port,
        "N",
        "the port of /metrics; 0 takes a free one (no metrics)",
    ),
    _Option("log-level", "log_level", _level, "LEVEL", f"{', '.join(_LEVELS)} (info)"),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweepd coordinator",
        description="Hold every study of a store and decide. Several may run: one leads, the rest stand by.",
        epilog="Every option can also be an environment variable: --lease-ttl is SWEEPD_LEASE_TTL.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"sweepd-coordinator {__version__}")
    for option in _OPTIONS:
        parser.add_argument(f"--{option.name}", dest=option.field, metavar=option.metavar, help=option.help)
    return parser
