"""What was sent is kept until it is acknowledged, and sent again as it was."""

from __future__ import annotations

import pytest

from sweepd.messages import AgentMessage, Leave, Renew
from sweepd_agent.core.window import Window


def renewals(*names: str) -> list[AgentMessage]:
    return [Renew([name]) for name in names]


def filled() -> Window:
    """Batches 1-2, 3, 4-6."""
    window = Window(messages=10, size_bytes=100)
    for names in ("ab", "c", "def"):
        window.add(renewals(*names), names.encode())
    return window


def test_messages_are_numbered_from_one() -> None:
    window = Window()
    first, second = window.add(renewals("a", "b"), b"ab"), window.add([Leave()], b"l")
    assert [(batch.first_seq, batch.last_seq) for batch in (first, second)] == [(1, 2), (3, 3)]
    assert window.next_seq == 4


@pytest.mark.parametrize(
    ("acknowledged", "done", "left", "again"),
    [
        (0, "", 6, [b"ab", b"c", b"def"]),
        (1, "a", 5, [b"ab", b"c", b"def"]),
        (2, "ab", 4, [b"c", b"def"]),
        (3, "abc", 3, [b"def"]),
        (5, "abcde", 1, [b"def"]),
        (6, "abcdef", 0, []),
        (99, "abcdef", 0, []),
    ],
)
def test_an_acknowledgement_is_cumulative(
    acknowledged: int, done: str, left: int, again: list[bytes]
) -> None:
    window = filled()
    assert window.acknowledge(acknowledged) == renewals(*done)
    assert len(window) == left
    assert window.again() == again
    assert window.acknowledge(acknowledged) == [], "the same acknowledgement again says nothing new"


def test_an_acknowledgement_in_the_middle_of_a_batch_says_each_message_once() -> None:
    window = filled()
    assert window.acknowledge(4) == renewals(*"abcd")
    assert window.acknowledge(2) == []
    assert window.acknowledge(6) == renewals(*"ef")


def test_room_counts_messages_and_bytes() -> None:
    window = filled()
    assert (window.room_messages, window.room_bytes) == (4, 94)
    window.add(renewals(*"ghij"), b"x" * 200)
    assert (window.room_messages, window.room_bytes) == (0, 0)
    window.acknowledge(10)
    assert (window.room_messages, window.room_bytes) == (10, 100)


def test_a_gap_is_filled_from_the_batch_that_holds_it() -> None:
    window = filled()
    assert window.again(2) == [b"ab", b"c", b"def"]
    assert window.again(4) == [b"def"]
    assert window.again(7) == []
