"""The process that stands over one attempt: `python -I -m sweepd_agent.supervise DIRECTORY`.

It locks the attempt's directory, starts the job, ends it in time, ends whatever the job leaves
behind, and writes `exit.json`. It goes on when the agent or the launcher dies, so it knows
nothing but the directory; the standard library only, because one of it runs per attempt.

    supervise DIRECTORY [--detach] [--ready FD] [--child PID --gate FD] [-- ARGV...]

--detach     start in the background: return once the supervisor holds the lock
--ready FD   write `ok` to FD once the lock is held
--child PID  the job is this child, forked before; it waits for a byte from the gate
-- ARGV      the command of the job, instead of what attempt.json says

Exit code: the job's (128 + signal if one ended it, 127 if it could not be started), or 75 if
the directory has been used before; then nothing was started and nothing is written.
"""

# No pathlib here: it costs 3 ms at the start of every attempt.
# ruff: noqa: PTH100, PTH110, PTH118, PTH123
from __future__ import annotations

import fcntl
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from sweepd import processes
from sweepd_agent.launch import job
from sweepd_agent.launch.files import ExitFile, write_file
from sweepd_agent.launch.job import Attempt, LaunchFailed
from sweepd_agent.launch.line import AgentLine

ALREADY_USED = 75  # EX_TEMPFAIL of sysexits.h

MESSAGE_LIMIT = 4096


class Options(NamedTuple):
    directory: str
    detach: bool = False
    ready: int | None = None
    child: int | None = None
    gate: int | None = None
    argv: list[str] | None = None


class AlreadyUsed(Exception):
    """The attempt's directory is locked, or was used before."""


