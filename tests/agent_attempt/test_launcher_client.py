"""The agent's end of the launcher, against launchers that behave badly."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from agent_attempt.attempts import Attempts, end_of
from waiting import wait_until_async

from sweepd.states import FailureClass
from sweepd_agent.launch import client
from sweepd_agent.launch.client import Launcher, LaunchError, spawn_process

#: What stands for an interpreter: it counts its starts in a file beside it.
HEAD = f"""#!{sys.executable}
import json, os, sys, time
from pathlib import Path
starts = Path(__file__).with_name("starts")
starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
start = len(starts.read_text())
def say(**message): print(json.dumps(message), flush=True)
def requests(): return map(json.loads, sys.stdin)
"""


@pytest.fixture
def stub(tmp_path: Path) -> Callable[[str], str]:
    def stub(body: str) -> str:
        path = tmp_path / "python"
        path.write_text(HEAD + body)
        path.chmod(0o755)
        return str(path)

    return stub


def with_launcher(tmp_path: Path, python: str, use: Callable[[Launcher], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Launcher(tmp_path / "launcher", python) as launcher:
            await use(launcher)

    anyio.run(main)


def starts(tmp_path: Path) -> int:
    return len((tmp_path / "starts").read_text())


def test_answers_find_who_asked(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub(
        "say(ready=True, nemo_run='1.2')\n"
        "asked = []\n"
        "for request in requests():\n"
        "    asked.append(request)\n"
        "    if len(asked) == 3:\n"
        "        for one in reversed(asked):\n"
        "            good = 'good' in one['attempt']\n"
        "            say(id=one['id'], ok=good, **{'class': 'bad_config', 'error': one['attempt']})\n"
    )
    refused: list[tuple[FailureClass, str]] = []

    async def use(launcher: Launcher) -> None:
        async def launch(name: str) -> None:
            try:
                await launcher.launch(tmp_path / name)
            except LaunchError as error:
                refused.append((error.failure, str(error)))

        assert await launcher.warm_up() == "1.2"
        async with anyio.create_task_group() as tasks:
            for name in ("good", "one", "two"):
                tasks.start_soon(launch, name)

    with_launcher(tmp_path, python, use)
    assert sorted(refused) == [
        (FailureClass.BAD_CONFIG, str(tmp_path / name / "attempt.json")) for name in ("one", "two")
    ]
    assert starts(tmp_path) == 1


def test_a_launcher_without_nemo_run_says_so_each_time(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub("say(ready=False, error='install it')\n")

    async def use(launcher: Launcher) -> None:
        for _ in range(2):
            with pytest.raises(LaunchError, match="install it"):
                await launcher.launch(tmp_path)

    with_launcher(tmp_path, python, use)
    assert starts(tmp_path) == 2  # somebody may have installed it meanwhile


def test_a_launcher_that_dies_at_its_start_is_quoted(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub("sys.exit('no module called this')\n")

    async def use(launcher: Launcher) -> None:
        with pytest.raises(LaunchError, match="died while it imported nemo_run; it wrote:\nno module called"):
            await launcher.launch(tmp_path)

    with_launcher(tmp_path, python, use)


def test_a_launcher_that_is_never_ready_is_ended(
    tmp_path: Path, stub: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "WARM_UP_S", 0.3)
    monkeypatch.setattr(client, "GOODBYE_S", 0.1)
    python = stub("time.sleep(60)\n")

    async def use(launcher: Launcher) -> None:
        with pytest.raises(LaunchError, match=r"not ready after 0\.3 s"):
            await launcher.launch(tmp_path)

    with_launcher(tmp_path, python, use)


def test_what_a_wrapper_prints_before_is_passed_over(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub(
        "print('activating the environment', flush=True)\n"
        "print(1, flush=True)\n"
        "say(ready=True, nemo_run='1')\n"
        "for request in requests(): say(id=request['id'], ok=True)\n"
    )
    with_launcher(tmp_path, python, lambda launcher: launcher.launch(tmp_path))


def test_after_a_death_another_is_asked_once(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub(
        "say(ready=True, nemo_run='1')\n"
        "for request in requests():\n"
        "    if start == 1: sys.exit(1)\n"
        "    say(id=request['id'], ok=True)\n"
    )
    with_launcher(tmp_path, python, lambda launcher: launcher.launch(tmp_path))
    assert starts(tmp_path) == 2


def test_after_two_deaths_the_attempt_is_refused(tmp_path: Path, stub: Callable[[str], str]) -> None:
    python = stub(
        "say(ready=True, nemo_run='1')\nfor request in requests():\n    sys.exit('I fell over it')\n"
    )

    async def use(launcher: Launcher) -> None:
        with pytest.raises(LaunchError, match="the launcher died; it wrote:\nI fell over it"):
            await launcher.launch(tmp_path)

    with_launcher(tmp_path, python, use)
    assert starts(tmp_path) == 2


def test_an_attempt_that_started_before_the_death_is_not_started_again(
    tmp_path: Path, stub: Callable[[str], str]
) -> None:
    python = stub(
        "say(ready=True, nemo_run='1')\n"
        "for request in requests():\n"
        "    Path(request['attempt']).with_name('supervisor.json').write_text('{}')\n"
        "    sys.exit(1)\n"
    )
    with_launcher(tmp_path, python, lambda launcher: launcher.launch(tmp_path))
    assert starts(tmp_path) == 1


def test_an_attempt_that_the_dead_launcher_started_late_is_started(
    tmp_path: Path, stub: Callable[[str], str]
) -> None:
    python = stub(
        "say(ready=True, nemo_run='1')\n"
        "for request in requests():\n"
        "    if start == 1: sys.exit(1)\n"
        "    Path(request['attempt']).with_name('supervisor.json').write_text('{}')\n"
        "    say(id=request['id'], ok=False, **{'class': 'launch_error', 'error': 'started before'})\n"
    )
    with_launcher(tmp_path, python, lambda launcher: launcher.launch(tmp_path))
    assert starts(tmp_path) == 2


def test_an_answer_that_never_comes_is_not_waited_for(
    tmp_path: Path, stub: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LAUNCH_S", 0.3)
    monkeypatch.setattr(client, "GOODBYE_S", 0.1)
    python = stub("say(ready=True, nemo_run='1')\nfor request in requests():\n    time.sleep(60)\n")

    async def use(launcher: Launcher) -> None:
        with pytest.raises(LaunchError, match=r"did not answer for 0\.3 s"):
            await launcher.launch(tmp_path)

    with_launcher(tmp_path, python, use)


def test_another_interpreter_gets_our_two_packages_and_no_more(
    tmp_path: Path, stub: Callable[[str], str]
) -> None:
    python = stub(
        "links = os.environ['PYTHONPATH'].split(os.pathsep)[-1]\n"
        "sys.path.insert(0, links)\n"
        "import sweepd, sweepd_agent\n"
        "assert sweepd.__file__.startswith(links) and sweepd_agent.__file__.startswith(links)\n"
        "say(ready=True, nemo_run=' '.join(sorted(os.listdir(links))))\n"
        "for request in requests(): pass\n"
    )

    async def use(launcher: Launcher) -> None:
        assert await launcher.warm_up() == "sweepd sweepd_agent"

    with_launcher(tmp_path, python, use)
    with_launcher(tmp_path, python, use)


def test_a_cancelled_agent_takes_its_launcher_along(tmp_path: Path, stub: Callable[[str], str]) -> None:
    """The fixture of all tests looks for what is left."""
    python = stub("say(ready=True, nemo_run='1')\nfor request in requests(): pass\n")

    async def main() -> None:
        with anyio.move_on_after(30) as scope:
            async with Launcher(tmp_path / "launcher", python) as launcher:
                await launcher.warm_up()
                scope.cancel()
                await anyio.sleep_forever()

    anyio.run(main)


def test_a_plain_process_needs_no_launcher(attempts: Attempts) -> None:
    directory = attempts.shell("exit 3")
    anyio.run(spawn_process, directory)
    assert (directory / "supervisor.json").exists()
    assert end_of(directory)["code"] == 3
    with pytest.raises(
        LaunchError, match=r"ended with code 75: supervise: .* an attempt runs once"
    ) as caught:
        anyio.run(spawn_process, directory)
    assert caught.value.failure is FailureClass.LAUNCH_ERROR


def test_a_warm_up_that_is_given_up_leaves_no_child(tmp_path: Path, stub: Callable[[str], str]) -> None:
    """An agent that is stopped while nemo_run is imported does not wait for the import."""
    pid = tmp_path / "pid"
    python = stub(f"Path({str(pid)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n")

    async def use(launcher: Launcher) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(launcher.warm_up)
            await wait_until_async(lambda: pid.exists() and pid.read_text())
            tasks.cancel_scope.cancel()
        await wait_until_async(lambda: not Path(f"/proc/{pid.read_text()}").exists())

    with_launcher(tmp_path, python, use)
