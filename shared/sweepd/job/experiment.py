"""A NeMo Run experiment for one attempt. Imports nemo_run: see `sweepd.job.nemo` first."""

from __future__ import annotations

import sys
from typing import Any

import nemo_run as run


class AttemptExperiment(run.Experiment):
    """An experiment on this machine that is quiet.

    Its jobs are never waited for through NeMo Run: a process ends inside the `with` block, by
    `os._exit`. Leaving the block, or collecting the experiment, would end the jobs.
    """

    def __init__(self, title: str, **settings: Any) -> None:
        super().__init__(
            title,
            executor=run.LocalExecutor(),
            clean_mode=True,
            enable_goodbye_message=False,
            skip_status_at_exit=True,
            log_level="ERROR",
            **settings,
        )

    def pids(self) -> list[int]:
        """Return the pids of the jobs' processes, in the order of the jobs."""
        scheduler: Any = self._runner._scheduler("local_persistent")  # pyright: ignore[reportPrivateUsage]
        return [
            replica.proc.pid
            for app in scheduler._apps.values()
            for replicas in app.role_replicas.values()
            for replica in replicas
        ]


class RecipeExperiment(AttemptExperiment):
    """Runs the jobs of a recipe with this process's interpreter and into its output."""

    def dryrun(self, *args: Any, **settings: Any) -> None:
        """Prepare the jobs' processes; `run` calls this just before it starts them."""
        super().dryrun(*args, **settings)
        for job in self._jobs:
            for replicas in job._dryrun_info.request.role_params.values():  # pyright: ignore
                for replica in replicas:
                    replica.stdout = replica.stderr = replica.combined = None
                    if replica.args[0] == "python":
                        replica.args[0] = sys.executable
