"""How an end is judged: one case, one line."""

from __future__ import annotations

import pytest

from sweepd.messages import Assign, Finished, Job, Resources, Usage
from sweepd.states import AttemptOutcome as O
from sweepd.states import FailureClass as F
from sweepd.states import Verdict
from sweepd_agent.core.ends import MESSAGE_LIMIT, End, Evidence, Exit, Orders, Result, finished, judge_end

NONE = Orders()
STOP = Orders(Verdict.STOP, None, "rung 1")
PAUSE = Orders(Verdict.PAUSE, None, "rung 1")
CANCEL = Orders(Verdict.CONTINUE, O.CANCELLED, "somebody asked")
STOP_AND_CANCEL = Orders(Verdict.STOP, O.CANCELLED, "somebody asked")

ZERO = Exit("exited", code=0)
STOPPED = Exit("stopped", signal=15)
KILLED = Exit("exited", signal=9)
VALUES = Result(values={"loss": 0.5})
PRUNED = Result(pruned=True)
RAISED = Result(error="Traceback: no", failure=F.BAD_CONFIG)

CASES: list[tuple[str, str, Evidence, Orders, End]] = [
    ("returned", "objective", Evidence(ZERO, VALUES), NONE, End(O.FINISHED, values={"loss": 0.5})),
    ("ignored a stop", "objective", Evidence(ZERO, VALUES), STOP, End(O.FINISHED, values={"loss": 0.5})),
    (
        "done before its revocation",
        "objective",
        Evidence(STOPPED, VALUES),
        CANCEL,
        End(O.FINISHED, values={"loss": 0.5}),
    ),
    ("pruned itself", "objective", Evidence(ZERO, PRUNED), NONE, End(O.PRUNED)),
    ("obeyed a stop", "objective", Evidence(ZERO, PRUNED, True), STOP, End(O.PRUNED, message="rung 1")),
    ("obeyed a pause", "objective", Evidence(ZERO, PRUNED, True), PAUSE, End(O.PAUSED, message="rung 1")),
    (
        "pruned, but revoked",
        "objective",
        Evidence(ZERO, PRUNED),
        STOP_AND_CANCEL,
        End(O.CANCELLED, message="somebody asked"),
    ),
    (
        "raised",
        "objective",
        Evidence(Exit("exited", 1), RAISED),
        NONE,
        End(O.FAILED, F.BAD_CONFIG, "Traceback: no"),
    ),
    (
        "raised for GPU memory",
        "objective",
        Evidence(Exit("exited", 1), Result(error="CUDA out of memory. Tried")),
        NONE,
        End(O.FAILED, F.GPU_OOM, "CUDA out of memory. Tried"),
    ),
    (
        "raised for a revocation",
        "objective",
        Evidence(Exit("stopped", 1), RAISED),
        CANCEL,
        End(O.CANCELLED, message="somebody asked"),
    ),
    (
        "left without a result",
        "objective",
        Evidence(ZERO, tail="bye"),
        NONE,
        End(O.FAILED, F.CRASHED, "the objective ended the process without returning\nbye"),
    ),
    ("ended", "command", Evidence(ZERO), NONE, End(O.FINISHED)),
    ("ended", "nemo", Evidence(ZERO), NONE, End(O.FINISHED)),
    ("ended, stop unseen", "command", Evidence(ZERO), STOP, End(O.FINISHED)),
    ("saw a stop", "command", Evidence(ZERO, stop_seen=True), STOP, End(O.PRUNED, message="rung 1")),
    ("saw a pause", "command", Evidence(ZERO, stop_seen=True), PAUSE, End(O.PAUSED, message="rung 1")),
    ("saw a stop that stands no more", "command", Evidence(ZERO, stop_seen=True), NONE, End(O.FINISHED)),
    ("done before its revocation", "command", Evidence(ZERO), CANCEL, End(O.FINISHED)),
    (
        "saw a stop and was revoked",
        "command",
        Evidence(ZERO, stop_seen=True),
        STOP_AND_CANCEL,
        End(O.CANCELLED, message="somebody asked"),
    ),
    (
        "ended well because it was told to",
        "command",
        Evidence(Exit("stopped", code=0)),
        CANCEL,
        End(O.CANCELLED, message="somebody asked"),
    ),
    ("killed after a stop", "command", Evidence(STOPPED), STOP, End(O.PRUNED, message="rung 1")),
    ("killed after a pause", "objective", Evidence(STOPPED), PAUSE, End(O.PAUSED, message="rung 1")),
    (
        "signalled by a stranger",
        "command",
        Evidence(STOPPED),
        NONE,
        End(O.PREEMPTED, message="the supervisor was signalled from outside"),
    ),
    (
        "its time passed",
        "command",
        Evidence(Exit("deadline", signal=15)),
        NONE,
        End(O.FAILED, F.TIMEOUT, "the time limit passed"),
    ),
    (
        "its time passed, said by the supervisor",
        "objective",
        Evidence(Exit("deadline", signal=9, message="ran for 3 s")),
        NONE,
        End(O.FAILED, F.TIMEOUT, "ran for 3 s"),
    ),
    (
        "killed by a stranger",
        "command",
        Evidence(KILLED),
        NONE,
        End(O.FAILED, F.CRASHED, "killed by signal 9 (SIGKILL)"),
    ),
    (
        "killed for memory",
        "command",
        Evidence(KILLED, out_of_memory=True),
        NONE,
        End(O.FAILED, F.OOM, "killed for memory by the kernel"),
    ),
    (
        "segmentation fault",
        "nemo",
        Evidence(Exit("exited", signal=11), tail="..."),
        NONE,
        End(O.FAILED, F.CRASHED, "killed by signal 11 (SIGSEGV)\n..."),
    ),
    (
        "a signal without a name",
        "command",
        Evidence(Exit("exited", signal=40)),
        NONE,
        End(O.FAILED, F.CRASHED, "killed by signal 40"),
    ),
    (
        "failed",
        "command",
        Evidence(Exit("exited", 3), tail="no such file"),
        NONE,
        End(O.FAILED, F.CRASHED, "exit code 3\nno such file"),
    ),
    (
        "failed after a stop it saw",
        "command",
        Evidence(Exit("exited", 3), stop_seen=True),
        STOP,
        End(O.FAILED, F.CRASHED, "exit code 3"),
    ),
    (
        "GPU memory",
        "nemo",
        Evidence(Exit("exited", 1), tail="torch: CUDA out of memory"),
        NONE,
        End(O.FAILED, F.GPU_OOM, "exit code 1\ntorch: CUDA out of memory"),
    ),
    (
        "could not be executed",
        "command",
        Evidence(Exit("launch_error", message="no such program: trian")),
        NONE,
        End(O.FAILED, F.LAUNCH_ERROR, "no such program: trian"),
    ),
    (
        "was never started",
        "nemo",
        Evidence(refusal=(F.BAD_CONFIG, "no attribute lr")),
        NONE,
        End(O.FAILED, F.BAD_CONFIG, "no attribute lr"),
    ),
    (
        "was revoked and never started",
        "nemo",
        Evidence(refusal=(F.LAUNCH_ERROR, "late")),
        CANCEL,
        End(O.CANCELLED, message="somebody asked"),
    ),
    (
        "its supervisor was killed",
        "command",
        Evidence(None, tail="so far"),
        NONE,
        End(O.FAILED, F.CRASHED, "the supervisor of the attempt was killed\nso far"),
    ),
    ("its supervisor did not manage", "command", Evidence(None), STOP, End(O.PRUNED, message="rung 1")),
    (
        "its supervisor was killed for memory",
        "command",
        Evidence(None, out_of_memory=True),
        NONE,
        End(O.FAILED, F.OOM, "the kernel killed the attempt for memory"),
    ),
    (
        "its machine went down",
        "command",
        Evidence(None),
        Orders(outcome=O.PREEMPTED, reason="the agent was restarted"),
        End(O.PREEMPTED, message="the agent was restarted"),
    ),
]