class Supervisor:
    """One attempt, from the lock to exit.json."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._directory = options.directory
        self._attempt: Attempt = {}
        self._pid = 0  # of the job's main process; 0 until it runs
        self._status: int | None = None  # its wait status, once it has ended
        self._reason = "exited"
        self._message = ""
        self._deadline: float | None = None  # monotonic, like all times but the two written down
        self._kill_at: float | None = None  # set when the descendants were asked to end
        self._killed: dict[int, None] = {}
        self._asked_to_stop = False
        self._started_at: float | None = None
        self._ended_at: float | None = None
        self._exit = ExitFile(options.directory)

    def run(self) -> int:
        """Do all of it; raises :class:`AlreadyUsed`."""
        # Kept open, and so locked, until this process ends. Jobs do not inherit it.
        lock = os.open(os.path.join(self._directory, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyUsed("another supervisor holds its lock") from None
        if os.path.exists(os.path.join(self._directory, "supervisor.json")):
            raise AlreadyUsed("it was used before, and an attempt runs once")
        wakeup = self._catch_signals()
        processes.set_child_subreaper()
        this = processes.look_up(os.getpid())
        assert this is not None
        write_file(self._directory, "supervisor.json", processes.to_record(this))
        if self._options.ready is not None:
            tell_ready(self._options.ready)
        line: AgentLine | None = None
        try:
            self._attempt = job.read_attempt(self._directory)
            try:
                self._start()
            finally:
                line = self._connect()
            self._watch(wakeup, line)
        except LaunchFailed as error:
            self._reason, self._message = "launch_error", str(error)
        except BaseException:
            # A bug here must still end in a dead tree and a written end.
            import traceback

            self._reason, self._message = "launch_error", "the supervisor failed\n" + traceback.format_exc()
            self._kill()
            self._reap()
        self._write_exit()
        if line is not None:
            line.close()
        if self._status is None:
            return job.NOT_STARTED
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code

    def _catch_signals(self) -> int:
        """Turn signals into bytes in a pipe, whose reading end is returned."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, self._on_stop_signal)
        # Whoever started us may have ignored or blocked what we live on.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        return reader

    def _on_stop_signal(self, *_: object) -> None:
        self._asked_to_stop = True

    def _start(self) -> None:
        self._started_at = time.time()
        options = self._options
        limit_s = self._attempt["job"].get("time_limit_s")
        if limit_s is not None:
            self._deadline = time.monotonic() + limit_s
        if options.child is not None and options.gate is not None:
            self._pid = options.child
            os.write(options.gate, b"\n")
            os.close(options.gate)
        else:
            self._pid = job.spawn(self._attempt, options.argv or job.command(self._attempt))
        self._exit.reserve()

    def _connect(self) -> AgentLine:
        hello = {
            "type": "supervisor",
            "token": self._attempt["token"],
            "pid": os.getpid(),
            "job": self._pid,
        }
        line = AgentLine(self._attempt["channel"], hello)
        line.connect(time.monotonic())
        return line

    def _watch(self, wakeup: int, line: AgentLine) -> None:
        """Return when the job and all its descendants are dead."""
        while self._reap():
            now = time.monotonic()
            line.connect(now)
            self._decide(now)
            self._wait(wakeup, line, now)
            for message in line.receive():
                if message.get("type") == "stop":
                    self._stop("stopped", float(message.get("grace_s", self._attempt["kill_grace_s"])))

    def _decide(self, now: float) -> None:
        grace_s = self._attempt["kill_grace_s"]
        if self._asked_to_stop:
            self._asked_to_stop = False
            self._stop("stopped", grace_s)
        if self._status is not None and self._kill_at is None:
            self._ask_to_end(now + grace_s)
        if self._deadline is not None and now >= self._deadline:
            self._deadline = None
            if self._kill_at is None:
                self._message = f"the time limit of {self._attempt['job']['time_limit_s']:g} s was reached"
            self._stop("deadline", grace_s)
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()

    def _stop(self, reason: str, grace_s: float) -> None:
        """Ask the job to end and kill it after the grace; asked again, only a shorter grace counts."""
        kill_at = time.monotonic() + grace_s
        if self._kill_at is not None:
            self._kill_at = min(self._kill_at, kill_at)
        else:
            self._reason = reason
            self._ask_to_end(kill_at)

    def _ask_to_end(self, kill_at: float) -> None:
        # Once per process and not per group: a second SIGTERM means "at once" to many programs.
        processes.signal_all(processes.descendants(os.getpid()), signal.SIGTERM)
        self._kill_at = kill_at

    def _kill(self) -> None:
        self._killed.update(dict.fromkeys(processes.kill_descendants(os.getpid())))

    def _wait(self, wakeup: int, line: AgentLine, now: float) -> None:
        """Sleep until a signal, a message or the next thing that is due."""
        due = [line.retry_at] if line.file is None else []
        due += [at for at in (self._deadline, self._kill_at) if at is not None]
        poller = select.poll()
        poller.register(wakeup, select.POLLIN)
        if line.file is not None:
            poller.register(line.file, select.POLLIN)
        timeout_ms = max(0.0, min(due) - now) * 1000 if due else None
        if any(ready == wakeup for ready, _ in poller.poll(timeout_ms)):
            os.read(wakeup, 4096)

    def _reap(self) -> bool:
        """Take the ends of children, our own and adopted; return whether any child is left.

        We are the sub-reaper: without a child there is no descendant, and the last descendant
        to end is a child of ours, so that SIGCHLD tells of it.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._status, self._ended_at = status, time.time()
                self._deadline = None

    def _write_exit(self) -> None:
        code = None if self._status is None else os.waitstatus_to_exitcode(self._status)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        record = {
            "code": code if code is not None and code >= 0 else None,
            "signal": -code if code is not None and code < 0 else None,
            "reason": self._reason,
            "started_at": self._started_at,
            "ended_at": self._ended_at or time.time(),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 6),
            "max_rss_mib": round(usage.ru_maxrss / 1024, 3),
            "killed": list(self._killed),
            "message": self._message[-MESSAGE_LIMIT:],
        }
        self._exit.write(record)


def tell_ready(file: int) -> None:
    """Say `ok`, and let go of whatever the starter may be reading: it must not wait for the attempt."""
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(silence, standard)
    os.close(silence)
    os.write(file, b"ok\n")
    os.close(file)


def parse(arguments: Sequence[str]) -> Options:
    """Parse the command line by hand; argparse costs as much as a third of the start."""
    left = list(arguments)
    values: dict[str, Any] = {}
    while left:
        word = left.pop(0)
        if word == "--":
            values["argv"], left = left, []
        elif word == "--detach":
            values["detach"] = True
        elif word in ("--ready", "--child", "--gate") and left:
            values[word[2:]] = int(left.pop(0))
        elif "directory" not in values and not word.startswith("-"):
            values["directory"] = os.path.abspath(word)
        else:
            raise SystemExit(f"supervise: unexpected argument {word!r}\n\n{__doc__}")
    if "directory" not in values:
        raise SystemExit(f"supervise: the attempt's directory is missing\n\n{__doc__}")
    return Options(**values)


def _detached(options: Options) -> int:
    """Fork the supervisor away; return 0 once it holds the lock, else its exit code."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        os.setsid()
        os._exit(_supervise(options._replace(ready=writer)))
    os.close(writer)
    with open(reader, "rb") as file:
        if file.read():
            return 0
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


def _supervise(options: Options) -> int:
    try:
        return Supervisor(options).run()
    except AlreadyUsed as error:
        print(f"supervise: {options.directory}: {error}", file=sys.stderr)
        return ALREADY_USED


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return _detached(options) if options.detach else _supervise(options)


if __name__ == "__main__":
    sys.exit(main())
