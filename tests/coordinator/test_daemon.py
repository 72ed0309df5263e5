"""The coordinator as a process: how it starts, leads, hands over and ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
import redis
from servers import RedisServer, free_port, valkey
from waiting import wait_until

from sweepd.keys import Keys
from sweepd.messages import ClientRequest, Reply, SubmitStudy, decode_reply, encode

KEYS = Keys()

SPEC = {
    "name": "study",
    "task": {"command": ["true", "{args}"]},
    "objectives": [{"metric": "loss", "direction": "minimize"}],
    "space": {"x": {"type": "float", "low": 0, "high": 1}},
    "sampler": {"type": "random", "seed": 1},
    "budget": {"trials": 3},
}


class Daemon:
    """A coordinator process; its log is a file."""

    def __init__(self, log: Path, *options: str) -> None:
        self._log = log
        command = [sys.executable, "-m", "sweepd_coordinator", *options]
        with log.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream)

    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until a line of its log matches, for the given time."""

        def found() -> re.Match[str] | None:
            matches = list(re.finditer(pattern, self.log()))
            return matches[times - 1] if len(matches) >= times else None

        return wait_until(found, timeout_s=30, describe=self.log)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


Start = Callable[..., Daemon]


@pytest.fixture
def start(tmp_path: Path, server: RedisServer) -> Generator[Start]:
    """Start coordinators that hand over quickly; all are gone at the end."""
    daemons: list[Daemon] = []

    def start(*options: str, url: str = "") -> Daemon:
        log = tmp_path / f"coordinator-{len(daemons)}.log"
        url = url or server.unix_url
        daemons.append(Daemon(log, "--redis", url, "--leader-ttl", "1", "--store-timeout", "1", *options))
        return daemons[-1]

    yield start
    for daemon in daemons:
        daemon.process.kill()
        daemon.process.wait()


@pytest.fixture
def client(server: RedisServer) -> Generator[redis.Redis]:
    client = server.client()
    yield client
    client.close()


def submit(client: redis.Redis, request_id: str, name: str) -> Reply:
    """Submit a study and wait for the answer."""
    request = ClientRequest(request_id, SubmitStudy({**SPEC, "name": name}))
    client.xadd(KEYS.inbox, {"e": encode(request)})
    answer = wait_until(lambda: client.get(KEYS.reply(request_id)), timeout_s=30)
    assert isinstance(answer, bytes)
    return decode_reply(answer)


def leader_token(client: redis.Redis) -> object:
    return client.hget(KEYS.fence, "token")


def test_it_leads_answers_shows_its_numbers_and_leaves(start: Start, client: redis.Redis) -> None:
    daemon = start("--metrics-port", "0")
    daemon.wait_for(r"coordinator\.leading epoch=1 commit=0 studies=0 trials=0")
    port = daemon.wait_for(r"metrics\.listening host=127\.0\.0\.1 port=(\d+)")[1]
    reply = submit(client, "r1", "one")
    assert reply.error == ""
    assert reply.created
    daemon.wait_for(r"INFO +study\.submitted study=\S+ name=one")

    def shown() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return answer.read().decode()

    wait_until(lambda: 'sweepd_studies{state="running"} 1.0' in shown(), describe=shown)
    assert leader_token(client) is not None
    assert daemon.end() == 0
    assert leader_token(client) is None
    assert "Traceback" not in daemon.log()
    daemon.wait_for(r"coordinator\.stopped\n")


def test_its_successor_knows_what_it_knew(start: Start, client: redis.Redis) -> None:
    first = start()
    created = submit(client, "r1", "one")
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    second = start()
    second.wait_for(r"coordinator\.leading epoch=2 commit=\d+ studies=1 ")
    # The same request again, and the same study under another request.
    assert submit(client, "r1", "one") == created
    again = submit(client, "r2", "one")
    assert (again.study, again.created) == (created.study, False)
    assert second.end(signal.SIGINT) == 0


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_one_that_stands_by_takes_over(start: Start, client: redis.Redis, ended_by: signal.Signals) -> None:
    first = start()
    first.wait_for(r"coordinator\.leading epoch=1")
    second = start()
    second.wait_for(r"coordinator\.standing_by")
    submit(client, "r1", "one")
    first.end(ended_by)
    second.wait_for(r"coordinator\.leading epoch=2 commit=\d+ studies=1")
    assert submit(client, "r2", "two").created


