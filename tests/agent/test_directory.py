"""What is written for an attempt, and what is made of what it leaves behind."""

from __future__ import annotations

import fcntl
import json
import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from scripted import assign, script

from sweepd import processes
from sweepd.messages import Job, Usage
from sweepd.states import FailureClass
from sweepd_agent.core.ends import Evidence, Exit, Result
from sweepd_agent.directory import RESULT_LIMIT_BYTES, TAIL_BYTES, AttemptDirectory

ASSIGN = assign("t", script("pass"), trial=3, attempt=2, devices=["GPU-a"])


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    directory = AttemptDirectory.under(tmp_path, ASSIGN)
    directory.path.mkdir(parents=True)
    return directory


def write(directory: AttemptDirectory, **options: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "channel": Path("/s/c.sock"),
        "stop_grace_s": 30.0,
        "kill_grace_s": 10.0,
        "sweepd_path": None,
        "device_memory_mib": {"GPU-a": 500},
        **options,
    }
    directory.write(ASSIGN, **told)
    return json.loads(directory.attempt.read_bytes())


def test_the_attempt_file_says_all_that_the_job_needs(tmp_path: Path) -> None:
    directory = AttemptDirectory.under(tmp_path, ASSIGN)
    told = write(directory)
    assert directory.path == tmp_path / "attempts" / "s1" / "3" / "2"
    assert directory.path.stat().st_mode & 0o777 == 0o700
    names = ("study", "study_name", "trial", "attempt", "token", "params", "declared", "devices")
    assert {name: told[name] for name in names} == {
        "study": "s1",
        "study_name": "study",
        "trial": 3,
        "attempt": 2,
        "token": "t",
        "params": {"lr": 0.1},
        "declared": True,
        "devices": ["GPU-a"],
    }
    assert set(told["job"]) == set(Job.__struct_fields__)
    assert told["channel"] == "unix:/s/c.sock"
    assert told["directory"] == str(directory.path)
    assert (told["stop_grace_s"], told["kill_grace_s"]) == (30, 10)
    assert "sweepd_path" not in told
    assert write(directory, sweepd_path=Path("/s/path"))["sweepd_path"] == "/s/path"


def test_a_restarted_agent_reads_back_what_was_written(directory: AttemptDirectory) -> None:
    assert directory.written() is None
    write(directory)
    assert directory.written() == (ASSIGN, {"GPU-a": 500})
    directory.attempt.write_text("{")
    assert directory.written() is None


@pytest.mark.parametrize("study", ["../../etc", "a/b", "", "ä", "x" * 101])
def test_no_name_of_a_study_leads_out_of_the_state_directory(tmp_path: Path, study: str) -> None:
    named = AttemptDirectory.under(
        tmp_path, type(ASSIGN)(1, study, "n", 0, 1, "t", {}, ASSIGN.job, ASSIGN.resources)
    )
    parts = named.path.relative_to(tmp_path / "attempts").parts
    assert len(parts) <= 3
    assert ".." not in parts


def test_an_attempt_that_is_assigned_once_more_gets_a_directory_of_its_own(tmp_path: Path) -> None:
    first = AttemptDirectory.under(tmp_path, ASSIGN)
    write(first)
    again = AttemptDirectory.under(tmp_path, ASSIGN)
    assert again.path == first.path.with_name("2-t")
    assert not again.path.exists()


def test_what_an_attempt_leaves_behind_is_evidence(directory: AttemptDirectory) -> None:
    (directory.path / "exit.json").write_text(
        '{"code": 0, "signal": null, "reason": "exited", "started_at": 10.0, "ended_at": 12.5,'
        ' "cpu_s": 1.5, "max_rss_mib": 30.0, "killed": [], "message": ""}'
    )
    (directory.path / "result.json").write_text('{"values": {"loss": "nan"}, "attributes": {"k": [1]}}')
    (directory.path / "stop_seen").touch()
    directory.output.write_text("hello\n")
    assert directory.ended
    assert directory.evidence(out_of_memory=True) == Evidence(
        Exit("exited", code=0, usage=Usage(2.5, 1.5, 30.0)),
        Result(values={"loss": "nan"}, attributes={"k": [1]}),
        stop_seen=True,
        tail="hello",
        out_of_memory=True,
    )


