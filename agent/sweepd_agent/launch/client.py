"""Start attempts: through the warm launcher child, or as plain processes.

When one of these has returned, a supervisor has held the lock of the attempt's directory and will
write its `exit.json`, or has. When it has raised :class:`LaunchError`, the attempt has not started;
it may still do so after a timeout, unless the caller uses its directory up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import anyio
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from sweepd.errors import SweepdError
from sweepd.states import FailureClass

WARM_UP_S = 120.0  #: importing nemo_run takes a second, or ten times that on a cold and busy disk
LAUNCH_S = 60.0
GOODBYE_S = 5.0

_LINE_LIMIT = 1024 * 1024


class LaunchError(SweepdError):
    """The attempt cannot be started; `failure` is its class and the message says why."""

    def __init__(self, failure: FailureClass, message: str) -> None:
        self.failure = failure
        super().__init__(message)


async def spawn_process(attempt: Path) -> None:
    """Start the supervisor of the attempt in the directory *attempt*, without NeMo Run.

    Raises :class:`LaunchError`.
    """
    command = [sys.executable, "-I", "-m", "sweepd_agent.supervise", "--detach", str(attempt)]
    done = await anyio.run_process(command, stderr=subprocess.STDOUT, check=False, start_new_session=True)
    if done.returncode != 0:
        told = done.stdout.decode(errors="replace").strip()
        problem = f"the supervisor ended with code {done.returncode}: {told}"
        raise LaunchError(FailureClass.LAUNCH_ERROR, problem)


class Launcher:
    """The launcher child, as the agent sees it: started when first needed, and again when it died.

    An async context manager; leaving it ends the child, and no job.
    """

    def __init__(self, home: Path, python: str = sys.executable) -> None:
        """*home*: a directory of the child's own, made if needed. *python*: one that has nemo_run."""
        self._home = home
        self._python = python
        self._starting = anyio.Lock()
        self._child: _Child | None = None
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Launcher:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        with anyio.CancelScope(shield=True):
            if self._child is not None:
                await self._child.close()
        await self._tasks.__aexit__(kind, error, trace)

    async def warm_up(self) -> str:
        """Have the child running and return its version of nemo_run; raises :class:`LaunchError`."""
        return (await self._running()).version

    async def launch(self, attempt: Path) -> None:
        """Start the attempt in the directory *attempt*; raises :class:`LaunchError`.

        If the child dies meanwhile, a new one is asked once more, unless the attempt had started.
        """
        problem = ""
        for _ in range(2):
            child = await self._running()
            try:
                with anyio.fail_after(LAUNCH_S):
                    answer = await child.ask({"op": "launch", "attempt": str(attempt / "attempt.json")})
            except TimeoutError:
                problem = f"the launcher did not answer for {LAUNCH_S:g} s{child.told()}"
                break
            except ChildProcessError as error:
                if (attempt / "supervisor.json").exists():
                    return
                problem = str(error)
            else:
                # The forks of a child that died go on: the first one may win after all.
                if answer["ok"] or (attempt / "supervisor.json").exists():
                    return
                raise LaunchError(FailureClass(answer["class"]), answer["error"])
        raise LaunchError(FailureClass.LAUNCH_ERROR, problem)

    async def _running(self) -> _Child:
        async with self._starting:
            if self._child is None or self._child.dead:
                self._child = await self._start()
            return self._child

    async def _start(self) -> _Child:
        assert self._tasks is not None, "a Launcher is used inside `async with`"
        self._home.mkdir(parents=True, exist_ok=True)
        child = await _Child.start(self._home, self._python)
        self._tasks.start_soon(child.listen)
        try:
            with anyio.fail_after(WARM_UP_S):
                await child.ready.wait()
        except TimeoutError:
            await child.close()
            raise LaunchError(
                FailureClass.LAUNCH_ERROR, f"the launcher was not ready after {WARM_UP_S:g} s{child.told()}"
            ) from None
        except anyio.get_cancelled_exc_class():
            # Nobody else knows of the child yet, and one that imports does not listen.
            with anyio.CancelScope(shield=True):
                await child.kill()
            raise
        if child.problem:
            await child.close()
            raise LaunchError(FailureClass.LAUNCH_ERROR, child.problem)
        return child


