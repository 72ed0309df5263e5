"""The engine's changes as writes, and back as a snapshot."""

from __future__ import annotations

import json

import msgspec
import pytest

from sweepd.errors import StoreConflict
from sweepd.keys import FEED_LENGTH, REPLY_TTL_S, Keys
from sweepd.messages import Event, Offer, OutboxEntry, Reply, Welcome, decode_feed, decode_outbox
from sweepd.records import (
    AgentRecord,
    AttemptRecord,
    CurvePoint,
    EndRecord,
    StudyRecord,
    TrialRecord,
)
from sweepd.spec import StudySpec, parse
from sweepd.states import AttemptOutcome, StudyState, TrialState
from sweepd.store import Append, Delete, Fence, Outcome, Position, Push, Put, Set, Trim
from sweepd.testing import MemoryStore
from sweepd_coordinator.core.changes import Changes
from sweepd_coordinator.writes import load_snapshot, to_writes

pytestmark = pytest.mark.anyio

KEYS = Keys("writes")


def spec(name: str = "digits") -> StudySpec:
    return parse(
        {
            "name": name,
            "task": {"command": ["true", "{args}"]},
            "objectives": [{"metric": "loss", "direction": "minimize"}],
            "space": {"x": {"type": "float", "low": 0, "high": 1}},
            "sampler": {"type": "random", "seed": 1},
            "budget": {"trials": 3},
        }
    )


def study(name: str, state: StudyState = StudyState.RUNNING, finished_at: float | None = None) -> StudyRecord:
    return StudyRecord(name, name, state, 1.5, 1, next_number=3, finished_at=finished_at)


def trial(number: int, state: TrialState, attempts: int = 0) -> TrialRecord:
    ran = [AttemptRecord(n + 1, "a", "host", f"token {n}", 2.0) for n in range(attempts)]
    return TrialRecord(number, state, 1.0, 1, params={"x": 0.25}, attempts=ran, rungs={3: 0.5, 9: "nan"})


def points(*steps: int) -> list[CurvePoint]:
    return [CurvePoint(1, step, {"loss": 0.5, "other": "inf"}) for step in steps]


def changes() -> Changes:
    return Changes(1, "5-1", 1700000000.0)


async def committed(store: MemoryStore, *made: Changes) -> Fence:
    fence = await store.lead("token", 60)
    assert fence is not None
    for number, change in enumerate(made, 1):
        outcome = await store.commit(fence, Position(number, change.cursor), to_writes(change, KEYS))
        assert outcome is Outcome.COMMITTED
    return fence


def test_nothing_is_nothing() -> None:
    assert to_writes(changes(), KEYS) == []


def test_each_hash_is_written_once_whatever_changed() -> None:
    made = changes()
    for number in range(5):
        made.trials["s", number] = trial(number, TrialState.WAITING)
        made.trials["t", number] = trial(number, TrialState.WAITING)
        made.agents[f"a{number}"] = AgentRecord(f"a{number}", "h", "s")
    writes = [write for write in to_writes(made, KEYS) if isinstance(write, Put)]
    assert [(write.key, len(write.fields)) for write in writes] == [
        (KEYS.agents, 5),
        (KEYS.trials("s"), 5),
        (KEYS.trials("t"), 5),
    ]


def test_records_are_json_that_people_can_read() -> None:
    made = changes()
    made.studies["s"] = study("s")
    (write,) = to_writes(made, KEYS)
    assert isinstance(write, Put)
    record = json.loads(write.fields["s"])
    assert record["state"] == "running"
    assert record["created_at"] == 1.5


def test_points_of_a_running_trial_are_appended_and_its_record_is_left_alone() -> None:
    made = changes()
    made.points["s", 1] = points(1, 2)
    (write,) = to_writes(made, KEYS)
    assert isinstance(write, Push)
    assert write.key == KEYS.points("s", 1)
    assert json.loads(write.items[0]) == [1, 1, {"loss": 0.5, "other": "inf"}]


def test_at_its_end_a_curve_is_folded_into_one_field() -> None:
    made = changes()
    made.points["s", 1] = points(3)
    made.curves["s", 1] = points(1, 2, 3)
    made.curves["s", 2] = []
    put, delete = to_writes(made, KEYS)
    assert isinstance(put, Put)
    assert put.key == KEYS.curves("s")
    assert msgspec.json.decode(put.fields["1"], type=list[CurvePoint]) == points(1, 2, 3)
    assert json.loads(put.fields["2"]) == []
    assert delete == Delete([KEYS.points("s", 1), KEYS.points("s", 2)])


def test_an_outbox_is_trimmed_and_gets_one_entry_with_our_number() -> None:
    made = changes()
    entry = OutboxEntry(4, "session", 9, [Welcome(1, [], 30.0)])
    made.outboxes["a"] = entry
    made.outbox_seen["a"] = 3
    trim, append = to_writes(made, KEYS)
    assert trim == Trim(KEYS.outbox("a"), 3)
    assert isinstance(append, Append)
    assert (append.key, append.number, append.limit) == (KEYS.outbox("a"), 4, None)
    assert decode_outbox(append.data) == entry


