"""The state directory of one agent.

lock            flock of the one agent that uses it, with its pid
id              what this agent calls itself, unless --id says otherwise
spool.ndjson    the ends it owes (spool.py)
channel.sock    where jobs and supervisors connect (channel.py)
attempts/       STUDY/TRIAL/ATTEMPT/: one directory per attempt (directory.py)
nemo/           the launcher child's own
path/           what a job's interpreter without sweepd gets on its path
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from sweepd.errors import UsageError
from sweepd_agent.machine import host
from sweepd_agent.spool import write_durably


@contextmanager
def owned(state: Path) -> Generator[Path]:
    """Create the directory, hold its lock, and return it; raises UsageError if that is impossible."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UsageError(f"--state {state}: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(lock, 32, 0).decode(errors="replace").strip() or "?"
            raise UsageError(
                f"another agent (process {pid}) uses {state}: "
                "give each agent a directory of its own (--state)"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield state
    finally:
        os.close(lock)


def agent_id(state: Path) -> str:
    """Return this agent's name: the host's when it first started here, and a suffix; it stays."""
    file = state / "id"
    try:
        name = file.read_text().strip()
    except FileNotFoundError:
        name = ""
    if not name:
        plain = re.sub(r"[^A-Za-z0-9._-]", "-", host().split(".")[0]).strip("-._")[:60] or "agent"
        name = f"{plain}-{secrets.token_hex(3)}"
        write_durably(file, f"{name}\n".encode())
    return name
