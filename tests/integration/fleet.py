"""A whole installation on this machine: a real server, coordinators and agents as processes.

    with fleet(server, tmp_path, agents=2, slots=2) as it:
        it.submit(study)
        it.coordinator.kill(); it.coordinator.start()

Everything is stopped by its process id at the end, whatever the test did.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import redis
from servers import RedisServer
from waiting import wait_until

from sweepd import study_file
from sweepd.client import Client
from sweepd.keys import Keys
from sweepd.records import EndRecord, StudyRecord, TrialRecord
from sweepd.states import STUDY_ENDS
from sweepd.tether import tethered

KEYS = Keys()


class Daemon:
    """One daemon; it can be killed and started again with the same command."""

    def __init__(self, name: str, command: list[str], log: Path) -> None:
        self.name, self.command, self.log = name, command, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tethered(self.command),  # a test run that is killed leaves no daemon behind
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(os.environ),
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL: it says goodbye to nobody."""
        self._end(signal.SIGKILL)

    def stop(self, timeout_s: float = 40) -> int:
        """SIGTERM; returns its exit code."""
        return self._end(signal.SIGTERM, timeout_s)

    def _end(self, number: signal.Signals, timeout_s: float = 40) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        try:
            return process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name} did not end within {timeout_s:g} s:\n{self.told()}") from None

    def told(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


class Fleet:
    """One store, one coordinator, some agents."""

    def __init__(
        self, server: RedisServer, home: Path, *, agents: int, slots: int, options: list[str]
    ) -> None:
        self.server, self.home = server, home
        url = ["--redis", server.url]
        self.coordinator = Daemon(
            "coordinator",
            [sys.executable, "-m", "sweepd_coordinator", *url, "--lease-ttl", "10", "--leader-ttl", "2"],
            home / "coordinator.log",
        )
        self.agents = [
            Daemon(
                f"agent{number}",
                [
                    *[sys.executable, "-m", "sweepd_agent", *url, "--slots", str(slots)],
                    *["--state", str(home / f"agent{number}"), "--id", f"agent{number}", *options],
                ],
                home / f"agent{number}.log",
            )
            for number in range(agents)
        ]
        self.redis: redis.Redis = server.client()
        self.client = Client(server.url)

    def told(self) -> str:
        """What every daemon wrote last, for a test that failed."""
        return "\n".join(f"--- {d.name}\n{d.told()}" for d in (self.coordinator, *self.agents))

    def submit(self, study: Mapping[str, Any], workdir: Path) -> str:
        """Write *study* as a file, submit it as a person would; returns the study's id."""
        file = workdir / f"{study['name']}.json"
        file.write_bytes(msgspec.json.encode(study))
        return self.client.submit(study_file.load(file)).id

    def study(self, study: str) -> StudyRecord:
        data = self.redis.hget(KEYS.studies, study)
        assert isinstance(data, bytes), f"there is no study {study}"
        return msgspec.json.decode(data, type=StudyRecord)

    def trials(self, study: str) -> dict[int, TrialRecord]:
        found: Any = self.redis.hgetall(KEYS.trials(study))
        records = [msgspec.json.decode(data, type=TrialRecord) for data in found.values()]
        return {record.number: record for record in sorted(records, key=lambda record: record.number)}

    def ends(self, study: str) -> list[EndRecord]:
        """The end log of a study, in order."""
        entries: Any = self.redis.xrange(KEYS.ends)
        records = [msgspec.json.decode(fields[b"e"], type=EndRecord) for _, fields in entries]
        return [record for record in records if record.study == study]

    def wait_ended(self, study: str, timeout_s: float = 120) -> StudyRecord:
        """Wait for the study's end; returns its record."""
        wait_until(
            lambda: self.study(study).state in STUDY_ENDS,
            timeout_s=timeout_s,
            describe=lambda: f"{self.study(study)}\n{self.told()}",
        )
        return self.study(study)


@contextmanager
def fleet(
    server: RedisServer, home: Path, *, agents: int = 1, slots: int = 2, options: list[str] | None = None
) -> Generator[Fleet]:
    """Run a coordinator and agents against *server*; everything is down afterwards."""
    it = Fleet(server, home, agents=agents, slots=slots, options=options or [])
    daemons = [it.coordinator, *it.agents]
    try:
        for daemon in daemons:
            daemon.start()
        yield it
    finally:
        try:
            for daemon in reversed(daemons):
                daemon.stop()
        finally:
            it.client.close()
            it.redis.close()