def test_an_attempt_that_left_nothing_has_no_evidence(directory: AttemptDirectory) -> None:
    refusal = (FailureClass.LAUNCH_ERROR, "no")
    assert directory.evidence(refusal=refusal) == Evidence(refusal=refusal)
    assert not directory.ended


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"pruned": true}', Result(pruned=True)),
        (
            '{"error": "Traceback", "class": "diverged"}',
            Result(error="Traceback", failure=FailureClass.DIVERGED),
        ),
        ('{"error": "Traceback"}', Result(error="Traceback", failure=FailureClass.CRASHED)),
        ('{"values": {"loss": 1}, "unknown": 1}', Result(values={"loss": 1})),
        ("garbage", None),
        ('{"values": 3}', None),
        ('{"error": "x", "class": "unheard of"}', None),
        ("", None),
    ],
)
def test_a_result_is_read_or_counts_as_missing(
    directory: AttemptDirectory, text: str, result: Result | None, caplog: pytest.LogCaptureFixture
) -> None:
    (directory.path / "result.json").write_text(text)
    assert directory.evidence().result == result
    assert ("attempt.unreadable" in caplog.text) == (result is None)


def test_a_result_that_cannot_travel_is_an_error_of_the_job(directory: AttemptDirectory) -> None:
    (directory.path / "result.json").write_text(json.dumps({"attributes": {"log": "x" * RESULT_LIMIT_BYTES}}))
    result = directory.evidence().result
    assert result is not None
    assert result.error is not None
    assert result.failure is FailureClass.BAD_CONFIG
    assert str(RESULT_LIMIT_BYTES) in result.error


def test_an_end_before_any_start_took_no_time(directory: AttemptDirectory) -> None:
    (directory.path / "exit.json").write_text(
        '{"code": null, "signal": null, "reason": "launch_error", "started_at": null, "ended_at": 12.5,'
        ' "message": "no such program"}'
    )
    exit = directory.evidence().exit
    assert exit == Exit("launch_error", message="no such program", usage=Usage())
    assert exit is not None
    assert not math.isnan(exit.usage.wall_s if exit.usage else math.nan)


@pytest.mark.parametrize(
    ("output", "tail"),
    [
        (b"", ""),
        (b"one\ntwo\n", "one\ntwo"),
        (b"first\n" * 10 + b"x" * 3_000 + b"\n" + b"y" * 2_000 + b"\n", "y" * 2_000),
        (b"x" * 10_000, "x" * TAIL_BYTES),
        (b"x" * 10_000 + b"\n", "x" * (TAIL_BYTES - 1)),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_the_tail_of_the_output_is_bounded_and_begins_with_a_line_if_it_can(
    directory: AttemptDirectory, output: bytes, tail: str
) -> None:
    directory.output.write_bytes(output)
    assert directory.tail() == tail


def test_a_directory_that_is_barred_starts_no_supervisor(directory: AttemptDirectory) -> None:
    write(directory)
    assert not directory.used
    assert directory.bar()
    assert directory.bar(), "once more changes nothing"
    assert (directory.used, directory.supervisor()) == (True, None)
    supervise = [sys.executable, "-I", "-m", "sweepd_agent.supervise", str(directory.path)]
    assert subprocess.run(supervise, capture_output=True).returncode == 75
    assert not directory.output.exists()


def test_a_directory_whose_lock_is_held_cannot_be_barred(directory: AttemptDirectory) -> None:
    lock = os.open(directory.path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert not directory.bar()
    assert not directory.used
    os.close(lock)
    assert directory.bar()


def test_what_is_left_of_an_attempt_is_killed(directory: AttemptDirectory) -> None:
    marked = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"],
        env={**os.environ, "SWEEPD_ATTEMPT": str(directory.attempt)},
    )
    supervisor = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    process = processes.look_up(supervisor.pid)
    assert process is not None
    (directory.path / "supervisor.json").write_text(json.dumps(processes.to_record(process)))
    assert directory.supervisor() == process
    assert directory.kill(10)
    assert (marked.wait(), supervisor.wait()) == (-9, -9)
    assert directory.supervisor() is None


def test_what_will_not_die_is_said_to_be_left(directory: AttemptDirectory) -> None:
    lock = os.open(directory.path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)  # somebody unknown still supervises here
    assert not directory.kill(0.05)
    os.close(lock)
    assert directory.kill(10)


def test_an_attempt_that_has_no_directory_has_nothing_left(tmp_path: Path) -> None:
    assert AttemptDirectory(tmp_path / "none").kill(1)


def test_a_full_disk_keeps_the_directory_from_being_barred_for_so_long(directory: AttemptDirectory) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        assert not directory.kill(0.05), "a launch may still be on its way"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert directory.kill(0.05)
    assert directory.used
