"""The directory of one attempt: what the agent writes there and what it finds there afterwards.

    attempt.json     the agent, before the launch: all that the job and its supervisor need
    supervisor.json  the supervisor: who it is
    output.log       the job's output
    reports.ndjson   the job's reports (see reports.py)
    result.json      the job's result
    stop_seen        the SDK, when a stop verdict reached the user's code
    exit.json        the supervisor, at the end

What jobs write is read with suspicion: a file that makes no sense counts as missing, and it is said.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from sweepd import processes
from sweepd.messages import Assign, Number, Usage
from sweepd.states import FailureClass
from sweepd_agent.core.ends import Evidence, Exit, Result
from sweepd_agent.spool import write_durably

TAIL_BYTES = 4096  #: of the output, for the message of a failure
RESULT_LIMIT_BYTES = 128 * 1024  #: a result must fit into one message

log = logging.getLogger("sweepd.agent")

File = TypeVar("File")


class _ExitFile(msgspec.Struct, frozen=True):
    reason: str
    code: int | None = None
    signal: int | None = None
    started_at: float | None = None
    ended_at: float = 0.0
    cpu_s: float = 0.0
    max_rss_mib: float = 0.0
    message: str = ""


class _MemoryOfDevices(msgspec.Struct, frozen=True):
    device_memory_mib: dict[str, int | None] = {}


class _ResultFile(msgspec.Struct, frozen=True):
    values: dict[str, Number] | None = None
    pruned: bool = False
    error: str | None = None
    failure: FailureClass = msgspec.field(name="class", default=FailureClass.CRASHED)
    attributes: dict[str, Any] = {}


class AttemptDirectory:
    """See the module. *path* is absolute."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reports = path / "reports.ndjson"
        self.output = path / "output.log"
        self.attempt = path / "attempt.json"
        self._supervisor = path / "supervisor.json"

    @classmethod
    def under(cls, state: Path, assign: Assign) -> AttemptDirectory:
        """Return a directory for this attempt, which does not exist yet: STUDY/TRIAL/ATTEMPT.

        A store that went back in time may assign the same attempt once more; what the first one
        left behind must not be taken for the second's, so that gets its token into its name.
        """
        named = state / "attempts" / _safe(assign.study) / str(assign.trial) / str(assign.attempt)
        return cls(named.with_name(f"{assign.attempt}-{_safe(assign.token)}") if named.exists() else named)

    def write(
        self,
        assign: Assign,
        *,
        channel: Path,
        stop_grace_s: float,
        kill_grace_s: float,
        sweepd_path: Path | None,
        device_memory_mib: Mapping[str, int | None],
    ) -> None:
        """Create the directory and its attempt.json, durably. Raises OSError.

        *device_memory_mib*: what is used of each device before the attempt, for a restarted agent.
        """
        self.path.mkdir(parents=True, mode=0o700, exist_ok=True)
        job = {name: getattr(assign.job, name) for name in assign.job.__struct_fields__}
        told: dict[str, Any] = {
            **msgspec.to_builtins(assign),
            "declared": assign.declared,
            "devices": assign.devices,
            "job": msgspec.to_builtins(job),
            "channel": f"unix:{channel}",
            "directory": str(self.path),
            "stop_grace_s": stop_grace_s,
            "kill_grace_s": kill_grace_s,
            "device_memory_mib": device_memory_mib,
        }
        if sweepd_path is not None:
            told["sweepd_path"] = str(sweepd_path)
        write_durably(self.attempt, json.dumps(told).encode())

    def written(self) -> tuple[Assign, dict[str, int | None]] | None:
        """Return what `write` was given, for a restarted agent: the assignment and the devices' memory."""
        assign = self._read("attempt.json", _assign_decoder)
        memory = self._read("attempt.json", _memory_decoder)
        return None if assign is None or memory is None else (assign, memory.device_memory_mib)

    def supervisor(self) -> processes.Process | None:
        """Return the supervisor of this attempt, if one has started and lives."""
        try:
            return processes.from_record(json.loads(self._supervisor.read_bytes()))
        except (OSError, ValueError):
            return None

    @property
    def used(self) -> bool:
        """Whether a supervisor has started here, or was barred."""
        return self._supervisor.exists()

    @property
    def ended(self) -> bool:
        """Whether a supervisor has written the end."""
        return (self.path / "exit.json").exists()

    @property
    def stop_seen(self) -> bool:
        """Whether a stop verdict reached the user's code."""
        return (self.path / "stop_seen").exists()

    def bar(self) -> bool:
        """Make sure that no supervisor starts here any more; False while one lives.

        A launch that was given up may still be on its way. Supervisors hold the lock for life
        and refuse a directory in which another one has started.
        """
        lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.used:
                write_durably(self._supervisor, b"{}")
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True

    def kill(self, timeout_s: float) -> bool:
        """Kill everything of this attempt; return whether nothing is left. Blocks: for a worker thread."""
        if not self.path.exists():
            return True
        deadline = time.monotonic() + timeout_s
        refused: OSError | None = None
        while True:
            supervisor = self.supervisor()
            left = processes.marked("SWEEPD_ATTEMPT", str(self.attempt))
            processes.signal_all([*left, *([supervisor] if supervisor else [])], signal.SIGKILL)
            try:
                if not left and self.bar():
                    return True
            except OSError as error:  # a full disk; a launch may still be on its way
                refused = error
            if time.monotonic() >= deadline:
                if refused is not None:
                    log.warning("attempt.not_barred directory=%s error=%s", self.path, refused)
                return False
            time.sleep(0.01)

    def evidence(
        self, *, out_of_memory: bool = False, refusal: tuple[FailureClass, str] | None = None
    ) -> Evidence:
        """Collect what an attempt left behind; its process tree must be dead."""
        return Evidence(
            exit=self._exit(),
            result=self._result(),
            stop_seen=self.stop_seen,
            tail=self.tail(),
            out_of_memory=out_of_memory,
            refusal=refusal,
        )

    def tail(self) -> str:
        """Return the last TAIL_BYTES of the output as text, from the start of a line where possible."""
        try:
            with self.output.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(max(0, size - TAIL_BYTES))
                data = file.read(TAIL_BYTES)
        except OSError:
            return ""
        if size > TAIL_BYTES and b"\n" in data[:-1]:
            data = data[data.index(b"\n") + 1 :]
        return data.decode(errors="replace").strip()

    def _exit(self) -> Exit | None:
        said = self._read("exit.json", _exit_decoder)
        if said is None:
            return None
        wall_s = 0.0 if said.started_at is None else max(0.0, said.ended_at - said.started_at)
        usage = Usage(wall_s, said.cpu_s, said.max_rss_mib)
        return Exit(said.reason, said.code, said.signal, said.message, usage)

    def _result(self) -> Result | None:
        path = self.path / "result.json"
        try:
            size = path.stat().st_size
        except OSError:
            return None
        if size > RESULT_LIMIT_BYTES:
            reason = (
                f"the result (values and user attributes) has {size} bytes, "
                f"at most {RESULT_LIMIT_BYTES} can be kept"
            )
            return Result(error=reason, failure=FailureClass.BAD_CONFIG)
        said = self._read("result.json", _result_decoder)
        if said is None:
            return None
        return Result(said.values, said.pruned, said.error, said.failure, said.attributes)

    def _read(self, name: str, decoder: msgspec.json.Decoder[File]) -> File | None:
        path = self.path / name
        try:
            return decoder.decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("attempt.unreadable file=%s error=%s", path, error)
            return None


def _safe(name: str) -> str:
    """Return *name* if it can be a file's; what else a coordinator may send leads out of no directory."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name) else name.encode().hex()[:200] or "-"


_assign_decoder = msgspec.json.Decoder(Assign)
_memory_decoder = msgspec.json.Decoder(_MemoryOfDevices)
_exit_decoder = msgspec.json.Decoder(_ExitFile)
_result_decoder = msgspec.json.Decoder(_ResultFile)
