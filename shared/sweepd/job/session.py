"""A process of a job, as the SDK sees it: its attempt, its reports file, its channel.

Made at the first call and made anew after a fork: a child shares neither the connection nor the
lock of its parent.
"""

from __future__ import annotations

import atexit
import json
import operator
import os
import shutil
import tempfile
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol, Union

from sweepd.errors import JobError
from sweepd.job.attempt import VARIABLE, Attempt, load
from sweepd.job.channel import Channel
from sweepd.job.reports import ReportsFile, encode_metrics
from sweepd.states import Verdict

PARAMETERS_VARIABLE = "SWEEPD_PARAMS"  #: outside a job: the parameters as a JSON object


class Session(Protocol):
    """What the functions of `sweepd.job` do."""

    def params(self) -> dict[str, Any]: ...
    def report(self, metrics: Any, step: Any) -> Verdict: ...
    def should_stop(self) -> bool: ...
    def checkpoints(self) -> Path: ...
    def restore_dir(self) -> Path | None: ...


class JobSession:
    """Inside a job."""

    def __init__(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self.channel = Channel(attempt.channel, attempt.token)
        self._reports = ReportsFile(attempt.directory / "reports.ndjson")
        self._lock = threading.Lock()
        self._stop_seen = False

    def params(self) -> dict[str, Any]:
        return dict(self.attempt.params)

    def report(self, metrics: Any, step: Any) -> Verdict:
        if not isinstance(metrics, Mapping):
            metrics = {self._metric(): metrics}
        number = _step(step)
        with self._lock:
            ordinal = self._reports.append(metrics, number)
        return self._seen(self.channel.reported(ordinal))

    def should_stop(self) -> bool:
        return self._seen(self.channel.verdict()) is not Verdict.CONTINUE

    def checkpoints(self) -> Path:
        return self.attempt.directory / "checkpoints"

    def restore_dir(self) -> Path | None:
        return self.attempt.restore

    def _metric(self) -> str:
        if not self.attempt.objectives:
            raise JobError("the study names no objective: report a dict of numbers by name")
        return self.attempt.objectives[0][0]

    def _seen(self, verdict: Verdict) -> Verdict:
        """Note for the agent that the job has heard of a stop: ending after it is obeying it."""
        if verdict is Verdict.STOP and not self._stop_seen:
            self._stop_seen = True
            # On a full disk the agent takes the end for the job's own: no reason to fail the job.
            with suppress(OSError):
                (self.attempt.directory / "stop_seen").touch()
        return verdict


class DryRun:
    """Outside a job: the same calls work, and reports are printed."""

    def __init__(self) -> None:
        self._reports = 0

    def params(self) -> dict[str, Any]:
        text = os.environ.get(PARAMETERS_VARIABLE)
        if text is None:
            raise JobError(
                "there are no parameters outside a job of sweepd: run a study, or set "
                f"""{PARAMETERS_VARIABLE}='{{"learning_rate": 0.001}}' to try this program on its own"""
            )
        try:
            params = json.loads(text)
        except ValueError as error:
            raise JobError(f"{PARAMETERS_VARIABLE} is no JSON: {error}") from error
        if not isinstance(params, dict):
            raise JobError(f"{PARAMETERS_VARIABLE} must be a JSON object, not {text:.80}")
        return params

    def report(self, metrics: Any, step: Any) -> Verdict:
        values = encode_metrics(metrics if isinstance(metrics, Mapping) else {"value": metrics})
        self._reports += 1
        number = _step(step)
        shown = " ".join(f"{name}={value}" for name, value in values.items())
        print(f"sweepd: step {self._reports if number is None else number}: {shown}", flush=True)
        return Verdict.CONTINUE

    def should_stop(self) -> bool:
        return False

    def checkpoints(self) -> Path:
        return Path("checkpoints")

    def restore_dir(self) -> Path | None:
        return None


_session: Union[Session, None] = None
_making = threading.Lock()


def session() -> Session:
    """Return this process's session; raises :class:`JobError` if SWEEPD_ATTEMPT is wrong."""
    global _session
    if _session is None:
        with _making:
            if _session is None:
                attempt = load()
                _session = DryRun() if attempt is None else JobSession(attempt)
    return _session


def job_session() -> JobSession:
    """As :func:`session`, for programs that make sense in a job only."""
    found = session()
    if not isinstance(found, JobSession):
        raise JobError(f"this program runs inside a job of sweepd only: {VARIABLE} is not set")
    return found


def close() -> None:
    """Forget the session; the next call makes a new one."""
    global _session
    if isinstance(_session, JobSession):
        _session.channel.close()
    _session = None


def _forked() -> None:
    global _session, _making
    _session, _making = None, threading.Lock()


atexit.register(close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextmanager
def checkpoint(home: Path, step: int) -> Generator[Path, None, None]:
    """Give an empty directory that becomes `home/step-<step>` when the block ends without an error."""
    number = _step(step)
    home.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=".writing-", dir=home))
    try:
        yield directory
        _put(directory, home / f"step-{number}")
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _put(directory: Path, place: Path) -> None:
    if place.exists():
        # A directory cannot be replaced in one step; the old one is whole until it is away.
        with tempfile.TemporaryDirectory(prefix=".old-", dir=place.parent) as old:
            place.rename(Path(old) / place.name)
            directory.rename(place)
    else:
        directory.rename(place)


def _step(step: Any) -> int | None:
    if step is None:
        return None
    try:
        number = operator.index(step)
    except TypeError:
        raise JobError(f"step must be a whole number, not {step!r:.80}") from None
    if number < 0:
        raise JobError(f"step must not be negative, and is {number}")
    return number
