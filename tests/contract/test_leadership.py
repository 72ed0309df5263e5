"""Who may write: one leader at a time, proved by epoch and token."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest
from waiting import wait_until_async

from sweepd.store import Fence, Outcome, Position, Store

pytestmark = pytest.mark.anyio


async def test_an_empty_store_has_no_leader_and_stands_at_the_beginning(store: Store) -> None:
    assert await store.position() == (None, Position(0, "0-0"))


async def test_a_leader_is_alone(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    fence = await one.lead("a", 30)
    assert fence == Fence(1, "a")
    assert await other.lead("b", 30) is None
    assert await other.position() == (fence, Position(0, "0-0"))


async def test_leading_again_with_the_same_token_gives_the_same_fence(store: Store) -> None:
    """The first answer may have been lost on its way."""
    first = await store.lead("a", 30)
    assert await store.lead("a", 30) == first == Fence(1, "a")


async def test_of_many_that_try_at_once_one_leads(open_store: Callable[[], Store]) -> None:
    fences: list[Fence | None] = []

    async def try_it(token: str) -> None:
        fences.append(await open_store().lead(token, 30))

    async with anyio.create_task_group() as tasks:
        for number in range(8):
            tasks.start_soon(try_it, f"token-{number}")
    leaders = [fence for fence in fences if fence is not None]
    assert len(fences) == 8
    assert [fence.epoch for fence in leaders] == [1]


async def test_a_term_ends_unless_it_is_renewed(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    fence = await one.lead("a", 0.2)
    assert fence is not None
    assert await one.renew(fence, 0.2)
    taken = await wait_until_async(lambda: other.lead("b", 30))
    assert taken == Fence(2, "b")
    assert not await one.renew(fence, 30)
    assert (await other.position())[0] == taken


async def test_a_term_that_ran_out_is_taken_back_if_nobody_led_since(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    fence = await one.lead("a", 0.05)
    assert fence is not None
    await wait_until_async(lambda: _is_gone(one))
    assert await one.renew(fence, 30)
    assert await other.lead("b", 30) is None
    assert await one.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED


async def _is_gone(store: Store) -> bool:
    keys = getattr(store, "keys")  # noqa: B009 (not a part of the contract)
    return await store.read(keys.leader) is None


async def test_resigning_lets_the_next_lead_at_once_and_ends_the_right_to_commit(
    open_store: Callable[[], Store],
) -> None:
    one, other = open_store(), open_store()
    fence = await one.lead("a", 30)
    assert fence is not None
    await one.resign(fence)
    assert (await one.position())[0] is None
    assert await one.commit(fence, Position(1, "0-0"), []) is Outcome.FENCED
    assert not await one.renew(fence, 30)
    assert await other.lead("b", 30) == Fence(2, "b")


async def test_a_late_resignation_does_not_end_the_next_term(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    first = await one.lead("a", 30)
    assert first is not None
    await one.resign(first)
    second = await other.lead("b", 30)
    assert second is not None
    await one.resign(first)
    assert await other.renew(second, 30)
    assert await one.lead("c", 30) is None


async def test_two_leaders_cannot_both_commit(open_store: Callable[[], Store]) -> None:
    """The one before may still believe in its term: the fence knows better."""
    one, other = open_store(), open_store()
    old = await one.lead("a", 0.05)
    assert old is not None
    assert await one.commit(old, Position(1, "0-0"), []) is Outcome.COMMITTED
    new = await wait_until_async(lambda: other.lead("b", 30))
    outcomes = [
        await one.commit(old, Position(2, "0-0"), []),
        await other.commit(new, Position(2, "0-0"), []),
        await one.commit(old, Position(3, "0-0"), []),
    ]
    assert outcomes == [Outcome.FENCED, Outcome.COMMITTED, Outcome.FENCED]
    assert await one.position() == (new, Position(2, "0-0"))


async def test_both_epoch_and_token_must_fit(store: Store) -> None:
    fence = await store.lead("a", 30)
    assert fence is not None
    for stranger in (Fence(fence.epoch, "b"), Fence(fence.epoch + 1, "a"), Fence(fence.epoch - 1, "a")):
        assert await store.commit(stranger, Position(1, "0-0"), []) is Outcome.FENCED
        assert not await store.renew(stranger, 30)
    assert await store.commit(fence, Position(1, "0-0"), []) is Outcome.COMMITTED
