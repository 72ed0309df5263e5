"""The loop over a store in memory: what is committed, when, and what ends a term."""

from __future__ import annotations

import logging

import anyio
import anyio.to_thread
import pytest
from loops import KEYS, QUICK, Running, message, running
from waiting import wait_until_async

from sweepd.errors import Fenced, StoreConflict, StoreUnreachable, StoreWentBack
from sweepd.store import Fence, Outcome, Position, Push, Write
from sweepd.testing import FakeClock, MemoryStore
from sweepd_coordinator.core.changes import Ask, Suggestion
from sweepd_coordinator.settings import TurnSettings

pytestmark = pytest.mark.anyio


async def finished(run: Running, count: int) -> list[str]:
    """Wait until *count* ends are in the log, and return them."""

    async def enough() -> list[str] | None:
        done = await run.done()
        return done if len(done) >= count else None

    return await wait_until_async(enough, describe=lambda: run.errors)


async def test_what_arrives_is_done_once_and_leaves_the_inbox(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a"), message("b")])
        await finished(run, 2)
        await memory.send([message("c")])
        assert await finished(run, 3) == ["a", "b", "c"]
        assert await memory.inbox_length() == 0
        _, position = await memory.position()
        assert position == Position(run.engine.commit, run.engine.cursor)


async def test_a_turn_without_changes_is_not_committed(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await wait_until_async(lambda: len(run.engine.turns) >= 5)
        assert (await memory.position())[1] == Position(0, "0-0")


async def test_an_idle_loop_still_takes_turns(memory: MemoryStore) -> None:
    """Leases end in silence."""
    async with running(memory) as run:
        await wait_until_async(lambda: len(run.engine.turns) >= 3)
        times = [turn.now_s for turn in run.engine.turns]
        assert times == sorted(times)
        assert all(turn.entries == [] and turn.suggestions == [] for turn in run.engine.turns)
        await wait_until_async(lambda: run.engine.turns[-1].read_through_s >= times[0])


async def test_the_engine_may_want_its_turn_earlier(memory: MemoryStore) -> None:
    settings = TurnSettings(idle_s=3600)
    async with running(memory, settings, lease_ttl_s=1e6) as run:
        await wait_until_async(lambda: len(run.engine.turns) == 1)
        run.engine.due_s = 0.0  # long ago
        run.loop._bell.ring()  # pyright: ignore[reportPrivateUsage]
        await memory.send([message("wakes it")])
        await wait_until_async(lambda: len(run.engine.turns) > 5)


async def test_turns_have_a_size(memory: MemoryStore) -> None:
    await memory.send([message(f"{n}") for n in range(25)])
    settings = TurnSettings(messages=10, idle_s=0.05)
    async with running(memory, settings) as run:
        assert await finished(run, 25) == [str(n) for n in range(25)]
        turns = [turn for turn in run.engine.turns if turn.entries]
        assert [len(turn.entries) for turn in turns] == [10, 10, 5]
        # A read that was full has not seen the tail.
        assert [turn.read_through_s > 0 for turn in turns] == [False, False, True]


async def test_an_entry_counts_as_many_messages_as_it_has(memory: MemoryStore) -> None:
    await memory.send([message(f"{n}", count=4) for n in range(5)])
    async with running(memory, TurnSettings(messages=10, idle_s=0.05)) as run:
        await finished(run, 5)
        assert [len(turn.entries) for turn in run.engine.turns if turn.entries] == [2, 2, 1]
        assert run.value("sweepd_messages_total") == 20


async def test_turns_have_a_size_in_bytes_too(memory: MemoryStore) -> None:
    await memory.send([message(f"{n}", size=400) for n in range(5)])
    settings = TurnSettings(bytes=1_100, idle_s=0.05)
    async with running(memory, settings) as run:
        await finished(run, 5)
        sizes = [len(turn.entries) for turn in run.engine.turns if turn.entries]
        assert sizes == [2, 2, 1]


async def test_an_entry_larger_than_a_turn_is_taken_alone(memory: MemoryStore) -> None:
    await memory.send([message("small"), message("large", size=5_000), message("next")])
    settings = TurnSettings(bytes=1_000, idle_s=0.05)
    async with running(memory, settings) as run:
        assert await finished(run, 3) == ["small", "large", "next"]
        assert [len(turn.entries) for turn in run.engine.turns if turn.entries] == [1, 1, 1]


async def test_the_tail_counts_as_read_only_when_all_before_it_was_taken(memory: MemoryStore) -> None:
    """A lease must not be judged by an inbox of which a renewal is still to be handled."""
    await memory.send([message(f"{n}", size=400) for n in range(4)])
    async with running(memory, TurnSettings(bytes=500, idle_s=0.05)) as run:
        await finished(run, 4)
        took = [turn for turn in run.engine.turns if turn.entries]
        assert [turn.read_through_s for turn in took[:3]] == [float("-inf")] * 3
        assert took[3].read_through_s > 0


async def test_entries_that_cannot_be_read_are_counted_and_skipped(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    poison = [
        b"",
        b"\xff\xfe not text",
        b'{"type": "agent_batch"}',
        b'{"type": "nobody knows me"}',
        b'{"type": "client_request", "request_id": "r", "request": {"type": "submit_study", "spec": {"a": '
        + b"[" * 100_000,
        message("a")[:-1],
    ]
    async with running(memory) as run:
        with caplog.at_level(logging.WARNING):
            ids = await memory.send([message("before"), *poison, message("after")])
            assert await finished(run, 2) == ["before", "after"]
        entries = [entry for turn in run.engine.turns for entry in turn.entries]
        assert [name for name, envelope in entries if envelope is None] == ids[1:-1]
        assert await memory.inbox_length() == 0
        rejected = [r for r in caplog.records if r.getMessage().startswith("inbox.rejected")]
        assert len(rejected) == len(poison)
        assert run.value("sweepd_messages_rejected_total") == len(poison)
        assert run.value("sweepd_messages_total") == len(poison) + 2


async def test_the_search_hears_only_of_what_is_committed(memory: MemoryStore) -> None:
    stood_at: list[int] = []
    async with running(memory) as run:
        run.search.on_submit = lambda: stood_at.append(_commit(memory))
        await memory.send([message("ask")])
        await wait_until_async(lambda: len(run.search.notes))
        (note,) = run.search.notes
        assert isinstance(note, Ask)
        assert stood_at == [note.cut]


def _commit(memory: MemoryStore) -> int:
    return memory._fence.position.commit  # pyright: ignore[reportPrivateUsage]


async def test_a_question_whose_commit_is_fenced_is_never_asked(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.resign(run.fence)
        await memory.lead("other", 60)
        await memory.send([message("ask")])
        await wait_until_async(lambda: run.ended)
        assert run.search.notes == []
        assert run.search.closed


async def test_suggestions_come_from_another_thread_and_wake_the_loop(memory: MemoryStore) -> None:
    settings = TurnSettings(idle_s=3600)
    async with running(memory, settings, lease_ttl_s=1e6) as run:
        answers = [Suggestion("s", number, 1, {}) for number in (5, 6)]
        await anyio.to_thread.run_sync(run.search.answer, answers)  # pyright: ignore[reportArgumentType]
        assert await finished(run, 2) == ["suggestion 5", "suggestion 6"]


async def test_a_lost_answer_to_a_commit_is_found_out(memory: MemoryStore) -> None:
    """It had gone through: it is not done again, and the engine never notices."""
    async with running(memory) as run:
        for name in "abc":
            memory.lose_reply()
            await memory.send([message(name)])
        assert await finished(run, 3) == ["a", "b", "c"]
        await memory.send([message("d")])
        assert await finished(run, 4) == ["a", "b", "c", "d"]
        assert len(run.engines) == 1
        assert run.errors == []


async def test_a_store_that_is_away_is_waited_for(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        memory.reachable = False
        await wait_until_async(lambda: run.value("sweepd_store_outages_total") == 1)
        memory.reachable = True
        await memory.send([message("b")])
        assert await finished(run, 2) == ["a", "b"]
        assert len(run.engines) == 1


async def test_no_idle_turn_while_nobody_can_be_heard(memory: MemoryStore) -> None:
    """The gap between turns is how the engine knows that silence was nobody's fault."""
    async with running(memory) as run:
        await wait_until_async(lambda: len(run.engine.turns) >= 3)
        memory.reachable = False
        await wait_until_async(lambda: run.value("sweepd_store_outages_total") == 1)
        before = len(run.engine.turns)
        await anyio.sleep(10 * QUICK.idle_s)
        away = len(run.engine.turns) - before
        memory.reachable = True
        await wait_until_async(lambda: len(run.engine.turns) > before + away + 2)
    # One turn may have been due already when the reader found out.
    assert away <= 1


async def test_another_leader_ends_the_term(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        await memory.resign(run.fence)
        assert await memory.lead("other", 60)
        await memory.send([message("b")])
        await wait_until_async(lambda: run.ended)
        assert _only(run.errors[0], Fenced)
        assert await run.done() == ["a"]
        assert await memory.inbox_length() == 1


class TakenOver(MemoryStore):
    """The answer to a commit is lost, and before its sender asks another coordinator leads."""

    armed = False

    async def commit(self, fence: Fence, position: Position, writes: list[Write]) -> Outcome:
        outcome = await super().commit(fence, position, writes)
        if self.armed:
            await self.resign(fence)
            await self.lead("other", 60)
            raise StoreUnreachable("lost")
        return outcome


async def test_a_term_ends_when_the_commit_was_lost_and_another_leads() -> None:
    memory = TakenOver(KEYS)
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        memory.armed = True
        await memory.send([message("b")])
        await wait_until_async(lambda: run.ended)
        assert _only(run.errors[0], Fenced)
        assert await run.done() == ["a", "b"]


class NotArriving(MemoryStore):
    """Some commits do not arrive."""

    to_lose = 0

    async def commit(self, fence: Fence, position: Position, writes: list[Write]) -> Outcome:
        if self.to_lose:
            self.to_lose -= 1
            raise StoreUnreachable("lost")
        return await super().commit(fence, position, writes)


async def test_a_commit_that_did_not_arrive_is_sent_again() -> None:
    memory = NotArriving(KEYS)
    async with running(memory) as run:
        memory.to_lose = 3
        await memory.send([message("a")])
        assert await finished(run, 1) == ["a"]
        assert memory.to_lose == 0
        assert len([turn for turn in run.engine.turns if turn.entries]) == 1


async def test_a_store_that_went_back_ends_the_term(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        memory._fence.position = Position(0, "0-0")  # pyright: ignore[reportPrivateUsage]
        await memory.send([message("b")])
        await wait_until_async(lambda: run.ended)
        assert _only(run.errors[0], StoreWentBack)


async def test_a_store_that_came_back_older_is_noticed_without_a_commit(memory: MemoryStore) -> None:
    """What was acknowledged may be lost: whoever still holds it must hear of it soon."""
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        memory.reachable = False
        await wait_until_async(lambda: run.value("sweepd_store_outages_total") == 1)
        memory._fence.position = Position(0, "0-0")  # pyright: ignore[reportPrivateUsage]
        memory.reachable = True
        await wait_until_async(lambda: run.ended)
        assert _only(run.errors[0], StoreWentBack)


async def test_a_foreign_key_ends_the_coordinator_loudly(memory: MemoryStore) -> None:
    async with running(memory) as run:
        writes = [Push(KEYS.ends, [b"what is this"])]
        assert await memory.commit(run.fence, Position(1, "0-0"), list(writes)) is Outcome.COMMITTED
        run.engine.commit = 1
        await memory.send([message("a")])
        await wait_until_async(lambda: run.ended)
        assert _only(run.errors[0], StoreConflict)
        assert await memory.inbox_length() == 1


async def test_a_reload_starts_from_the_store(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a"), message("again"), message("b")])
        await finished(run, 3)
        await wait_until_async(lambda: len(run.engines) == 2 and run.engine.loaded is not None)
        await memory.send([message("c")])
        assert await finished(run, 4) == ["a", "again", "b", "c"]
        assert run.engine.loaded is not None
        assert run.engine.loaded.commit == run.engines[0].commit
        await wait_until_async(lambda: run.searches[0].closed)
        assert not run.searches[1].closed


async def test_answers_to_what_was_asked_before_a_reload_are_dropped(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("again")])
        await wait_until_async(lambda: len(run.engines) == 2)
        run.searches[0].answer([Suggestion("s", 1, 1, {})])
        run.searches[1].answer([Suggestion("s", 2, 2, {})])
        assert await finished(run, 2) == ["again", "suggestion 2"]


class SlowToLoad(MemoryStore):
    """The first reads of records fail."""

    to_fail = 3

    async def read_hash(self, key: str) -> dict[str, bytes]:
        if self.to_fail:
            self.to_fail -= 1
            raise StoreUnreachable("not yet")
        return await super().read_hash(key)


async def test_loading_waits_for_the_store() -> None:
    memory = SlowToLoad(KEYS)
    async with running(memory) as run:
        await memory.send([message("a")])
        assert await finished(run, 1) == ["a"]
        assert memory.to_fail == 0


async def test_stopping_finishes_the_turn_and_no_more(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        run.loop.stop()
        await wait_until_async(lambda: run.ended)
        await memory.send([message("b")])
        assert await run.done() == ["a"]
        assert run.errors == []
        assert run.search.closed


async def test_what_the_loop_shows(memory: MemoryStore) -> None:
    async with running(memory) as run:
        await memory.send([message("a"), message("b")])
        await finished(run, 2)
        await wait_until_async(lambda: run.value("sweepd_leases") == 7)
        assert run.value("sweepd_slots") == 4
        assert run.value("sweepd_slots_used") == 3
        assert run.value("sweepd_messages_superseded_total") == 3
        assert run.value("sweepd_leading") == 1
        assert run.value("sweepd_leader_epoch") == 1
        assert run.value("sweepd_messages_total") == 2
        assert run.value("sweepd_attempts_ended_total", outcome="finished") == 2
        assert (run.value("sweepd_commit_messages_sum")) == 2
        assert (run.value("sweepd_commit_seconds_count") or 0) >= 1
        await wait_until_async(lambda: run.value("sweepd_inbox_entries") == 0)


async def test_the_lag_is_how_long_the_oldest_entry_waited() -> None:
    clock = FakeClock(1_000.0)  # the store's clock: far behind the loop's
    memory = MemoryStore(KEYS, clock)
    async with running(memory, TurnSettings(idle_s=3600), lease_ttl_s=1e6) as run:
        await memory.send([message("a")])
        await finished(run, 1)
        await wait_until_async(lambda: (run.value("sweepd_inbox_lag_seconds") or 0) > 1e6)


def _only(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether *error*, which may be a group, is nothing but a *kind*."""
    if isinstance(error, BaseExceptionGroup):
        return all(_only(inner, kind) for inner in error.exceptions)
    return isinstance(error, kind)
