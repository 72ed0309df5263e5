"""The states of an attempt: events in, actions and deadlines out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepd.errors import ImpossibleMove
from sweepd.states import AttemptOutcome, FailureClass, Verdict
from sweepd_agent.core.attempt import (
    MOVES,
    Action,
    Attempt,
    AttemptEvent,
    Decided,
    Gone,
    KillTree,
    Launch,
    Overdue,
    Patience,
    Prepared,
    Refused,
    Revoked,
    Settle,
    Stage,
    StopSupervisor,
    Supervised,
    TellJob,
)
from sweepd_agent.core.ends import Orders

PATIENCE = Patience(launch_s=100, stop_s=30, kill_s=10, slack_s=5)
STOP = Decided(Verdict.STOP, 3, "rung 1")
GO_ON = Decided(Verdict.CONTINUE, 4, "kept")
CANCEL = Revoked(AttemptOutcome.CANCELLED, "asked")
NO = Refused(FailureClass.LAUNCH_ERROR, "no such interpreter")
TELL_STOP = TellJob(Verdict.STOP, 3, "rung 1")
END_IT = StopSupervisor(10)

Step = tuple[AttemptEvent, float, Stage, list[Action], float | None]

STORIES: dict[str, list[Step]] = {
    "it ends by itself": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Supervised(), 1, Stage.RUNNING, [], None),
        (Gone(), 2, Stage.ENDED, [Settle()], None),
    ],
    "it ends before its supervisor is heard": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Gone(), 1, Stage.ENDED, [Settle()], None),
        (Supervised(), 2, Stage.ENDED, [], None),
    ],
    "it obeys a stop": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Supervised(), 1, Stage.RUNNING, [], None),
        (STOP, 2, Stage.RUNNING, [TELL_STOP], 32),
        (Gone(), 3, Stage.ENDED, [Settle()], None),
    ],
    "it ignores a stop, its supervisor ends it": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Supervised(), 1, Stage.RUNNING, [], None),
        (STOP, 2, Stage.RUNNING, [TELL_STOP], 32),
        (STOP, 20, Stage.RUNNING, [TELL_STOP], 32),
        (Supervised(), 21, Stage.RUNNING, [], 32),
        (Overdue(), 32, Stage.STOPPING, [END_IT], 47),
        (STOP, 33, Stage.STOPPING, [], 47),
        (Supervised(), 40, Stage.STOPPING, [END_IT], 47),
        (Gone(), 41, Stage.ENDED, [Settle()], None),
    ],
    "a stop is taken back": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Supervised(), 1, Stage.RUNNING, [], None),
        (STOP, 2, Stage.RUNNING, [TELL_STOP], 32),
        (GO_ON, 3, Stage.RUNNING, [TellJob(Verdict.CONTINUE, 4, "kept")], None),
    ],
    "a verdict comes before the supervisor is heard": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (STOP, 1, Stage.LAUNCHING, [TELL_STOP], 100),
        (Supervised(), 2, Stage.RUNNING, [], 32),
    ],
    "it is revoked while it runs": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Supervised(), 1, Stage.RUNNING, [], None),
        (CANCEL, 2, Stage.STOPPING, [END_IT], 17),
        (CANCEL, 3, Stage.STOPPING, [], 17),
        (Overdue(), 17, Stage.KILLING, [KillTree()], 22),
        (STOP, 18, Stage.KILLING, [], 22),
        (Overdue(), 22, Stage.KILLING, [KillTree()], 27),
        (Gone(), 23, Stage.ENDED, [Settle()], None),
    ],
    "it is revoked while it is launched": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (CANCEL, 2, Stage.STOPPING, [], 17),
        (Supervised(), 3, Stage.STOPPING, [END_IT], 17),
        (Gone(), 4, Stage.ENDED, [Settle()], None),
    ],
    "it is revoked at the end of a long launch": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (CANCEL, 95, Stage.STOPPING, [], 100),
        (Overdue(), 100, Stage.KILLING, [KillTree()], 105),
        (Gone(), 101, Stage.ENDED, [Settle()], None),
    ],
    "it is revoked before anything of it exists": [
        (STOP, 0, Stage.ASSIGNED, [TELL_STOP], None),
        (CANCEL, 0, Stage.ENDED, [Settle()], None),
        (Prepared(), 1, Stage.ENDED, [], None),
        (CANCEL, 2, Stage.ENDED, [], None),
    ],
    "its directory cannot be written": [
        (NO, 0, Stage.ENDED, [Settle()], None),
    ],
    "its launch is refused": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (NO, 1, Stage.KILLING, [KillTree()], 6),
        (Gone(), 2, Stage.ENDED, [Settle()], None),
    ],
    "its launch hangs": [
        (Prepared(), 0, Stage.LAUNCHING, [Launch()], 100),
        (Overdue(), 100, Stage.KILLING, [KillTree()], 105),
        (NO, 101, Stage.KILLING, [], 105),
        (Gone(), 102, Stage.ENDED, [Settle()], None),
    ],
}


@pytest.mark.parametrize("name", STORIES)
def test_a_story_of_an_attempt(name: str) -> None:
    attempt = Attempt(PATIENCE)
    for event, now_s, stage, actions, deadline_s in STORIES[name]:
        assert attempt.handle(event, now_s) == actions, event
        assert (attempt.stage, attempt.deadline_s) == (stage, deadline_s), event


def told(*events: AttemptEvent) -> Attempt:
    attempt = Attempt(PATIENCE)
    for number, event in enumerate(events):
        attempt.handle(event, number)
    return attempt


def test_what_it_was_told_is_kept_for_the_judge() -> None:
    assert told(Prepared(), STOP).orders == Orders(Verdict.STOP, None, "rung 1")
    assert told(Prepared(), STOP, GO_ON).orders == Orders(Verdict.CONTINUE, None, "kept")
    assert told(Prepared(), STOP, CANCEL, GO_ON).orders == Orders(
        Verdict.CONTINUE, AttemptOutcome.CANCELLED, "asked"
    )
    again = Revoked(AttemptOutcome.PREEMPTED, "leaving")
    assert told(Prepared(), CANCEL, again).orders.outcome is AttemptOutcome.PREEMPTED


def test_a_refused_or_hanging_launch_is_kept_for_the_judge() -> None:
    assert told(Prepared(), NO).refusal == (FailureClass.LAUNCH_ERROR, "no such interpreter")
    refusal = told(Prepared(), Overdue()).refusal
    assert refusal == (FailureClass.LAUNCH_ERROR, "no supervisor was seen within 100 s of the launch")
    assert told(Prepared(), CANCEL, Overdue()).refusal is None


def test_an_impossible_move_changes_nothing_and_tells_its_story() -> None:
    attempt = told(Prepared(), Supervised())
    with pytest.raises(ImpossibleMove) as raised:
        attempt.handle(Prepared(), 9)
    assert "attempt that is running cannot Prepared" in str(raised.value)
    assert raised.value.story == ["0.000 assigned: Prepared()", "1.000 launching: Supervised()"]
    assert attempt.stage is Stage.RUNNING


def test_the_table_has_a_line_for_every_stage_and_an_end_is_an_end() -> None:
    assert set(MOVES) == set(Stage)
    assert set(MOVES[Stage.ENDED].values()) == {Stage.ENDED}


EVENTS: list[AttemptEvent] = [Prepared(), NO, Supervised(), STOP, GO_ON, CANCEL, Overdue(), Gone()]


@given(st.lists(st.sampled_from(EVENTS), max_size=40))
def test_whatever_happens_it_is_launched_and_settled_at_most_once(events: list[AttemptEvent]) -> None:
    attempt, actions = Attempt(PATIENCE), list[Action]()
    for now_s, event in zip(itertools.count(), events, strict=False):
        stage, allowed = attempt.stage, type(event) in MOVES[attempt.stage]
        try:
            actions += attempt.handle(event, now_s)
        except ImpossibleMove:
            assert not allowed
            assert attempt.stage is stage
        if attempt.stage in (Stage.LAUNCHING, Stage.STOPPING, Stage.KILLING):
            assert attempt.deadline_s is not None, "nothing waits for ever on what may never come"
    assert sum(isinstance(action, Launch) for action in actions) <= 1
    assert sum(isinstance(action, Settle) for action in actions) == (attempt.stage is Stage.ENDED)
