"""What a supervisor promises: one start, the end in time, nobody left, and the end written."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agent_attempt.attempts import (
    Agent,
    Attempts,
    end_of,
    left,
    output,
    run,
    supervise,
    wait_for_output,
)
from waiting import wait_until

from sweepd import processes
from sweepd_agent import supervise as supervision
from sweepd_agent.launch import files
from sweepd_agent.launch import line as line_of_agent

#: A shell that ignores SIGTERM for good: whatever it waits for is killed, and it waits again.
STUBBORN = "trap '' TERM; echo ready; while true; do sleep 60; done"


def test_the_end_of_a_job_is_written(attempts: Attempts) -> None:
    before = time.time()
    end = run(directory := attempts.shell("echo out; echo err >&2; exit 3"))
    assert end["code"] == 3
    assert end["signal"] is None
    assert end["reason"] == "exited"
    assert end["message"] == ""
    assert end["killed"] == []
    assert before <= end["started_at"] <= end["ended_at"] <= time.time()
    assert end["cpu_s"] > 0
    assert end["max_rss_mib"] > 0
    assert output(directory) == "out\nerr\n"
    assert not list(directory.glob("*.tmp"))


def test_a_job_that_is_killed_ends_with_the_signal(attempts: Attempts) -> None:
    end = run(attempts.shell("kill -9 $$"))
    assert (end["code"], end["signal"], end["reason"]) == (None, 9, "exited")


def test_the_supervisor_ends_as_the_job_did(attempts: Attempts) -> None:
    with supervise(attempts.shell("exit 3")) as supervisor:
        assert supervisor.wait() == 3
    with supervise(attempts.shell("kill -9 $$")) as supervisor:
        assert supervisor.wait() == 128 + 9


def test_a_megabyte_without_a_newline_is_output_like_any_other(attempts: Attempts) -> None:
    program = attempts.program("loud.py", "import sys; sys.stdout.write('x' * 2**20)")
    directory = attempts.make("command", ["python", program.name])
    assert run(directory)["code"] == 0
    assert output(directory) == "x" * 2**20


# --- one start -------------------------------------------------------------------------------------


def test_a_second_start_refuses_while_the_first_runs(attempts: Attempts) -> None:
    directory = attempts.shell("echo started; read x < fifo")
    os.mkfifo(attempts.workdir / "fifo")
    with supervise(directory) as first:
        wait_for_output(directory, "started")
        with supervise(directory) as second:
            assert second.wait() == supervision.ALREADY_USED
        (attempts.workdir / "fifo").write_text("go\n")
        assert first.wait() == 0
    assert output(directory) == "started\n"


def test_a_directory_is_used_once(attempts: Attempts) -> None:
    directory = attempts.shell("echo started")
    end = run(directory)
    with supervise(directory) as second:
        assert second.wait() == supervision.ALREADY_USED
    assert output(directory) == "started\n"
    assert end_of(directory) == end


def test_the_supervisor_can_be_found_by_another_agent(attempts: Attempts) -> None:
    directory = attempts.shell("sleep 60")
    with supervise(directory) as supervisor:
        record = json.loads(wait_until(lambda: _read(directory / "supervisor.json")))
        found = processes.from_record(record)
        assert found is not None
        assert found.pid == supervisor.pid
        processes.signal_process(found, signal.SIGTERM)
    assert end_of(directory)["reason"] == "stopped"


def test_detached_it_leaves_its_starter_alone(attempts: Attempts) -> None:
    directory = attempts.shell("echo started; read x < fifo")
    os.mkfifo(attempts.workdir / "fifo")
    with supervise(directory, "--detach") as starter:
        assert starter.wait(30) == 0
    assert (directory / "supervisor.json").exists()
    with supervise(directory, "--detach") as second:
        assert second.wait(30) == supervision.ALREADY_USED
    (attempts.workdir / "fifo").write_text("go\n")
    assert end_of(directory)["code"] == 0


# --- what cannot be started --------------------------------------------------------------------------


def test_a_program_that_is_missing_is_a_launch_error(attempts: Attempts) -> None:
    end = run(attempts.make("command", ["no-such-program"]))
    assert (end["code"], end["signal"], end["reason"]) == (None, None, "launch_error")
    assert "cannot start 'no-such-program'" in end["message"]
    assert "No such file or directory" in end["message"]


def test_a_working_directory_that_is_missing_is_named(attempts: Attempts) -> None:
    end = run(attempts.shell("true", workdir=str(attempts.workdir / "gone")))
    assert end["reason"] == "launch_error"
    assert f"{attempts.workdir / 'gone'} does not exist on this node: set task.workdir" in end["message"]


def test_an_attempt_file_that_is_broken_is_named(attempts: Attempts) -> None:
    directory = attempts.shell("true")
    (directory / "attempt.json").write_text("{")
    end = run(directory)
    assert end["reason"] == "launch_error"
    assert f"cannot read {directory / 'attempt.json'}" in end["message"]


def test_a_null_byte_in_an_argument_is_a_launch_error(attempts: Attempts) -> None:
    end = run(attempts.make("command", ["echo", "{x}"], {"x": "a\0b"}))
    assert end["reason"] == "launch_error"
    assert "null byte" in end["message"]


def test_a_mistake_in_the_supervisor_still_kills_and_tells(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run in a fork of this process, where the mistake can be made."""
    directory = attempts.shell(STUBBORN)

    def fail(*_: object) -> None:
        wait_for_output(directory, "ready")
        raise RuntimeError("a bug")

    monkeypatch.setattr(supervision.Supervisor, "_decide", fail)
    pid = os.fork()
    if pid == 0:
        os._exit(supervision.main([str(directory)]))
    os.waitpid(pid, 0)
    end = end_of(directory)
    assert end["reason"] == "launch_error"
    assert "a bug" in end["message"]
    assert end["signal"] == 9


