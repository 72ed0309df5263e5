"""What holds for all tests: how Hypothesis searches, and that nobody leaves a process behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A deadline per example would measure the machine's other load. CI draws the same examples every
# time, so that a red run is about the change; people's machines go on looking for new ones.
settings.register_profile("person", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "person")

PROC = Path("/proc")
ENDING_S = 5.0  #: what a process may take to be gone after the test that ended it

# Children inherit these two variables, and so does what they start: unlike the parent's pid they
# survive a double fork. pytest itself sets the second, "tests/x.py::test_y (call)".
RUN, TEST = "SESSION_OF_TESTS", "PYTEST_CURRENT_TEST"


def pytest_configure(config: pytest.Config) -> None:
    os.environ[RUN] = f"{os.getpid()}-{time.time_ns()}"
    config.pluginmanager.register(_LastLook(), "last look")


def _started_in(pid: int) -> str:
    """Return the test of this run that started a process; empty if none did, or it is no more."""
    try:
        text = (PROC / str(pid) / "environ").read_bytes().decode(errors="replace")  # a zombie's is empty
    except OSError:
        return ""
    environment = {name: value for name, _, value in (item.partition("=") for item in text.split("\0"))}
    return environment.get(TEST, "") if environment.get(RUN) == os.environ[RUN] else ""


def _left(blamed: Callable[[str], bool], before: frozenset[int]) -> str:
    """Wait until no process is left that began after *before* in a test that is *blamed*.

    Return a line for each one that does not go away, empty if none.
    """
    deadline = time.monotonic() + ENDING_S
    while pids := [pid for pid in sorted(_pids() - before) if blamed(_started_in(pid))]:
        if time.monotonic() > deadline:
            return "\n".join(f"  {pid}: {_command(pid)}, started in {_started_in(pid)}" for pid in pids)
        time.sleep(0.02)
    return ""


def _pids() -> frozenset[int]:
    return frozenset(int(entry.name) for entry in PROC.glob("[0-9]*"))  # none where there is no /proc


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
    except OSError:
        return "(gone by now)"


@pytest.fixture(autouse=True)
def no_process_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test whose body started a process that is still there after all teardown.

    What fixtures start in the setup phase may serve other tests too: `_LastLook` sees to those.
    """
    before = _pids()
    yield
    here = f"{request.node.nodeid} (call)"
    if left := _left(here.__eq__, before):
        pytest.fail(f"the test left processes behind:\n{left}", pytrace=False)


class _LastLook:
    """At the end of the session: processes of any test or fixture that nobody ended."""

    story = ""

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.story = _left(bool, frozenset({os.getpid()}))
        if self.story:
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.story:
            terminalreporter.section("processes left behind", red=True)
            terminalreporter.line(self.story)
