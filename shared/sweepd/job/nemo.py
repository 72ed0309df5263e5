"""Import NeMo Run quietly, and without leaving traces in the environment of jobs."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

from sweepd.job.result import BadConfig

#: Only while it is imported: no `git rev-parse`, no usage statistics, no directory in the home.
_IMPORT_ENVIRONMENT = {"NO_VCS_VERSION": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def import_nemo_run() -> str:
    """Import nemo_run, which takes a second or more, and return its version.

    Raises :class:`BadConfig` with the remedy if this interpreter has none that works.
    """
    before = {name: os.environ.get(name) for name in _IMPORT_ENVIRONMENT}
    os.environ.update(_IMPORT_ENVIRONMENT)
    try:
        import nemo_run
    except ImportError as error:
        raise BadConfig(
            f"{sys.executable} cannot import nemo_run ({error}): run `{sys.executable} -m pip install "
            "'sweepd-agent[nemo]'`, name an interpreter that has it, or use `executor: {type: process}`"
        ) from None
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return str(nemo_run.__version__)


def settle(home: Path) -> None:
    """Make *home* the NEMORUN_HOME of this process, which must have imported nemo_run.

    Each attempt has one of its own: `.local_jobs.json` there is never pruned and is rewritten
    at every look at a job. The program of this process is forgotten, too: NeMo Run would copy
    its source and run it again in every job.
    """
    import nemo_run.config
    from nemo_run.run.torchx_backend.schedulers import local

    nemo_run.config.set_nemorun_home(str(home))
    local.LOCAL_JOB_DIRS = str(home / ".local_jobs.json")
    sys.modules["__main__"] = types.ModuleType("__main__")
