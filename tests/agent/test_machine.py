"""The machine, the state directory, and the interpreters of jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sweepd
from sweepd.errors import UsageError
from sweepd.messages import Job
from sweepd_agent import machine
from sweepd_agent.interpreters import Interpreters
from sweepd_agent.state import agent_id, owned


def test_the_machine_has_processors_memory_and_a_name() -> None:
    assert 0 < machine.cpus() <= (os.cpu_count() or 1)
    assert 0 < machine.memory_mib() < 2**30
    assert machine.oom_kills() >= 0
    assert machine.host()


@pytest.mark.parametrize(
    ("cpu", "memory", "cpus", "memory_mib"),
    [
        ("max 100000", "max", None, None),
        ("50000 100000", "268435456", 0.5, 256),
        ("nonsense", "", None, None),
        ("999900000 100000", str(2**60), None, None),
    ],
)
def test_the_limits_of_a_container_count(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu: str,
    memory: str,
    cpus: float | None,
    memory_mib: int | None,
) -> None:
    for name, text in (("_CGROUP_CPU", cpu), ("_CGROUP_MEMORY", memory)):
        file = tmp_path / name
        file.write_text(text + "\n")
        monkeypatch.setattr(machine, name, file)
    installed_mib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    assert machine.cpus() == (cpus or len(os.sched_getaffinity(0)))
    assert machine.memory_mib() == (memory_mib or installed_mib)


def test_a_state_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    state = tmp_path / "a" / "b"
    with owned(state) as directory:
        assert directory == state
        assert state.stat().st_mode & 0o777 == 0o700
        with pytest.raises(UsageError, match=f"another agent \\(process {os.getpid()}\\)"), owned(state):
            pass
    with owned(state):
        pass


def test_a_state_directory_that_cannot_be_made_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="--state"), owned(tmp_path / "file" / "state"):
        pass


@pytest.mark.parametrize(
    ("host", "start"),
    [("node7.cluster.example", "node7-"), ("weird host!", "weird-host-"), ("---", "agent-"), ("", "agent-")],
)
def test_an_agents_name_begins_with_its_host_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, start: str
) -> None:
    monkeypatch.setattr("sweepd_agent.state.host", lambda: host)
    name = agent_id(tmp_path)
    assert name.startswith(start)
    monkeypatch.setattr("sweepd_agent.state.host", lambda: "renamed")
    assert agent_id(tmp_path) == name


def job(python: str | None, workdir: str = "/") -> Job:
    return Job("command", ["true"], python=python, workdir=workdir)


def fake_python(path: Path, has_sweepd: bool) -> str:
    """An interpreter that counts how often it is asked."""
    path.write_text(f"#!/bin/sh\necho asked >> {path}.asked\nexit {0 if has_sweepd else 1}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("has_sweepd", [True, False])
def test_an_interpreter_without_sweepd_gets_it_and_nothing_else(tmp_path: Path, has_sweepd: bool) -> None:
    interpreters = Interpreters(tmp_path)
    python = fake_python(tmp_path / "python", has_sweepd)
    paths = {interpreters.sweepd_path(job(python)) for _ in range(3)}
    assert (tmp_path / "python.asked").read_text() == "asked\n", "once is enough"
    if has_sweepd:
        assert paths == {None}
        return
    [path] = paths
    assert path is not None
    assert [entry.name for entry in path.iterdir()] == ["sweepd"]
    assert (path / "sweepd").resolve() == Path(sweepd.__file__).parent
    found = subprocess.run(
        [sys.executable, "-S", "-c", "import sweepd; print(sweepd.__file__)"],
        env={"PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.startswith(str(path))


def test_our_own_interpreter_needs_nothing_and_is_not_asked(tmp_path: Path) -> None:
    assert Interpreters(tmp_path).sweepd_path(job(None)) is None
    assert Interpreters(tmp_path).sweepd_path(job(sys.executable)) is None


def test_an_interpreter_is_found_from_the_jobs_working_directory_or_by_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    fake_python(tmp_path / "bin" / "snake", has_sweepd=False)
    assert Interpreters(tmp_path).sweepd_path(job("bin/snake", str(tmp_path))) == tmp_path / "path"
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    assert Interpreters(tmp_path).sweepd_path(job("snake")) == tmp_path / "path"


def test_an_interpreter_that_does_not_run_is_left_to_the_launch(tmp_path: Path) -> None:
    interpreters = Interpreters(tmp_path)
    assert interpreters.sweepd_path(job(str(tmp_path / "python"))) is None
    fake_python(tmp_path / "python", has_sweepd=False)
    assert interpreters.sweepd_path(job(str(tmp_path / "python"))) is not None, "it is asked again"


def test_a_link_to_an_earlier_installation_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sweepd").symlink_to("/nonexistent")
    path = Interpreters(tmp_path).sweepd_path(job(fake_python(tmp_path / "python", has_sweepd=False)))
    assert path is not None
    assert (path / "sweepd").resolve() == Path(sweepd.__file__).parent
