"""Everything is killed and frozen at random for a while; then the end log must add up.

CHAOS_SEED draws other faults, CHAOS_S keeps them coming for longer. A failure prints both the
seed and the faults, in order.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from integration.fleet import KEYS, Daemon, Fleet, fleet
from servers import DURABLE, RedisServer, debian_redis, redis_binary, valkey
from waiting import wait_until

from sweepd import processes
from sweepd.messages import encode_number
from sweepd.processes import Process
from sweepd.records import AgentRecord, CurvePoint, TrialRecord
from sweepd.states import TRIAL_ENDS, AttemptOutcome, StudyState, TrialState

CHAOS_S = float(os.environ.get("CHAOS_S", "14"))
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEED", "1").split(",")]
TRIALS = int(os.environ.get("CHAOS_TRIALS", "50"))
SLOTS = 2

#: Reports, and writes down each report that returned; the numbers tell one attempt from another.
TRAIN = """
import json, os, random, sys, time, sweepd
attempt = json.load(open(os.environ["SWEEPD_ATTEMPT"]))
name = "{trial}-{attempt}".format(**attempt)
diary = os.open(os.path.join(sys.argv[1], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for step in range(1, random.randint(3, 9)):
    score = random.random()
    verdict = sweepd.report({"score": score}, step=step)
    os.write(diary, json.dumps([step, score]).encode() + b"\\n")
    if verdict == "stop":
        break
    time.sleep(random.uniform(0.02, 0.08))
"""


@dataclass
class Chaos:
    """What may happen to a fleet, and what did."""

    it: Fleet
    coordinators: list[Daemon]
    chance: random.Random
    faults: list[str] = field(default_factory=list[str])
    #: what must be made good again, and when
    due: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    hit: set[str] = field(default_factory=set[str])

    def strike(self) -> None:
        kinds = [
            *[(self.kill, daemon) for daemon in (*self.coordinators, *self.it.agents)],
            *[(self.freeze, daemon) for daemon in (*self.coordinators, *self.it.agents)],
            *[(self.hit_attempt, target) for target in ("job", "supervisor") * 3],
            *[(self.hit_store, how) for how in ("kill", "freeze")],
        ]
        act, target = self.chance.choice(kinds)
        act(target)  # type: ignore[operator]

    def kill(self, daemon: Daemon) -> None:
        if daemon.name in self.hit:
            return
        self.say(f"kill {daemon.name}")
        daemon.kill()
        self.later(daemon.name, self.chance.choice([0.0, 0.3, 1.5]), daemon.start)

    def freeze(self, daemon: Daemon) -> None:
        if daemon.name in self.hit:
            return
        away_s = self.chance.choice([0.2, 1.0, 2.5, 5.0])  # the last is longer than a lease
        self.say(f"freeze {daemon.name} {away_s}")
        pid = daemon.pid
        os.kill(pid, signal.SIGSTOP)
        self.later(daemon.name, away_s, lambda: os.kill(pid, signal.SIGCONT))

    def hit_attempt(self, target: str) -> None:
        running = list(supervisors(self.it.home))
        if not running:
            return
        place, supervisor = self.chance.choice(running)
        victims = processes.descendants(supervisor.pid) if target == "job" else [supervisor]
        if not victims:
            return
        victim = self.chance.choice(victims)
        how = self.chance.choice([signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
        self.say(f"{how.name} {target} of {place}")
        processes.signal_process(victim, how)
        if how is signal.SIGSTOP:
            self.later(str(victim), self.chance.choice([0.3, 2.0]), lambda: _continue(victim))

    def hit_store(self, how: str) -> None:
        if "store" in self.hit:
            return
        server = self.it.server
        away_s = self.chance.choice([0.0, 0.5, 2.5])  # the last is longer than a command may take
        self.say(f"{how} the store {away_s}")
        if how == "kill":
            server.kill()
            self.later("store", away_s, server.start)
        else:
            server.freeze()
            self.later("store", away_s, server.thaw)

    def later(self, name: str, after_s: float, remedy: Callable[[], None]) -> None:
        def make_good() -> None:
            self.hit.discard(name)
            remedy()

        self.hit.add(name)
        self.due.append((time.monotonic() + after_s, make_good))

    def make_good(self, *, all_of_it: bool = False) -> None:
        now = time.monotonic()
        for at, remedy in list(self.due):
            if all_of_it or at <= now:
                self.due.remove((at, remedy))
                remedy()

    def say(self, fault: str) -> None:
        self.faults.append(f"{time.monotonic() - self.began:6.2f} {fault}")


def _continue(process: Process) -> None:
    processes.signal_process(process, signal.SIGCONT)


def supervisors(home: Path) -> Iterator[tuple[str, Process]]:
    """Yield the living supervisors of all agents, and which attempt each stands over."""
    for file in sorted(home.glob("agent*/attempts/*/*/*/supervisor.json")):
        with suppress(OSError, ValueError):
            if process := processes.from_record(json.loads(file.read_bytes())):
                yield "/".join(file.parts[-4:-1]), process


def jobs(home: Path) -> list[int]:
    """Return the pids of all living processes that were started in an attempt under *home*."""
    mark = f"SWEEPD_ATTEMPT={home}/".encode()
    found: list[int] = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (place / "environ").read_bytes():
                found.append(int(place.name))
    return found


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    if request.param == "redis" and redis_binary() is None:
        pytest.skip("redis-server is not on PATH (apt-get install redis-server)")
    with (valkey if request.param == "valkey" else debian_redis)(DURABLE) as running:
        yield running


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("server", "scheduler"), [("valkey", "asha"), ("redis", "none")], indirect=["server"]
)
def test_whatever_is_killed_or_frozen_every_trial_ends_once(
    server: RedisServer, tmp_path: Path, seed: int, scheduler: str
) -> None:
    """Exactly the budget, one final end per trial, no report lost or doubled, nothing left behind."""
    (tmp_path / "train.py").write_text(TRAIN)
    diaries = tmp_path / "diaries"
    diaries.mkdir()
    options = ["--stop-grace", "1", "--kill-grace", "1", "--connect-timeout", "60"]
    with fleet(server, tmp_path, agents=2, slots=SLOTS, options=options) as it:
        chaos = Chaos(it, [], random.Random(seed))
        try:
            with TwoCoordinators(it) as chaos.coordinators:
                study = it.submit(
                    {
                        "name": "chaos",
                        "task": {"command": ["python", "train.py", str(diaries)]},
                        "objectives": [{"metric": "score", "direction": "maximize"}],
                        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
                        "sampler": {"type": "random", "seed": seed},
                        "scheduler": {"type": "none"}
                        if scheduler == "none"
                        else {"type": "asha", "min": 2, "max": 8, "eta": 2},
                        "budget": {"trials": TRIALS},
                        "retry": {"max_attempts": 1000},
                        "executor": {"type": "process"},
                    },
                    tmp_path,
                )
                end = time.monotonic() + CHAOS_S
                while time.monotonic() < end:
                    chaos.strike()
                    until = time.monotonic() + chaos.chance.uniform(0.05, 0.6)
                    while time.monotonic() < until:
                        chaos.make_good()
                        time.sleep(0.02)
                chaos.make_good(all_of_it=True)
                verdict(it, study, diaries)
        except BaseException as error:
            with suppress(OSError):
                chaos.make_good(all_of_it=True)
            error.add_note(f"seed {seed}, faults:\n" + "\n".join(chaos.faults))
            error.add_note(it.told())
            for daemon in chaos.coordinators:
                error.add_note(f"--- {daemon.name}\n{daemon.told()}")
            raise


class TwoCoordinators:
    """A second coordinator beside the fleet's own, both with short terms; ends the second."""

    def __init__(self, it: Fleet) -> None:
        terms = ["--lease-ttl", "4", "--leader-ttl", "1", "--store-timeout", "1", "--connect-timeout", "60"]
        it.coordinator.stop()
        it.coordinator.command += terms
        it.coordinator.start()
        self._second = Daemon("second", list(it.coordinator.command), it.home / "second.log")
        self._both = [it.coordinator, self._second]

    def __enter__(self) -> list[Daemon]:
        self._second.start()
        return self._both

    def __exit__(self, *_: object) -> None:
        self._second.stop()


def verdict(it: Fleet, study: str, diaries: Path) -> None:
    record = it.wait_ended(study, timeout_s=60)
    assert record.state is StudyState.DONE, record
    trials = it.trials(study)
    assert list(trials) == list(range(TRIALS)), "exactly the budget"
    ends = it.ends(study)
    final = Counter(end.trial for end in ends if end.state in TRIAL_ENDS)
    assert final == Counter(range(TRIALS)), "one final end per trial"
    logged = {(end.trial, end.attempt): (end.token, end.outcome) for end in ends}
    assert len(logged) == len(ends), "one end per attempt"
    recorded = {
        (number, attempt.attempt): (attempt.token, attempt.outcome)
        for number, trial in trials.items()
        for attempt in trial.attempts
    }
    assert logged == recorded, "the end log is what the records say"
    curves: dict[bytes, bytes] = it.redis.hgetall(KEYS.curves(study))  # type: ignore[assignment]
    for number, trial in trials.items():
        check_reports(trial, curves[str(number).encode()], diaries)
    nothing_left(it)


def check_reports(trial: TrialRecord, curve: bytes, diaries: Path) -> None:
    """What the attempt that counts reported is there: all of it, once, in order, and nothing else."""
    winner = trial.attempts[-1]
    if winner.outcome is not AttemptOutcome.FINISHED:  # or it had its order to stop, and was cut short
        assert trial.state is TrialState.PRUNED, trial
    points = msgspec.json.decode(curve, type=list[CurvePoint])
    kept = [[point.step, point.metrics["score"]] for point in points if point.attempt == winner.attempt]
    diary = diaries / f"{trial.number}-{winner.attempt}"
    written: list[Any] = [json.loads(line) for line in diary.read_bytes().splitlines()]
    written = [[step, encode_number(score)] for step, score in written]
    if winner.outcome is AttemptOutcome.FINISHED:
        assert kept == written, f"trial {trial.number}: kept {kept}, reported {written}"
        assert trial.values == {"score": written[-1][1]}
    # A job that is killed may have reported what it did not live to write down.
    assert kept[: len(written)] == written[: len(kept)], trial.number
    if winner.outcome is not AttemptOutcome.LOST:  # its agent said all that there was before the end
        assert len(written) <= len(kept) <= len(written) + 1, f"trial {trial.number}"


def nothing_left(it: Fleet) -> None:
    """No process, no lease, no debt; all slots are offered again."""
    wait_until(
        lambda: not jobs(it.home) and not list(supervisors(it.home)),
        timeout_s=20,
        describe=lambda: (jobs(it.home), list(supervisors(it.home))),
    )

    def agents() -> list[AgentRecord]:
        found: dict[bytes, bytes] = it.redis.hgetall(KEYS.agents)  # type: ignore[assignment]
        return [msgspec.json.decode(data, type=AgentRecord) for data in found.values()]

    def idle() -> bool:
        return all(
            agent.state == "connected" and agent.offer is not None and agent.offer.slots == SLOTS
            for agent in agents()
        )

    with suppress(redis.ConnectionError):
        wait_until(idle, timeout_s=20, describe=agents)
    assert idle(), agents()
    wait_until(lambda: not owed(it.home), timeout_s=10, describe=lambda: owed(it.home))


def owed(home: Path) -> list[str]:
    """Return the tokens that any agent still owes an end for."""
    left: dict[str, None] = {}
    for file in home.glob("agent*/spool.ndjson"):
        for line in file.read_bytes().splitlines():
            debt = json.loads(line)
            if "directory" in debt:
                left[debt["token"]] = None
            else:
                left.pop(debt["token"], None)
    return list(left)