class _Child:
    """One launcher process."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log
        self._sending = anyio.Lock()
        self._asked = 0
        self._waiting: dict[int, anyio.Event] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self.ready = anyio.Event()
        self.ended = anyio.Event()
        self.version = ""
        self.problem = ""

    @property
    def dead(self) -> bool:
        return self.ended.is_set()

    @classmethod
    async def start(cls, home: Path, python: str) -> _Child:
        log = home / "stderr.log"
        with log.open("wb") as stderr:
            process = await anyio.open_process(
                [python, "-m", "sweepd_agent.launch", "--supervisor", sys.executable],
                stderr=stderr,
                cwd=home,
                env=_environment(home, python),
                start_new_session=True,
            )
        return cls(process, log)

    async def listen(self) -> None:
        """Take what the child says until it ends; then it is buried, and whoever waits is told."""
        assert self._process.stdout is not None
        lines = BufferedByteReceiveStream(self._process.stdout)
        try:
            while True:
                message = _object(await lines.receive_until(b"\n", _LINE_LIMIT))
                if "ready" in message:
                    self.version, self.problem = message.get("nemo_run", ""), message.get("error", "")
                    self.ready.set()
                elif message.get("id") in self._waiting:
                    self._answers[message["id"]] = message
                    self._waiting[message["id"]].set()
        except (anyio.EndOfStream, anyio.IncompleteRead):
            pass
        finally:
            self.ended.set()
            with anyio.CancelScope(shield=True):
                await self._bury()
            if not self.ready.is_set():
                self.problem = f"the launcher died while it imported nemo_run{self.told()}"
                self.ready.set()
            for event in self._waiting.values():
                event.set()

    async def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to *request*; raises ChildProcessError if the child died before it came."""
        self._asked += 1
        asked = self._asked
        answered = self._waiting[asked] = anyio.Event()
        try:
            if not self.dead:
                await self._send({"id": asked, **request})
                await answered.wait()
            if asked not in self._answers:
                raise ChildProcessError(f"the launcher died{self.told()}")
            return self._answers.pop(asked)
        finally:
            del self._waiting[asked]

    async def close(self) -> None:
        """End the child: at the end of its input, or by a signal if it does not listen."""
        assert self._process.stdin is not None
        if self.dead:
            return
        await self._process.stdin.aclose()
        with anyio.move_on_after(GOODBYE_S):
            await self.ended.wait()
        await self.kill()

    async def kill(self) -> None:
        """End the child at once, unless it has ended."""
        if not self.dead:
            self._process.kill()
            await self.ended.wait()

    async def _bury(self) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        with anyio.move_on_after(GOODBYE_S):
            # Not killed at once: a signal to one that is dying takes its end away from asyncio.
            await self._process.wait()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.aclose()

    def told(self) -> str:
        """Return the end of what the child wrote to its stderr, to be added to a message."""
        try:
            text = self._log.read_text(errors="replace").strip()
        except OSError:
            return ""
        return f"; it wrote:\n{text[-2000:]}" if text else ""

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        async with self._sending:
            try:
                await self._process.stdin.send(json.dumps(message).encode() + b"\n")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass  # `listen` sees the end as well, and tells.


def _object(line: bytes) -> dict[str, Any]:
    """Return the JSON object on *line*; an empty one if that is none, as a wrapper's banner."""
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _environment(home: Path, python: str) -> dict[str, str]:
    """Return the environment of the child, which jobs inherit: the agent's.

    An interpreter that is not ours does not have our packages. It gets links to these two and
    to nothing else that is installed here.
    """
    environment = dict(os.environ)
    if python == sys.executable:
        return environment
    import sweepd
    import sweepd_agent

    links = home / "path"
    links.mkdir(exist_ok=True)
    for package in (sweepd, sweepd_agent):
        assert package.__file__ is not None
        link = links / package.__name__
        link.unlink(missing_ok=True)
        link.symlink_to(Path(package.__file__).parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [environment.get("PYTHONPATH"), str(links)]))
    return environment