def test_replies_expire_ends_stay_and_the_feed_is_capped() -> None:
    made = changes()
    made.replies = [Reply("r1", study="s"), Reply("r2", error="no")]
    end = EndRecord("s", 1, 1, "a", "t", AttemptOutcome.FINISHED, TrialState.COMPLETE, 1, 2.0)
    made.ends = [end, end]
    made.events = [Event("trial.created", "s", 1), Event("trial.ended", "s", 1)]
    one, two, first, second, feed = to_writes(made, KEYS)
    assert isinstance(one, Set)
    assert (one.key, one.ttl_s) == (KEYS.reply("r1"), REPLY_TTL_S)
    assert isinstance(two, Set)
    assert first == second == Append(KEYS.ends, msgspec.json.encode(end))
    assert isinstance(feed, Append)
    assert (feed.key, feed.limit) == (KEYS.feed, FEED_LENGTH)
    entry = decode_feed(feed.data)
    assert (entry.commit, entry.at, entry.events) == (1, 1700000000.0, made.events)


def test_what_was_written_does_not_change_with_the_record() -> None:
    """The engine goes on with the same objects while the commit is under way."""
    made = changes()
    record = made.trials["s", 1] = trial(1, TrialState.WAITING)
    writes = to_writes(made, KEYS)
    record.state = TrialState.RUNNING
    (write,) = writes
    assert isinstance(write, Put)
    assert json.loads(write.fields["1"])["state"] == "waiting"


async def test_what_was_committed_is_loaded() -> None:
    store = MemoryStore(KEYS)
    made = changes()
    made.studies["s"] = study("s")
    made.specs["s"] = spec("s")
    running, again = trial(1, TrialState.RUNNING, attempts=1), trial(2, TrialState.WAITING, attempts=2)
    done, fresh = trial(0, TrialState.COMPLETE, attempts=1), trial(3, TrialState.WAITING)
    for record in (done, running, again, fresh):
        made.trials["s", record.number] = record
    made.points["s", 1] = points(1, 2)
    made.points["s", 2] = points(1)
    made.curves["s", 0] = points(1, 2, 3)
    agent = AgentRecord("a", "host", "session", last_seq=7, offer=Offer(1, 2, ["GPU-1"]))
    made.agents["a"] = agent
    made.replies = [Reply("r1", study="s", created=True)]
    await committed(store, made)

    found = await load_snapshot(store, KEYS)
    assert (found.commit, found.cursor) == (1, "5-1")
    assert found.studies == made.studies
    assert found.specs == made.specs
    assert found.agents == {"a": agent}
    assert found.replies == {"r1": made.replies[0]}
    assert {record.number: record for record in found.trials["s"]} == {
        0: done,
        1: running,
        2: again,
        3: fresh,
    }
    # Also of the trial that waits to be tried again: its curve has begun.
    assert found.points == {("s", 1): points(1, 2), ("s", 2): points(1)}


async def test_the_trials_of_a_study_that_is_over_are_not_loaded() -> None:
    """A cancelled study whose attempts still run is not over."""
    store = MemoryStore(KEYS)
    made = changes()
    for name, finished_at in (("over", 9.0), ("ending", None)):
        made.studies[name] = study(name, StudyState.CANCELLED, finished_at)
        made.specs[name] = spec(name)
        made.trials[name, 0] = trial(0, TrialState.RUNNING, attempts=1)
        made.points[name, 0] = points(1)
    await committed(store, made)
    found = await load_snapshot(store, KEYS)
    assert set(found.studies) == {"over", "ending"}
    assert set(found.trials) == {"ending"}
    assert set(found.points) == {("ending", 0)}


async def test_an_empty_store_is_an_empty_snapshot() -> None:
    found = await load_snapshot(MemoryStore(KEYS), KEYS)
    assert (found.commit, found.cursor, found.studies, found.agents) == (0, "0-0", {}, {})


async def test_a_record_that_cannot_be_read_is_named() -> None:
    store = MemoryStore(KEYS)
    fence = await committed(store)
    await store.commit(fence, Position(1, "0-0"), [Put(KEYS.agents, {"a7": b"{not json"})])
    with pytest.raises(StoreConflict, match=r"\{writes\}:agents a7 holds a record that cannot be read"):
        await load_snapshot(store, KEYS)


async def test_a_study_without_its_spec_is_named() -> None:
    store = MemoryStore(KEYS)
    made = changes()
    made.studies["s"] = study("s")
    await committed(store, made)
    with pytest.raises(StoreConflict, match=r"\{writes\}:specs has no field s"):
        await load_snapshot(store, KEYS)
