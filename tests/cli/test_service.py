"""Parts that die, and what outlives whom."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from waiting import wait_until

from sweepd import processes
from sweepd.cli import service
from sweepd.cli.service import RESTARTS, DaemonDied, Service
from sweepd.statedir import Purpose, StateDirectory

Scripts = Callable[[str, str], None]


@pytest.fixture
def directory(tmp_path: Path) -> StateDirectory:
    made = StateDirectory.at(tmp_path / "state")
    made.create()
    return made


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Scripts:
    """Set what the coordinator and the agent do: a line of Python each."""
    chosen: dict[str, str] = {}

    def module_command(module: str, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", chosen[module], *arguments]

    monkeypatch.setattr(service, "module_command", module_command)

    def choose(coordinator: str, agent: str) -> None:
        chosen.update({service.COORDINATOR: coordinator, service.AGENT: agent})

    return choose


SERVE = "import time; time.sleep(600)"
DIE = "print('one\\ntwo'); raise SystemExit(5)"


def test_a_part_that_keeps_ending_is_given_up_with_its_last_words(
    directory: StateDirectory, scripts: Scripts
) -> None:
    scripts(SERVE, DIE)
    told: list[str] = []
    running = Service(directory, Purpose.RUN, redis="redis://127.0.0.1:1/0", slots=1, notice=told.append)

    with running, pytest.raises(DaemonDied) as error:
        wait_until(lambda: running.check(), 20)  # returns nothing until it raises
    assert str(error.value).startswith("the agent ended (exit 5):\n  one\n  two")
    assert str(error.value).endswith(str(directory.logs / "agent.log"))
    assert told == [f"the agent ended (exit 5); starting it again ({n} of 3)" for n in (1, 2, RESTARTS)]


def test_without_slots_there_is_no_agent(directory: StateDirectory, scripts: Scripts) -> None:
    scripts(SERVE, DIE)
    with Service(directory, Purpose.RUN, redis="redis://127.0.0.1:1/0", slots=0):
        assert not (directory.logs / "agent.log").exists()
        assert (directory.logs / "coordinator.log").exists()


def test_parts_are_told_what_they_need_and_one_port_is_not_given_to_two(
    directory: StateDirectory, scripts: Scripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPD_METRICS_PORT", "9100")
    told = "import os, sys, time; print(sys.argv[1:], 'SWEEPD_METRICS_PORT' in os.environ, flush=True); "
    scripts(told + "time.sleep(600)", told + "time.sleep(600)")
    with Service(directory, Purpose.RUN, redis="redis://h/0", namespace="mine", slots=3):
        agent = directory.logs / "agent.log"
        wait_until(lambda: agent.exists() and agent.read_text().endswith("\n"), 20)
        assert agent.read_text() == (
            f"['--redis', 'redis://h/0', '--namespace', 'mine', "
            f"'--state', {str(directory.agent)!r}, '--slots', '3'] False\n"
        )


def test_the_agent_is_stopped_before_the_coordinator_and_the_store(
    directory: StateDirectory, scripts: Scripts
) -> None:
    order = directory.path / "order"
    end = (
        "import signal, sys, time\n"
        "def end(*_):\n"
        f"    with open({str(order)!r}, 'a') as file: file.write(NAME + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    scripts("NAME = 'coordinator'\n" + end, "NAME = 'agent'\n" + end)
    with Service(directory, Purpose.RUN, slots=1):
        for name in ("agent", "coordinator"):
            log = directory.logs / f"{name}.log"
            wait_until(lambda log=log: log.exists() and "ready" in log.read_text(), 20)
    assert order.read_text() == "agent coordinator "
    assert not directory.store_file.exists()


GUARDED = """
import subprocess, sys
from sweepd.cli.guard import guarded
sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
older = subprocess.Popen(sleep)
detach = f"import subprocess; subprocess.Popen({sleep!r}, start_new_session=True); print('ready', flush=True)"
def work():
    subprocess.run([sys.executable, "-c", detach])
guarded(work)
print(older.pid, flush=True)
sys.stdin.readline()
older.kill()
"""


def test_what_a_command_started_ends_with_it_and_what_was_there_before_does_not() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        older = int(command.stdout.readline())
        assert [process.pid for process in processes.descendants(command.pid)] == [older]
        command.communicate("enough\n", timeout=20)
