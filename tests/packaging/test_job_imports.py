"""Inside a training job, sweepd touches the standard library only.

It goes into images whose other packages it must neither need nor disturb.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import sweepd

SHARED = str(Path(sweepd.__file__).parents[1])

#: All that a `command` or `nemo` task calls, with nothing installed: no site, no environment.
JOB = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
import sweepd
sweepd.params()
sweepd.report({"loss": 0.5}, step=1)
sweepd.should_stop()
with sweepd.checkpoint(1) as directory:
    (directory / "x").touch()
sweepd.restore_dir()
print(json.dumps(sorted(sys.modules)))
"""


def _foreign(arguments: list[str], environment: dict[str, str], cwd: Path) -> set[str]:
    done = subprocess.run(
        [sys.executable, *arguments, "-c", JOB, SHARED],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}
    return names - sys.stdlib_module_names - {"__main__", "sitecustomize", "usercustomize"}


def _attempt(directory: Path) -> str:
    path = directory / "attempt.json"
    path.write_text(
        json.dumps(
            {
                "study_name": "s",
                "trial": 0,
                "token": "t",
                "params": {},
                "job": {
                    "target": ["true"],
                    "args": {},
                    "workdir": str(directory),
                    "objectives": [["loss", "minimize"]],
                },
                "channel": f"unix:{directory}/none.sock",
                "directory": str(directory),
            }
        )
    )
    return str(path)


def test_in_a_job_only_the_standard_library_is_imported(tmp_path: Path) -> None:
    environment = {"SWEEPD_ATTEMPT": _attempt(tmp_path)}
    assert _foreign(["-I", "-S"], environment, tmp_path) == {"sweepd"}
    assert (tmp_path / "reports.ndjson").read_text().count("\n") == 1


def test_outside_a_job_too(tmp_path: Path) -> None:
    assert _foreign(["-I", "-S"], {"SWEEPD_PARAMS": "{}"}, tmp_path) == {"sweepd"}


def test_what_is_installed_stays_untouched(tmp_path: Path) -> None:
    """With everything in reach, nothing more is taken."""
    environment = {**os.environ, "SWEEPD_ATTEMPT": _attempt(tmp_path)}
    assert not _foreign([], environment, tmp_path) & {
        "msgspec",
        "redis",
        "yaml",
        "rich",
        "typer",
        "optuna",
        "numpy",
    }
