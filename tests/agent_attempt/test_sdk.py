"""What a training program says to sweepd and hears from it."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agent_attempt.attempts import Agent, Attempts, reports_of
from waiting import wait_until

import sweepd
from sweepd.errors import JobError
from sweepd.job import session
from sweepd.states import Verdict

Enter = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SWEEPD_ATTEMPT", raising=False)
    session.close()
    yield
    session.close()


@pytest.fixture
def enter(monkeypatch: pytest.MonkeyPatch) -> Enter:
    """Make this process one of the attempt's."""

    def enter(directory: Path) -> Path:
        monkeypatch.setenv("SWEEPD_ATTEMPT", str(directory / "attempt.json"))
        session.close()
        return directory

    return enter


@pytest.fixture
def job(attempts: Attempts, enter: Enter) -> Path:
    return enter(attempts.make("command", ["true"], {"lr": 0.1, "layers": [1, 2]}))


def verdict(of: str) -> dict[str, Any]:
    return {"type": "verdict", "verdict": of, "reports": 1, "reason": "said so"}


# --- parameters and reports ------------------------------------------------------------------------


def test_parameters_are_those_of_the_trial(job: Path) -> None:
    assert sweepd.params() == {"lr": 0.1, "layers": [1, 2]}
    sweepd.params()["lr"] = 5
    assert sweepd.params()["lr"] == 0.1


def test_a_report_is_on_disk_when_the_call_returns(job: Path) -> None:
    assert sweepd.report({"loss": 0.5, "accuracy": 1}, step=10) is Verdict.CONTINUE
    assert sweepd.report(0.25) is Verdict.CONTINUE
    first, second = reports_of(job)
    assert (first["ordinal"], first["step"], first["metrics"]) == (1, 10, {"loss": 0.5, "accuracy": 1.0})
    assert (second["ordinal"], second["step"], second["metrics"]) == (2, 2, {"loss": 0.25})
    assert first["at"] <= second["at"]


def test_numbers_that_json_does_not_have_are_text(job: Path) -> None:
    sweepd.report({"a": math.nan, "b": math.inf, "c": -math.inf})
    assert reports_of(job)[0]["metrics"] == {"a": "nan", "b": "inf", "c": "-inf"}


def test_whatever_float_takes_is_a_number(job: Path) -> None:
    import numpy

    sweepd.report({"a": numpy.float32(0.5), "b": numpy.array(2), "c": True}, step=numpy.int64(3))
    assert reports_of(job)[0]["metrics"] == {"a": 0.5, "b": 2.0, "c": 1.0}
    assert reports_of(job)[0]["step"] == 3


WRONG: dict[str, tuple[Any, Any, str]] = {
    "text": ({"loss": "0.5"}, 1, "loss must be a number, not '0.5'"),
    "nothing": ({"loss": None}, 1, "loss must be a number, not None"),
    "a list": ([0.5], 1, r"loss must be a number, not \[0.5\]"),
    "no metric": ({}, 1, "at least one metric"),
    "a name that is none": ({1: 0.5}, 1, "the name of a metric must be text, not 1"),
    "a step between": ({"loss": 1}, 0.5, "step must be a whole number, not 0.5"),
    "a step below": ({"loss": 1}, -1, "step must not be negative, and is -1"),
    "a number too large": ({"loss": 10**400}, 1, "loss must be a number"),
    "too much": ({f"metric {n}": n for n in range(4000)}, 1, "bytes is too long: at most 65536"),
}


@pytest.mark.parametrize(("metrics", "step", "problem"), WRONG.values(), ids=WRONG)
def test_what_is_no_report_is_refused_and_changes_nothing(
    job: Path, metrics: Any, step: Any, problem: str
) -> None:
    sweepd.report({"loss": 1}, step=1)
    with pytest.raises(JobError, match=problem):
        sweepd.report(metrics, step)
    sweepd.report({"loss": 2}, step=2)
    assert [report["ordinal"] for report in reports_of(job)] == [1, 2]


def test_a_single_number_needs_an_objective(attempts: Attempts, enter: Enter) -> None:
    enter(attempts.make("command", ["true"], objectives=[]))
    with pytest.raises(JobError, match="report a dict"):
        sweepd.report(0.5)


def test_a_full_disk_is_said_and_leaves_no_half_line(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweepd.report({"loss": 1})
    write = os.write

    def short(file: int, data: bytes) -> int:
        return write(file, data[:5])

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for failing in (short, full):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing)
            with pytest.raises(JobError, match=r"cannot be written to .*reports\.ndjson.*make room"):
                sweepd.report({"loss": 2})
    sweepd.report({"loss": 3})
    assert [(report["ordinal"], report["metrics"]["loss"]) for report in reports_of(job)] == [(1, 1), (2, 3)]