def test_one_that_was_frozen_finds_out_that_another_leads(start: Start, client: redis.Redis) -> None:
    first = start()
    first.wait_for(r"coordinator\.leading epoch=1")
    second = start()
    second.wait_for(r"coordinator\.standing_by")
    first.process.send_signal(signal.SIGSTOP)
    second.wait_for(r"coordinator\.leading epoch=2")
    token = leader_token(client)
    submit(client, "r1", "one")
    first.process.send_signal(signal.SIGCONT)
    first.wait_for(r"coordinator\.fenced epoch=1")
    first.wait_for(r"coordinator\.standing_by")
    assert leader_token(client) == token
    assert first.end() == 0
    assert submit(client, "r2", "two").created


def test_it_outlives_its_store(start: Start, server: RedisServer) -> None:
    daemon = start()
    daemon.wait_for(r"coordinator\.leading")
    for times in (1, 2):
        server.kill()
        daemon.wait_for(r"store\.unreachable", times)
        server.start()
        daemon.wait_for(r"store\.back", times)
        client = server.client()
        reply = submit(client, f"r{times}", "one")
        client.close()
        assert (reply.error, reply.created) == ("", times == 1)
    assert daemon.log().count("coordinator.leading") == 1
    assert daemon.end() == 0


def test_it_starts_over_on_a_store_that_forgot_everything(
    start: Start, server: RedisServer, client: redis.Redis
) -> None:
    daemon = start()
    submit(client, "r1", "one")
    client.flushall()
    daemon.wait_for(r"coordinator\.fenced epoch=1")
    daemon.wait_for(r"coordinator\.leading epoch=1 commit=0 studies=0", times=2)
    assert submit(client, "r2", "one").created


def test_it_leaves_although_its_store_is_frozen(start: Start, server: RedisServer) -> None:
    daemon = start()
    daemon.wait_for(r"coordinator\.leading")
    server.freeze()
    daemon.wait_for(r"store\.unreachable")
    assert daemon.end() == 0
    server.thaw()


def test_a_second_signal_ends_it_at_once(start: Start, client: redis.Redis, server: RedisServer) -> None:
    daemon = start("--store-timeout", "60")
    daemon.wait_for(r"coordinator\.leading")
    server.freeze()
    daemon.process.send_signal(signal.SIGTERM)
    daemon.wait_for(r"coordinator\.stopping signal=SIGTERM")
    assert daemon.end(signal.SIGINT) == 0
    server.thaw()


def test_no_store_is_said_in_one_sentence(start: Start) -> None:
    daemon = start("--connect-timeout", "0.3", url=f"redis://:secret@127.0.0.1:{free_port()}/0")
    assert daemon.process.wait(timeout=30) == 3
    last = daemon.log().splitlines()[-1]
    assert re.fullmatch(
        r"sweepd-coordinator: the store at redis://:\*\*\*@127\.0\.0\.1:\d+/0 cannot be reached: .* "
        r"\(tried for 0\.3 s\)",
        last,
    )
    assert "Traceback" not in daemon.log()


def test_it_waits_for_a_store_that_starts_later(start: Start, server: RedisServer) -> None:
    server.stop()
    daemon = start()
    daemon.wait_for(r"store\.unreachable")
    server.start()
    daemon.wait_for(r"coordinator\.leading")


def test_a_store_that_evicts_is_refused(start: Start, client: redis.Redis) -> None:
    client.config_set("maxmemory-policy", "volatile-lru")
    daemon = start()
    assert daemon.process.wait(timeout=30) == 2
    assert "maxmemory-policy is volatile-lru" in daemon.log()
    assert "set it to noeviction" in daemon.log()


def test_a_store_that_forgets_is_warned_of(start: Start) -> None:
    with valkey({"appendonly": "no", "save": '""'}) as forgetful:
        daemon = start(url=forgetful.unix_url)
        daemon.wait_for(r"WARNING store\.not_durable appendonly=no remedy='set appendonly yes")
        assert daemon.end() == 0


def test_a_foreign_key_ends_it_with_the_key_named(start: Start, client: redis.Redis) -> None:
    client.set(KEYS.studies, "mine")
    daemon = start()
    assert daemon.process.wait(timeout=30) == 1
    last = daemon.log().splitlines()[-1]
    assert "{sweepd}:studies has another type in the store than sweepd writes" in last


def test_a_port_that_is_taken_and_a_wrong_option(start: Start) -> None:
    first = start("--metrics-port", "0")
    port = first.wait_for(r"metrics\.listening host=\S+ port=(\d+)")[1]
    second = start("--metrics-port", port)
    assert second.process.wait(timeout=30) == 2
    assert f"/metrics cannot listen on 127.0.0.1:{port}" in second.log()
    third = start("--lease-ttl", "often")
    assert third.process.wait(timeout=30) == 2
    assert third.log().startswith("sweepd-coordinator: --lease-ttl: 'often' is not a number of seconds")