@pytest.mark.parametrize("arguments", [[], ["--what"], ["a", "b"], ["a", "--ready"]])
def test_a_wrong_command_line_shows_the_right_one(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="supervise DIRECTORY"):
        supervision.parse(arguments)


# --- stopping ----------------------------------------------------------------------------------------


def test_a_stop_from_the_agent_lets_the_job_say_goodbye(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.shell("trap 'echo bye; exit 0' TERM; echo ready; while true; do sleep 0.01; done")
    with supervise(directory) as supervisor:
        wait_for_output(directory, "ready")
        line = agent.next("supervisor")
        assert line.received[0]["token"] == "token-1"
        assert line.received[0]["pid"] == supervisor.pid
        assert line.received[0]["job"] in {one.pid for one in processes.descendants(supervisor.pid)}
        line.send({"type": "stop", "grace_s": 30})
    end = end_of(directory)
    assert (end["code"], end["reason"], end["killed"]) == (0, "stopped", [])
    assert output(directory).endswith("bye\n")
    wait_until(lambda: line.closed)


def test_what_ignores_the_stop_is_killed_after_the_grace_of_the_order(
    attempts: Attempts, agent: Agent
) -> None:
    directory = attempts.shell(STUBBORN, grace_s=600)
    with supervise(directory):
        wait_for_output(directory, "ready")
        agent.next("supervisor").send({"type": "stop", "grace_s": 0.2})
    end = end_of(directory)
    assert (end["signal"], end["reason"]) == (9, "stopped")
    assert end["killed"]


def test_sigterm_is_a_stop_and_a_second_one_changes_nothing(attempts: Attempts) -> None:
    directory = attempts.shell(STUBBORN, grace_s=0.5)
    with supervise(directory) as supervisor:
        wait_for_output(directory, "ready")
        supervisor.send_signal(signal.SIGTERM)
        supervisor.send_signal(signal.SIGTERM)
        supervisor.send_signal(signal.SIGINT)
    end = end_of(directory)
    assert (end["signal"], end["reason"]) == (9, "stopped")


def test_a_later_order_may_be_in_more_of_a_hurry(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.shell(STUBBORN)
    with supervise(directory):
        wait_for_output(directory, "ready")
        line = agent.next("supervisor")
        line.send({"type": "stop", "grace_s": 600})
        line.send({"type": "stop", "grace_s": 0})
    assert end_of(directory)["reason"] == "stopped"


def test_a_process_is_asked_to_end_once(attempts: Attempts, agent: Agent) -> None:
    """To many programs a second SIGTERM means: at once."""
    program = attempts.program(
        "count.py",
        "import signal, sys, time\n"
        "seen = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: seen.append(1))\n"
        "print('ready', flush=True)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.2)\n"
        "print(len(seen), flush=True)\n",
    )
    directory = attempts.make("command", ["python", program.name])
    with supervise(directory) as supervisor:
        wait_for_output(directory, "ready")
        line = agent.next("supervisor")
        line.send({"type": "stop", "grace_s": 30})
        supervisor.send_signal(signal.SIGTERM)
    assert end_of(directory)["code"] == 0
    assert output(directory) == "ready\n1\n"


def test_the_time_limit_ends_a_job(attempts: Attempts) -> None:
    directory = attempts.shell(STUBBORN, time_limit_s=0.3, grace_s=0.1)
    end = run(directory)
    assert (end["signal"], end["reason"]) == (9, "deadline")
    assert end["message"] == "the time limit of 0.3 s was reached"
    assert 0.4 <= end["ended_at"] - end["started_at"] < 20


def test_a_job_that_ends_in_time_is_not_late(attempts: Attempts) -> None:
    end = run(attempts.shell("exit 0", time_limit_s=30))
    assert (end["code"], end["reason"], end["message"]) == (0, "exited", "")


# --- nobody is left ----------------------------------------------------------------------------------

STUBBORN_CHILD = """sh -c "trap '' TERM; touch up; while true; do sleep 60; done" """
FAMILIES = {
    "a child that ignores SIGTERM": f"{STUBBORN_CHILD} &",
    "a grandchild whose parent ended": "sh -c 'sleep 60 & touch up'",
    "a child in a session of its own": "setsid sh -c 'touch up; exec sleep 60' &",
    "a daemon: double fork, own session, ignores SIGTERM": f"(setsid {STUBBORN_CHILD} > /dev/null 2>&1 &)",
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_descendants_end_with_their_job(attempts: Attempts, family: str) -> None:
    directory = attempts.shell(f"{family}\nwhile [ ! -e up ]; do sleep 0.01; done", grace_s=0.2)
    end = run(directory)
    assert (end["code"], end["reason"]) == (0, "exited")
    assert bool(end["killed"]) == ("TERM" in family)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
def test_descendants_end_when_their_job_is_stopped(attempts: Attempts, agent: Agent, family: str) -> None:
    directory = attempts.shell(f"{family}\nsleep 60", grace_s=60)
    with supervise(directory):
        wait_until((attempts.workdir / "up").exists)
        agent.next("supervisor").send({"type": "stop", "grace_s": 0.2})
    end = end_of(directory)
    assert (end["signal"], end["reason"]) == (15, "stopped")
    assert bool(end["killed"]) == ("TERM" in family)


def test_a_storm_of_forks_ends_with_its_job(attempts: Attempts) -> None:
    program = attempts.program(
        "storm.py",
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork(): os._exit(0)\n"
        "while True:\n"
        "    if os.fork(): os._exit(0)\n",
    )
    run(attempts.make("command", ["python", program.name], grace_s=0.1))


def test_a_job_dies_with_a_supervisor_that_is_killed(attempts: Attempts) -> None:
    directory = attempts.shell("echo started; exec sleep 60")
    with supervise(directory) as supervisor:
        wait_for_output(directory, "started")
        supervisor.kill()
    wait_until(lambda: not left(directory))
    assert not (directory / "exit.json").exists()


# --- without the agent -------------------------------------------------------------------------------


def test_it_works_without_an_agent(attempts: Attempts) -> None:
    assert run(attempts.shell("true"))["code"] == 0


def test_it_comes_back_to_an_agent_that_comes_back(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.shell("sleep 60")
    with supervise(directory) as supervisor:
        agent.next("supervisor")
        agent.go_away()
        agent.lines.clear()
        agent.listen()
        line = agent.next("supervisor")
        assert line.received[0]["pid"] == supervisor.pid
        line.send({"type": "stop", "grace_s": 5})
    assert end_of(directory)["reason"] == "stopped"


def test_nonsense_from_the_channel_is_ignored(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.shell("sleep 60")
    with supervise(directory):
        line = agent.next("supervisor")
        line.send_raw(b'nonsense\n[1]\n{"type": "hello"}\n{"type": "stop", "gra')
        line.send_raw(b'ce_s": 5}\n')
    assert end_of(directory)["reason"] == "stopped"


def test_an_agent_that_never_ends_its_line_is_left(attempts: Attempts, agent: Agent) -> None:
    directory = attempts.shell("sleep 60")
    with supervise(directory):
        line = agent.next("supervisor")
        line.send_raw(b"x" * 3 * line_of_agent.LINE_LIMIT)
        wait_until(lambda: line.closed)
        agent.next("supervisor", 2).send({"type": "stop", "grace_s": 5})
    assert end_of(directory)["reason"] == "stopped"


# --- a full disk -------------------------------------------------------------------------------------


def test_an_end_that_cannot_be_written_is_tried_again(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = attempts.shell("exit 3")
    tried: list[int] = []
    write = os.pwrite

    def full(file: int, data: bytes, offset: int) -> int:
        if b"cpu_s" in data:
            tried.append(1)
            if len(tried) < 3:
                raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    pid = os.fork()
    if pid == 0:
        os._exit(supervision.main([str(directory)]))
    os.waitpid(pid, 0)
    assert end_of(directory)["code"] == 3


def test_the_space_of_the_end_is_taken_before_the_job_can_fill_the_disk(attempts: Attempts) -> None:
    directory = attempts.shell("echo ready; sleep 60")
    with supervise(directory) as supervisor:
        wait_for_output(directory, "ready")
        path = directory / "exit.json.tmp"
        wait_until(lambda: path.exists() and path.stat().st_blocks * 512 >= files.RESERVE_BYTES)
        supervisor.send_signal(signal.SIGTERM)
    end_of(directory)
    assert (directory / "exit.json").stat().st_size < 1024


# --- small ---------------------------------------------------------------------------------------------


def test_it_stays_small() -> None:
    """One runs per attempt, so what it imports counts."""
    bare = _modules("")
    ours = _modules("import sweepd_agent.supervise") - bare
    assert ours & {"fcntl", "ctypes"}
    assert not ours & {"pathlib", "subprocess", "argparse", "asyncio", "msgspec", "logging", "threading"}
    foreign = {name.partition(".")[0] for name in ours} - sys.stdlib_module_names
    assert foreign == {"sweepd", "sweepd_agent"}


def _modules(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-I", "-c", script], check=True, capture_output=True, text=True)
    return {*done.stdout.split()}


def _read(path: Path) -> Any:
    return path.read_text() if path.exists() else None
