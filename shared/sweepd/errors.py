"""The errors of sweepd, named by what the reader should do.

The docstring of a class is its default message. The standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence


class SweepdError(Exception):
    """Something in sweepd failed."""

    #: What `sweepd` exits with when this reaches the command line.
    exit_code = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class UsageError(SweepdError):
    """The request cannot be carried out as it stands: change it."""

    exit_code = 2


class SpecError(UsageError):
    """The study file has errors; `problems` lists all of them, one line each."""

    def __init__(self, problems: Sequence[str], source: str | None = None) -> None:
        self.problems = list(problems)
        self.source = source
        head = f"{source}: " if source else ""
        count = len(self.problems)
        noun = "error" if count == 1 else "errors"
        super().__init__(f"{head}{count} {noun}\n" + "\n".join(f"  {line}" for line in self.problems))


class NotFound(UsageError):
    """There is no study, trial or agent of that name."""


class StoreUnreachable(SweepdError):
    """The store cannot be reached: check that Redis runs and that the URL is right."""

    exit_code = 3


class RequestTimeout(StoreUnreachable):
    """No coordinator answered in time: check that one runs against the same store."""


class Fenced(SweepdError):
    """Another coordinator leads: this one must stop writing and stand by."""


class StoreWentBack(SweepdError):
    """The store is older than what was committed: discard memory and load it again."""


class StoreConflict(SweepdError):
    """A key of this namespace holds what sweepd did not write: use another namespace, or remove the key."""


class ImpossibleMove(SweepdError):
    """A state machine was asked for a move that its table does not have."""

    def __init__(self, kind: str, state: str, move: str, story: Sequence[str] = ()) -> None:
        self.kind, self.state, self.move, self.story = kind, state, move, list(story)
        told = "".join(f"\n  {line}" for line in story)
        super().__init__(
            f"a {kind} that is {state} cannot {move}" + (f"; before that:{told}" if story else "")
        )


class JobError(SweepdError):
    """The SDK was used in a way that cannot work in this job."""