def test_the_ordinal_goes_on_where_another_process_ended(job: Path) -> None:
    sweepd.report({"loss": 1})
    subprocess.run([sys.executable, "-c", "import sweepd; sweepd.report({'loss': 2})"], check=True)
    sweepd.report({"loss": 3})
    # A writer that was killed in the middle of a line.
    with (job / "reports.ndjson").open("a") as file:
        file.write('{"ordinal":4,"st')
    sweepd.report({"loss": 4})
    assert [(report["ordinal"], report["metrics"]["loss"]) for report in reports_of(job)] == [
        (1, 1),
        (2, 2),
        (3, 3),
        (4, 4),
    ]


def test_many_threads_and_processes_report_at_once(job: Path) -> None:
    script = "import sweepd\nfor step in range(100): sweepd.report({'loss': step}, step=step)"
    others = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda: [sweepd.report({"loss": step}) for step in range(100)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [other.wait() for other in others] == [0, 0]
    assert [report["ordinal"] for report in reports_of(job)] == list(range(1, 601))


# --- verdicts --------------------------------------------------------------------------------------


def test_the_agent_is_woken_for_a_report(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    sweepd.report({"loss": 2})
    line = agent.next("job")
    wait_until(lambda: len(line.received) == 3)
    assert line.received == [
        {"type": "job", "token": "token-1", "pid": os.getpid()},
        {"type": "reported", "ordinal": 1},
        {"type": "reported", "ordinal": 2},
    ]


@pytest.mark.parametrize(("said", "seen"), [("stop", True), ("pause", False)])
def test_a_verdict_stands_from_when_it_arrived(job: Path, agent: Agent, said: str, seen: bool) -> None:
    assert sweepd.report({"loss": 1}) is Verdict.CONTINUE
    assert not sweepd.should_stop()
    agent.next("job").send(verdict(said))
    wait_until(sweepd.should_stop)
    assert sweepd.report({"loss": 2}) is Verdict(said)
    assert sweepd.report({"loss": 3}) is Verdict(said)
    # What tells the agent that ending now is obeying a stop.
    assert (job / "stop_seen").exists() is seen


def test_a_stop_that_nobody_asked_about_is_not_seen(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    line = agent.next("job")
    line.send(verdict("stop"))
    assert not (job / "stop_seen").exists()


def test_a_disk_without_room_for_the_mark_does_not_fail_the_job(
    job: Path, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    sweepd.report({"loss": 1})
    agent.next("job").send(verdict("stop"))
    monkeypatch.setattr(Path, "touch", full)
    wait_until(sweepd.should_stop)
    assert sweepd.report({"loss": 2}) is Verdict.STOP


def test_a_verdict_may_be_taken_back(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    agent.next("job").send(verdict("stop"))
    wait_until(sweepd.should_stop)
    agent.next("job").send(verdict("continue"))
    wait_until(lambda: not sweepd.should_stop())


def test_nonsense_from_the_channel_is_ignored(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    line = agent.next("job")
    line.send_raw(b'nonsense\n[]\n{"type": "verdict", "verdict": "dance"}\n{"type": "verd')
    line.send_raw(b'ict", "verdict": "stop"}\n')
    wait_until(sweepd.should_stop)


def test_reports_go_on_without_an_agent_and_wake_it_when_it_is_back(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    agent.next("job")
    agent.go_away()
    for _ in range(10):
        assert sweepd.report({"loss": 2}) is Verdict.CONTINUE
    agent.lines.clear()
    agent.listen()
    wait_until(lambda: not sweepd.should_stop() and agent.of("job"))
    agent.next("job").send(verdict("stop"))
    wait_until(sweepd.should_stop)
    wait_until(lambda: {"type": "reported", "ordinal": 11} in agent.next("job").received)
    assert len(reports_of(job)) == 11


def test_an_agent_that_does_not_read_holds_nobody_up(job: Path, channel: Path) -> None:
    """The socket fills up; reports go on, and what is left of a line is sent before the next."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(channel))
        server.listen()
        sweepd.report({"loss": 0})
        connection, _ = server.accept()
        with connection:
            for step in range(10_000):
                sweepd.report({"loss": step})
            received = b""
            while b'"ordinal":10001}' not in received:
                received += connection.recv(65536)
                sweepd.should_stop()
    lines = [json.loads(line) for line in received.splitlines()]
    ordinals = [line["ordinal"] for line in lines[1:]]
    assert ordinals == sorted(ordinals)
    assert ordinals[-1] == 10_001
    assert len(ordinals) < 10_001


# --- other processes and threads -----------------------------------------------------------------------


def test_a_fork_has_a_connection_of_its_own(job: Path, agent: Agent) -> None:
    sweepd.report({"loss": 1})
    pid = os.fork()
    if pid == 0:
        sweepd.report({"loss": 2})
        os._exit(0 if wait_until(sweepd.should_stop) else 1)
    agent.next("job", 2).send(verdict("stop"))
    assert os.waitpid(pid, 0)[1] == 0
    assert agent.next("job", 2).received[0]["pid"] == pid
    assert not sweepd.should_stop()
    sweepd.report({"loss": 3})
    assert [report["ordinal"] for report in reports_of(job)] == [1, 2, 3]
    assert not agent.next("job").closed


def test_a_fork_while_another_thread_reports_does_not_hang(job: Path) -> None:
    busy = True
    thread = threading.Thread(target=lambda: [sweepd.report({"loss": 1}) for _ in iter(lambda: busy, False)])
    thread.start()
    try:
        for _ in range(20):
            pid = os.fork()
            if pid == 0:
                sweepd.report({"loss": 2})
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        busy = False
        thread.join()


def test_the_end_of_the_interpreter_waits_for_nothing(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.make("command", ["true"])
    environment = {**os.environ, "SWEEPD_ATTEMPT": str(directory / "attempt.json")}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", "import sweepd; sweepd.report({'loss': 1})"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- checkpoints ---------------------------------------------------------------------------------------


def test_a_checkpoint_counts_once_it_is_whole(job: Path) -> None:
    with sweepd.checkpoint(3) as directory:
        (directory / "model").write_text("three")
        assert not (job / "checkpoints" / "step-3").exists()
    assert (job / "checkpoints" / "step-3" / "model").read_text() == "three"
    with sweepd.checkpoint(3) as directory:
        (directory / "model").write_text("three again")
    assert (job / "checkpoints" / "step-3" / "model").read_text() == "three again"
    with pytest.raises(ZeroDivisionError), sweepd.checkpoint(4):
        _ = 1 / 0
    assert [path.name for path in (job / "checkpoints").iterdir()] == ["step-3"]


def test_a_checkpoint_to_go_on_from_is_named_by_the_attempt(job: Path, enter: Enter) -> None:
    assert sweepd.restore_dir() is None
    attempt = json.loads((job / "attempt.json").read_text())
    (job / "attempt.json").write_text(json.dumps({**attempt, "restore": "/scratch/step-3"}))
    enter(job)
    assert sweepd.restore_dir() == Path("/scratch/step-3")


# --- outside a job ---------------------------------------------------------------------------------------


def test_outside_a_job_reports_are_printed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert sweepd.report({"loss": 0.5, "accuracy": math.nan}, step=3) is Verdict.CONTINUE
    assert sweepd.report(0.25) is Verdict.CONTINUE
    assert capsys.readouterr().out == "sweepd: step 3: loss=0.5 accuracy=nan\nsweepd: step 2: value=0.25\n"
    assert not sweepd.should_stop()
    assert sweepd.restore_dir() is None


def test_outside_a_job_checkpoints_go_to_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with sweepd.checkpoint(1) as directory:
        (directory / "model").touch()
    assert (tmp_path / "checkpoints" / "step-1" / "model").exists()


def test_outside_a_job_parameters_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError, match="SWEEPD_PARAMS"):
        sweepd.params()
    monkeypatch.setenv("SWEEPD_PARAMS", '{"lr": 0.1}')
    assert sweepd.params() == {"lr": 0.1}
    for wrong in ("{", "[1]"):
        monkeypatch.setenv("SWEEPD_PARAMS", wrong)
        with pytest.raises(JobError, match="SWEEPD_PARAMS"):
            sweepd.params()


@pytest.mark.parametrize("content", [None, "{", "{}", "[]"])
def test_an_attempt_that_is_none_is_named(enter: Enter, tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "attempt.json").write_text(content)
    enter(tmp_path)
    with pytest.raises(JobError, match=r"names no attempt of sweepd.*unset it"):
        sweepd.params()


def test_a_channel_of_another_kind_is_named(job: Path, enter: Enter) -> None:
    attempt = json.loads((job / "attempt.json").read_text())
    (job / "attempt.json").write_text(json.dumps({**attempt, "channel": "carrier-pigeon:7"}))
    enter(job)
    with pytest.raises(JobError, match="carrier-pigeon:7"):
        sweepd.report({"loss": 1})
