"""Ctrl-C: once asks, twice demands."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from sweepd.errors import SweepdError

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class OutAtOnce(BaseException):
    """The second Ctrl-C: whatever is under way ends here."""


class Interrupted(SweepdError):
    """Stopped by a signal before there was anything to show."""

    def __init__(self, exit_code: int) -> None:
        super().__init__()
        self.exit_code = exit_code


class Interrupts:
    """Within the context the first signal is only noted, the second raises OutAtOnce in the main thread.

    SIGTERM and the hangup of the terminal count like Ctrl-C. A third signal is ignored, so that
    nothing disturbs the killing.
    """

    def __init__(self) -> None:
        self.first: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}
        # Looked up now: a terminal that is gone does not say that it was one.
        self._terminals = {stream.fileno() for stream in (sys.stdout, sys.stderr) if stream.isatty()}

    @property
    def exit_code(self) -> int:
        """What the shell expects of a program that this signal ended: 130 for Ctrl-C."""
        return 128 + (self.first or signal.SIGINT)

    def check(self) -> None:
        """Raise Interrupted after the first signal."""
        if self.first:
            raise Interrupted(self.exit_code)

    def __enter__(self) -> Interrupts:
        for number in SIGNALS:
            # `nohup` lets us go on without a terminal.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def _take(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._mute(self._terminals)
        if self.first is None:
            self.first = signal.Signals(number)
            return
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise OutAtOnce

    def hang_up(self) -> None:
        """Take it that nobody reads any more what goes to stderr or to a terminal."""
        self._mute(self._terminals | {sys.stderr.fileno()})
        self.first = self.first or signal.SIGHUP

    def _mute(self, descriptors: set[int]) -> None:
        """Let what is still printed end nowhere, instead of in an OSError."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for descriptor in descriptors:
            os.dup2(nowhere, descriptor)
        os.close(nowhere)
