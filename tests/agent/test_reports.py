"""Reports are read from the job's file in order, whole, once, whatever else is in it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweepd.messages import MESSAGE_LIMIT_BYTES, Point, Reports, encode
from sweepd_agent import reports
from sweepd_agent.reports import CHUNK_BYTES, LINE_LIMIT_BYTES, POINT_LIMIT_BYTES, ReportTail


def line(ordinal: int, **metrics: float | str) -> bytes:
    said = {"ordinal": ordinal, "step": 10 * ordinal, "metrics": metrics or {"loss": 0.5}, "at": 1.7e9}
    return json.dumps(said).encode() + b"\n"


def point(ordinal: int, **metrics: float | str) -> Point:
    return Point(ordinal, 10 * ordinal, {**(metrics or {"loss": 0.5})})


@pytest.fixture
def tail(tmp_path: Path) -> ReportTail:
    return ReportTail(tmp_path / "reports.ndjson")


def write(tail: ReportTail, data: bytes) -> None:
    with tail.path.open("ab") as file:
        file.write(data)


def read_all(tail: ReportTail) -> list[list[Point]]:
    found: list[list[Point]] = []
    while points := tail.read():
        found.append(points)
    return found


def test_a_file_that_does_not_exist_has_nothing_to_read(tail: ReportTail) -> None:
    assert (tail.read(), tail.behind) == ([], False)


def test_points_are_read_as_they_come(tail: ReportTail) -> None:
    write(tail, line(1) + line(2))
    assert tail.behind
    assert tail.read() == [point(1), point(2)]
    assert (tail.read(), tail.behind) == ([], False)
    write(tail, line(3, loss="nan", worst="-inf"))
    assert tail.read() == [point(3, loss="nan", worst="-inf")]
    assert tail.points == 3


def test_a_line_without_its_end_waits_for_it(tail: ReportTail) -> None:
    whole = line(1)
    write(tail, whole[:20])
    assert (tail.read(), tail.behind) == ([], True)
    write(tail, whole[20:])
    assert tail.read() == [point(1)]


def test_many_points_are_cut_into_messages_of_bounded_size_in_order(tail: ReportTail) -> None:
    write(tail, b"".join(map(line, range(1, 10_001))))
    pieces = read_all(tail)
    assert len(pieces) > 5
    assert [said.ordinal for piece in pieces for said in piece] == list(range(1, 10_001))
    assert all(len(encode(Reports("s", 0, 1, "t", piece))) <= CHUNK_BYTES for piece in pieces)


def test_a_long_line_does_not_drag_what_follows_into_its_message(tail: ReportTail) -> None:
    long = {f"m{number}": 0.5 for number in range(8_000)}
    many = range(2, 5_000)
    write(tail, line(1, **long) + b"".join(map(line, many)))
    assert CHUNK_BYTES < len(line(1, **long)) < POINT_LIMIT_BYTES
    pieces = read_all(tail)
    assert [said.ordinal for piece in pieces for said in piece] == [1, *many]
    assert max(len(encode(Reports("s", 0, 1, "t", piece))) for piece in pieces) <= POINT_LIMIT_BYTES


def test_after_a_rewind_everything_is_read_again(tail: ReportTail) -> None:
    write(tail, line(1) + line(2))
    first = read_all(tail)
    tail.rewind()
    assert read_all(tail) == first


@pytest.mark.parametrize(
    "bad",
    [
        b"garbage\n",
        b"\n",
        b'{"ordinal": 2}\n',
        b'{"ordinal": 2, "step": "x", "metrics": {}}\n',
        b'{"ordinal": 2, "step": 1, "metrics": {"loss": "much"}}\n',
        b'{"ordinal": 2, "step": 1, "metrics": {"loss": null}}\n',
        b"\xff\xfe\x00\n",
        line(1),
    ],
)
def test_a_line_that_makes_no_sense_is_skipped_and_said(
    tail: ReportTail, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write(tail, line(1) + bad + line(3))
    with caplog.at_level(logging.WARNING):
        assert tail.read() == [point(1), point(3)]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["report.unreadable"]


@pytest.mark.parametrize("size", [CHUNK_BYTES, LINE_LIMIT_BYTES, 3 * LINE_LIMIT_BYTES + 7])
@pytest.mark.parametrize("ended", [True, False])
def test_a_megabyte_without_a_newline_does_not_stop_the_reading(
    tail: ReportTail, size: int, ended: bool
) -> None:
    write(tail, line(1) + b"x" * size + (b"\n" if ended else b""))
    assert tail.read() == [point(1)]
    assert tail.read() == []
    write(tail, (b"" if ended else b"\n") + line(2))
    assert tail.read() == [point(2)]


def test_a_point_that_is_too_large_to_travel_goes_without_its_metrics(
    tail: ReportTail, caplog: pytest.LogCaptureFixture
) -> None:
    large = {f"metric_{number}": 0.123456789 for number in range(10_000)}
    write(tail, line(1) + line(2, **large) + line(3))
    assert len(line(2, **large)) > max(POINT_LIMIT_BYTES, MESSAGE_LIMIT_BYTES)
    with caplog.at_level(logging.WARNING):
        assert [said for piece in read_all(tail) for said in piece] == [
            point(1),
            Point(2, 20, {}),
            point(3),
        ]
    assert f"at most {POINT_LIMIT_BYTES}" in caplog.text


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 40))
def test_however_the_writes_and_reads_fall_no_point_is_lost_doubled_or_moved(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], count: int
) -> None:
    tail = ReportTail(tmp_path_factory.mktemp("reports") / "reports.ndjson")
    data = b"".join(map(line, range(1, count + 1)))
    found: list[Point] = []
    for cut in cuts:
        write(tail, data[:cut])
        data = data[cut:]
        found += tail.read()
    write(tail, data)
    found += [said for piece in read_all(tail) for said in piece]
    assert found == [point(ordinal) for ordinal in range(1, count + 1)]


def test_a_line_without_an_end_of_any_length_is_passed_over(
    tail: ReportTail, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "LINE_LIMIT_BYTES", CHUNK_BYTES)
    with tail.path.open("wb") as file:
        file.truncate(CHUNK_BYTES * 2_000)  # zeros, and no disk is used for them
    write(tail, b"\n" + line(1))
    assert read_all(tail) == [[point(1)]]


def test_a_file_that_cannot_be_read_has_nothing_to_read(
    tail: ReportTail, caplog: pytest.LogCaptureFixture
) -> None:
    tail.path.mkdir()
    assert tail.read() == []
    tail.path.rmdir()
    tail.path.symlink_to(tail.path)
    assert (tail.read(), tail.behind) == ([], False)
    assert caplog.text.count("report.unreadable") == 2
