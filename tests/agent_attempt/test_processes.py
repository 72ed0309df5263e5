"""Who a process is, whose child it is, and how all of them end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from agent_attempt.attempts import left
from waiting import wait_until

from sweepd import processes
from sweepd.processes import Process

REAPER = "from sweepd import processes; import os, subprocess, sys; processes.set_child_subreaper()\n"


def test_a_process_is_known_by_its_pid_and_its_start() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        process = processes.look_up(child.pid)
        assert process is not None
        assert processes.is_alive(process)
        assert not processes.is_alive(Process(child.pid, process.start_time + 1))
        assert processes.from_record(processes.to_record(process)) == process
        assert processes.from_record({**processes.to_record(process), "boot_id": "another"}) is None
        assert processes.from_record({}) is None
        assert not processes.signal_process(Process(child.pid, process.start_time + 1), signal.SIGKILL)
        assert processes.signal_process(process, signal.SIGKILL)
        # A zombie still has its pid, and is dead.
        wait_until(lambda: not processes.is_alive(process))
        assert processes.look_up(child.pid) is None
    finally:
        child.kill()
        child.wait()
    assert not processes.signal_process(process, signal.SIGKILL)


def test_a_command_may_be_called_anything(tmp_path: Path) -> None:
    """The name in /proc/PID/stat stands in parentheses, and may have some."""
    program = tmp_path / ") R 1 (x"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    try:
        wait_until(lambda: Path(f"/proc/{child.pid}/comm").read_text().startswith(") R 1"))
        assert child.pid in {one.pid for one in processes.descendants(os.getpid())}
    finally:
        child.kill()
        child.wait()


def test_descendants_that_get_away_from_their_parents_stay_descendants_of_a_subreaper() -> None:
    script = REAPER + (
        "subprocess.run(['sh', '-c', 'setsid sh -c \"sleep 60 & sleep 61\" & exit 0'])\n"
        "import time\n"
        "while len(processes.descendants(os.getpid())) < 3: time.sleep(0.01)\n"
        "print(len(processes.kill_descendants(os.getpid())), processes.descendants(os.getpid()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == ["3", "[]"], done.stderr


def test_a_chain_of_forks_does_not_outrun_the_kill() -> None:
    """Each link forks the next and ends: it is somebody else at every look."""
    hydra = "import os\nwhile True:\n    if os.fork(): os._exit(0)\n"
    script = REAPER + (
        f"argv = [sys.executable, '-c', {hydra!r}]\n"
        "for _ in range(2): subprocess.run(argv, start_new_session=True)\n"
        "processes.kill_descendants(os.getpid())\n"
        "try:\n"
        "    while os.wait(): pass\n"
        "except ChildProcessError:\n"
        "    print('nobody left')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stdout == "nobody left\n", done.stderr


def test_a_process_dies_with_its_parent() -> None:
    inner = (
        "from sweepd import processes; import signal, os, time, json\n"
        "processes.set_parent_death_signal(signal.SIGKILL)\n"
        "print(json.dumps(processes.look_up(os.getpid())), flush=True); time.sleep(60)\n"
    )
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    parent = subprocess.Popen([sys.executable, "-c", outer], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = Process(*json.loads(parent.stdout.readline()))
    assert processes.is_alive(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not processes.is_alive(child))


def test_processes_are_found_by_what_their_environment_says(tmp_path: Path) -> None:
    mark = str(tmp_path / "attempt.json")
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, "SWEEPD_ATTEMPT": mark})
    try:
        assert wait_until(lambda: processes.marked("SWEEPD_ATTEMPT", mark))[0].pid == child.pid
        assert left(tmp_path) == ["sleep 60 "]
        assert processes.marked("SWEEPD_ATTEMPT", mark[:-1]) == []
    finally:
        child.kill()
        child.wait()
