"""Ends are kept until they are acknowledged, through kills, torn lines and full disks."""

from __future__ import annotations

import errno
import resource
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweepd.messages import Decline, Finished
from sweepd.states import AttemptOutcome
from sweepd_agent import spool as spool_module
from sweepd_agent.spool import COMPACT_BYTES, Debt, Spool

HERE = Path("/state/attempts/s1/0/1")


def end(token: str, message: str = "") -> Finished:
    return Finished("s1", 0, 1, token, AttemptOutcome.FINISHED, message=message)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.ndjson"


def reopened(path: Path) -> list[Debt]:
    """What an agent finds that starts after a kill: nothing was closed."""
    spool = Spool(path)
    try:
        return spool.owed
    finally:
        spool.close()


def test_an_end_is_owed_from_the_start_of_an_attempt_to_its_acknowledgement(path: Path) -> None:
    assert reopened(path) == []
    Spool(path).take("t", HERE)
    assert reopened(path) == [Debt("t", str(HERE))]
    spool = Spool(path)
    spool.put(end("t"), HERE)
    assert reopened(path) == spool.owed == [Debt("t", str(HERE), end("t"))]
    spool = Spool(path)
    spool.forget("t")
    spool.forget("t")
    assert reopened(path) == spool.owed == []


def test_a_refusal_is_kept_like_an_end(path: Path) -> None:
    Spool(path).put(Decline("s1", 0, 1, "t", "full"), HERE)
    assert reopened(path) == [Debt("t", str(HERE), Decline("s1", 0, 1, "t", "full"))]


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_dropped_and_the_rest_is_kept(path: Path, cut: int) -> None:
    spool = Spool(path)
    spool.put(end("t"), HERE)
    spool.put(end("u"), HERE)
    path.write_bytes(path.read_bytes()[:-cut])
    after = Spool(path)
    assert [debt.token for debt in after.owed] == (["t", "u"] if cut == 1 else ["t"])
    assert [damage.line for damage in after.damages] == ([] if cut == 1 else [2])
    after.put(end("v"), HERE)
    assert [debt.token for debt in reopened(path)][-1] == "v", "what follows is whole again"


def test_a_line_of_garbage_in_the_middle_is_dropped_and_said(path: Path) -> None:
    Spool(path).put(end("t"), HERE)
    path.write_bytes(b"\x00\xff garbage\n" + path.read_bytes())
    spool = Spool(path)
    assert spool.owed == [Debt("t", str(HERE), end("t"))]
    assert [damage.line for damage in spool.damages] == [1]


def test_the_file_is_rewritten_when_most_of_it_is_paid(path: Path) -> None:
    spool = Spool(path)
    spool.put(end("kept"), HERE)
    for number in range(2 * COMPACT_BYTES // 1_000):
        spool.put(end(str(number), "x" * 1_000), HERE)
        spool.forget(str(number))
    assert path.stat().st_size == spool.size_bytes < COMPACT_BYTES
    assert reopened(path) == [Debt("kept", str(HERE), end("kept"))]


def test_a_full_disk_is_said_and_leaves_no_half_line(path: Path) -> None:
    spool = Spool(path)
    spool.put(end("t"), HERE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError):
            spool.put(end("u"), HERE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [debt.token for debt in spool.owed] == ["t"]
    spool.put(end("v"), HERE)
    assert [debt.token for debt in reopened(path)] == ["t", "v"]


def test_a_full_disk_does_not_keep_an_end_from_being_paid(path: Path) -> None:
    spool = Spool(path)
    spool.put(end("t"), HERE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 10, hard))
    try:
        spool.forget("t")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.owed == []
    spool.put(end("u"), HERE)
    assert [debt.token for debt in reopened(path)] == ["t", "u"], "an end is sent twice, not lost"


def test_a_full_disk_at_the_rewriting_leaves_the_old_file_in_use(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "no space left on device")

    spool = Spool(path)
    monkeypatch.setattr(spool_module, "write_durably", full)
    for number in range(2 * COMPACT_BYTES // 1_000):
        spool.put(end(str(number), "x" * 1_000), HERE)
        spool.forget(str(number))
    spool.put(end("kept"), HERE)
    monkeypatch.undo()
    assert path.stat().st_size == spool.size_bytes > COMPACT_BYTES
    assert [debt.token for debt in reopened(path)] == ["kept"]
    spool.put(end("u"), HERE)
    assert spool.size_bytes < COMPACT_BYTES, "tried again once there is room"


@settings(max_examples=40)  # each change is an fsync
@given(
    st.lists(st.tuples(st.sampled_from(["take", "put", "forget", "restart"]), st.sampled_from("abc"))),
)
def test_whatever_happens_a_restart_finds_what_was_owed(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[str, str]]
) -> None:
    path = tmp_path_factory.mktemp("spool") / "spool.ndjson"
    spool, owed = Spool(path), dict[str, Debt]()
    for change, token in changes:
        if change == "take":
            spool.take(token, HERE)
            owed[token] = Debt(token, str(HERE))
        elif change == "put":
            spool.put(end(token), HERE)
            owed[token] = Debt(token, str(HERE), end(token))
        elif change == "forget":
            spool.forget(token)
            owed.pop(token, None)
        else:
            spool.close()
            spool = Spool(path)
        assert {debt.token: debt for debt in spool.owed} == owed
    spool.close()
    assert {debt.token: debt for debt in reopened(path)} == owed
