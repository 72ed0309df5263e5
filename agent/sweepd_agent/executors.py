"""How an attempt is started, by the executor its study names.

`local` is a NeMo Run experiment, made by the warm launcher child; `process` is a plain process.
Neither stands in for the other: what cannot be started as asked is refused, with the remedy.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

from sweepd.states import FailureClass
from sweepd_agent.launch.client import Launcher, LaunchError, spawn_process

log = logging.getLogger("sweepd.agent")


class Executors:
    """See the module; `opened` makes one."""

    def __init__(self, launcher: Launcher, nemo_python: str) -> None:
        self._launcher, self._python = launcher, nemo_python

    @classmethod
    @asynccontextmanager
    async def opened(cls, home: Path, nemo_python: str) -> AsyncGenerator[Executors]:
        """Leaving this ends the launcher child, and no job. *home*: a directory of the launcher's own."""
        async with Launcher(home, nemo_python) as launcher:
            yield cls(launcher, nemo_python)

    async def warm_up(self) -> None:
        """Have the launcher import nemo_run ahead of the first attempt, where there is a nemo_run."""
        if self._python == sys.executable and find_spec("nemo_run") is None:
            log.info("launcher.none reason=nemo_run is not installed: only executor process can run here")
            return
        try:
            version = await self._launcher.warm_up()
        except (LaunchError, OSError) as error:
            log.warning("launcher.cold python=%s error=%s", self._python, error)
        else:
            log.info("launcher.warm python=%s nemo_run=%s", self._python, version)

    async def start(self, executor: str, directory: Path) -> None:
        """Start the supervisor of the attempt in *directory*; raises :class:`LaunchError`."""
        try:
            if executor == "process":
                await spawn_process(directory)
            elif executor == "local":
                await self._launcher.launch(directory)
            else:
                raise LaunchError(
                    FailureClass.LAUNCH_ERROR,
                    f"this agent knows the executors local and process, not {executor}",
                )
        except OSError as error:
            raise LaunchError(FailureClass.LAUNCH_ERROR, f"executor {executor}: {error}") from error
