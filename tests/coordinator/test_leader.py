"""Leadership over a store in memory: standing by, keeping a term, leaving it."""

from __future__ import annotations

import logging

import anyio
import pytest
from waiting import wait_until_async

from sweepd.errors import Fenced
from sweepd.store import Fence
from sweepd.testing import MemoryStore
from sweepd_coordinator import leader
from sweepd_coordinator.backoff import Backoff

pytestmark = pytest.mark.anyio

QUICK = 0.2


def backoff() -> Backoff:
    return Backoff(0.01, 0.02)


async def test_a_free_leadership_is_taken_at_once(memory: MemoryStore) -> None:
    with anyio.fail_after(1):
        fence = await leader.stand_by(memory, 30, backoff())
    assert fence.epoch == 1
    assert (await memory.position())[0] == fence


async def test_every_term_has_a_token_of_its_own(memory: MemoryStore) -> None:
    first = await leader.stand_by(memory, 30, backoff())
    await leader.resign(memory, first)
    second = await leader.stand_by(memory, 30, backoff())
    assert second.epoch == 2
    assert first.token != second.token


async def test_who_stands_by_leads_when_the_leader_is_silent(
    memory: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    assert await memory.lead("silent", QUICK)
    with caplog.at_level(logging.INFO), anyio.fail_after(10):
        fence = await leader.stand_by(memory, QUICK, backoff())
    assert fence.epoch == 2
    # Said once, however often it asked.
    assert [record.getMessage() for record in caplog.records] == ["coordinator.standing_by"]


async def test_who_stands_by_does_not_lead_while_the_leader_renews(memory: MemoryStore) -> None:
    first = await leader.stand_by(memory, QUICK, backoff())
    second: list[Fence] = []

    async def stand_by() -> None:
        second.append(await leader.stand_by(memory, QUICK, backoff()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stand_by)
        with anyio.move_on_after(3 * QUICK):
            await leader.keep(memory, first, QUICK)
        assert second == []
        await leader.resign(memory, first)
    assert second[0].epoch == 2


async def test_a_lost_leadership_is_noticed(memory: MemoryStore) -> None:
    fence = await leader.stand_by(memory, QUICK, backoff())
    await memory.resign(fence)
    await memory.lead("other", 30)
    with anyio.fail_after(10), pytest.raises(Fenced):
        await leader.keep(memory, fence, QUICK)


async def test_an_outage_of_the_store_ends_no_term(memory: MemoryStore) -> None:
    fence = await leader.stand_by(memory, QUICK, backoff())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leader.keep, memory, fence, QUICK)
        memory.reachable = False
        await anyio.sleep(2 * QUICK)
        memory.reachable = True
        await wait_until_async(lambda: memory.read(memory.keys.leader))
        tasks.cancel_scope.cancel()
    assert (await memory.position())[0] == fence


async def test_standing_by_outlasts_an_outage(memory: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    memory.reachable = False
    fences: list[Fence] = []

    async def stand_by() -> None:
        fences.append(await leader.stand_by(memory, 30, backoff()))

    with caplog.at_level(logging.INFO):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stand_by)
            await wait_until_async(lambda: caplog.records)
            memory.reachable = True
    assert [fence.epoch for fence in fences] == [1]
    names = [record.getMessage().split()[0] for record in caplog.records]
    assert names == ["store.unreachable", "store.back"]


async def test_resigning_is_done_while_being_cancelled(memory: MemoryStore) -> None:
    fence = await leader.stand_by(memory, 30, backoff())
    with anyio.CancelScope() as scope:
        scope.cancel()
        await leader.resign(memory, fence)
    assert (await memory.position())[0] is None


async def test_resigning_from_a_store_that_is_away_is_no_error(memory: MemoryStore) -> None:
    fence = await leader.stand_by(memory, 30, backoff())
    memory.reachable = False
    await leader.resign(memory, fence)


def test_pauses_grow_to_their_longest_and_start_again() -> None:
    pauses = Backoff(1, 10)
    seen = [pauses.next_s() for _ in range(6)]
    for pause, most in zip(seen, [1, 2, 4, 8, 10, 10], strict=True):
        assert most / 2 <= pause <= most
    pauses.reset()
    assert pauses.next_s() <= 1
