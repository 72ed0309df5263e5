"""How an end is judged: from what the job and its supervisor left on disk, and what they were told.

`judge_end` is the one place where an outcome is chosen. Its rules stand in order; the first
that applies decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from signal import Signals
from typing import Any

from sweepd.messages import Assign, Finished, Number, Usage
from sweepd.states import AttemptOutcome, FailureClass, Verdict

MESSAGE_LIMIT = 16 * 1024  #: characters of a failure that travel; the end of a traceback says most


@dataclass(frozen=True, slots=True)
class Exit:
    """What the supervisor wrote (`exit.json`). `reason`: exited, deadline, stopped, launch_error."""

    reason: str
    code: int | None = None
    signal: int | None = None
    message: str = ""
    usage: Usage | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What the job wrote (`result.json`): values, or that it pruned itself, or its error."""

    values: Mapping[str, Number] | None = None
    pruned: bool = False
    error: str | None = None
    failure: FailureClass = FailureClass.CRASHED
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Orders:
    """What the job was told. `outcome` is set once the attempt was revoked."""

    verdict: Verdict = Verdict.CONTINUE
    outcome: AttemptOutcome | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of an attempt whose process tree is dead.

    `exit`: None when the supervisor was killed before it could write. `stop_seen`: a stop
    verdict reached the user's code. `tail`: the last of the output. `out_of_memory`: the kernel
    killed for memory while the attempt ran.
    """

    exit: Exit | None = None
    result: Result | None = None
    stop_seen: bool = False
    tail: str = ""
    out_of_memory: bool = False
    refusal: tuple[FailureClass, str] | None = None  #: it was never started, and why


@dataclass(frozen=True, slots=True)
class End:
    """What became of an attempt."""

    outcome: AttemptOutcome
    failure: FailureClass | None = None
    message: str = ""
    values: Mapping[str, Number] | None = None


def judge_end(kind: str, evidence: Evidence, orders: Orders) -> End:
    """Choose the outcome of an attempt of a task of *kind* (objective, nemo or command)."""
    result, exited = evidence.result, evidence.exit
    asked_to_end = AttemptOutcome.PAUSED if orders.verdict is Verdict.PAUSE else AttemptOutcome.PRUNED

    if result is not None and result.values is not None:  # also after a stop that came too late
        return End(AttemptOutcome.FINISHED, values=result.values)
    ended_itself = exited is not None and exited.reason == "exited" and exited.code == 0
    if kind != "objective" and ended_itself:
        if evidence.stop_seen and orders.verdict is not Verdict.CONTINUE:
            return End(orders.outcome or asked_to_end, message=orders.reason)
        return End(AttemptOutcome.FINISHED)
    if orders.outcome is not None:
        return End(orders.outcome, message=orders.reason)
    if evidence.refusal is not None:
        return _failed(*evidence.refusal)
    if result is not None and result.pruned:
        return End(asked_to_end, message=orders.reason)
    if result is not None and result.error is not None:
        return _failed(_gpu_oom(result.error) or result.failure, result.error)
    if exited is None:
        if orders.verdict is not Verdict.CONTINUE:  # we killed what did not end in time
            return End(asked_to_end, message=orders.reason)
        if evidence.out_of_memory:
            return _failed(FailureClass.OOM, _told("the kernel killed the attempt for memory", evidence.tail))
        return _failed(FailureClass.CRASHED, _told("the supervisor of the attempt was killed", evidence.tail))
    if exited.reason == "launch_error":
        return _failed(FailureClass.LAUNCH_ERROR, exited.message)
    if exited.reason == "deadline":
        return _failed(FailureClass.TIMEOUT, exited.message or "the time limit passed")
    if exited.reason == "stopped":
        if orders.verdict is not Verdict.CONTINUE:
            return End(asked_to_end, message=orders.reason)
        # Nobody here asked for it: a person or the machine's own shutdown signalled the supervisor.
        return End(AttemptOutcome.PREEMPTED, message="the supervisor was signalled from outside")
    if exited.signal == Signals.SIGKILL and evidence.out_of_memory:
        return _failed(FailureClass.OOM, _told("killed for memory by the kernel", evidence.tail))
    if exited.code == 0:
        return _failed(
            FailureClass.CRASHED, _told("the objective ended the process without returning", evidence.tail)
        )
    how = f"exit code {exited.code}" if exited.signal is None else f"killed by {_signal(exited.signal)}"
    return _failed(_gpu_oom(evidence.tail) or FailureClass.CRASHED, _told(how, evidence.tail))


def finished(assign: Assign, end: End, evidence: Evidence) -> Finished:
    """Return the message that tells the coordinator of *end*."""
    result, exited = evidence.result, evidence.exit
    return Finished(
        study=assign.study,
        trial=assign.trial,
        attempt=assign.attempt,
        token=assign.token,
        outcome=end.outcome,
        failure=end.failure,
        message=end.message[-MESSAGE_LIMIT:],
        values=None if end.values is None else dict(end.values),
        attributes={} if result is None else dict(result.attributes),
        usage=(exited and exited.usage) or Usage(),
    )


def _failed(failure: FailureClass, message: str) -> End:
    return End(AttemptOutcome.FAILED, failure, message)


def _gpu_oom(text: str) -> FailureClass | None:
    return FailureClass.GPU_OOM if "CUDA out of memory" in text else None


def _signal(number: int) -> str:
    try:
        return f"signal {number} ({Signals(number).name})"
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def _told(how: str, tail: str) -> str:
    return f"{how}\n{tail}" if tail else how