@pytest.mark.parametrize(
    ("kind", "evidence", "orders", "end"),
    [pytest.param(*case[1:], id=f"{case[1]}: {case[0]}") for case in CASES],
)
def test_an_end_is_judged(kind: str, evidence: Evidence, orders: Orders, end: End) -> None:
    assert judge_end(kind, evidence, orders) == end


ASSIGN = Assign(1, "s1", "study", 4, 2, "token", {}, Job("objective", "t.py:f"), Resources())


def test_the_message_of_an_end_names_its_attempt_and_what_it_used() -> None:
    usage = Usage(wall_s=2.0, cpu_s=1.0, max_rss_mib=30.0)
    evidence = Evidence(Exit("exited", 0, usage=usage), Result(values={"loss": "nan"}, attributes={"k": 1}))
    assert finished(ASSIGN, judge_end("objective", evidence, NONE), evidence) == Finished(
        "s1", 4, 2, "token", O.FINISHED, values={"loss": "nan"}, attributes={"k": 1}, usage=usage
    )


def test_a_long_failure_keeps_its_last_lines() -> None:
    said = finished(ASSIGN, End(O.FAILED, F.CRASHED, "x" * MESSAGE_LIMIT + "ValueError: here"), Evidence())
    assert len(said.message) == MESSAGE_LIMIT
    assert said.message.endswith("ValueError: here")
    assert (said.values, said.attributes, said.usage) == (None, {}, Usage())
