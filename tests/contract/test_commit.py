"""One atomic step per batch: everything of it, or nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from waiting import wait_until_async

from sweepd.errors import StoreConflict
from sweepd.keys import Keys
from sweepd.store import (
    Append,
    Delete,
    Drop,
    Fence,
    Outcome,
    Position,
    Push,
    Put,
    Set,
    Store,
    Trim,
    Write,
)

pytestmark = pytest.mark.anyio

BINARY = bytes(range(256)) + b"\r\n\x00*1\r\n$-1"


async def leading(store: Store) -> Fence:
    fence = await store.lead("token", 30)
    assert fence is not None
    return fence


async def do(store: Store, fence: Fence, commit: int, *writes: Write, cursor: str = "0-0") -> Outcome:
    return await store.commit(fence, Position(commit, cursor), list(writes))


async def test_every_kind_of_write(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    trials, points, outbox, reply = keys.trials("s"), keys.points("s", 1), keys.outbox("a"), keys.reply("r")
    outcome = await do(
        store,
        fence,
        1,
        Put(trials, {"1": b"one", "2": BINARY}),
        Push(points, [b"p", b"", BINARY]),
        Append(outbox, BINARY, number=1),
        Append(outbox, b"two", number=2),
        Append(keys.ends, b"end"),
        Set(reply, BINARY, 60),
    )
    assert outcome is Outcome.COMMITTED
    assert await store.position() == (fence, Position(1, "0-0"))
    assert await store.read_hash(trials) == {"1": b"one", "2": BINARY}
    assert await store.read_list(points) == [b"p", b"", BINARY]
    assert await store.read_stream(outbox, "0-0", 10) == [("1-0", BINARY), ("2-0", b"two")]
    assert [data for _, data in await store.read_stream(keys.ends, "0-0", 10)] == [b"end"]
    assert await store.read(reply) == BINARY

    await do(store, fence, 2, Drop(trials, ["2", "never was"]), Push(points, [b"q"]), Trim(outbox, 1))
    assert await store.read_hash(trials) == {"1": b"one"}
    assert await store.read_list(points) == [b"p", b"", BINARY, b"q"]
    assert await store.read_stream(outbox, "0-0", 10) == [("2-0", b"two")]

    await do(store, fence, 3, Drop(trials, ["1"]), Delete([points, outbox, "no such key"]))
    assert await store.read_hash(trials) == {}
    assert await store.read_list(points) == []
    assert await store.read_stream(outbox, "0-0", 10) == []


async def test_what_was_read_is_a_copy(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    await do(store, fence, 1, Put(keys.agents, {"a": b"1"}), Push(keys.points("s", 1), [b"1"]))
    (await store.read_hash(keys.agents))["a"] = b"spoilt"
    (await store.read_list(keys.points("s", 1))).append(b"spoilt")
    assert await store.read_hash(keys.agents) == {"a": b"1"}
    assert await store.read_list(keys.points("s", 1)) == [b"1"]


async def test_writes_apply_in_order(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    key = keys.points("s", 1)
    await do(store, fence, 1, Push(key, [b"old"]))
    await do(store, fence, 2, Push(key, [b"lost"]), Delete([key]), Push(key, [b"new"]))
    assert await store.read_list(key) == [b"new"]


async def test_empty_writes_change_nothing(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    outcome = await do(store, fence, 1, Put("h", {}), Drop("h", []), Push("l", []), Delete([]))
    assert outcome is Outcome.COMMITTED
    assert await store.read_hash("h") == {}


async def test_a_retry_of_the_same_commit_is_answered_already(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    write = Push(keys.points("s", 1), [b"once"])
    assert await do(store, fence, 1, write) is Outcome.COMMITTED
    assert await do(store, fence, 1, write) is Outcome.ALREADY
    assert await store.read_list(write.key) == [b"once"]


async def test_commits_come_one_after_the_other(store: Store, keys: Keys) -> None:
    """A store that is older (or newer) than the commit before answers BEHIND and stays."""
    fence = await leading(store)
    write = Push(keys.points("s", 1), [b"x"])
    assert await do(store, fence, 2, write) is Outcome.BEHIND
    assert await do(store, fence, 1) is Outcome.COMMITTED
    assert await do(store, fence, 2) is Outcome.COMMITTED
    assert await do(store, fence, 1, write) is Outcome.BEHIND
    assert await do(store, fence, 4, write) is Outcome.BEHIND
    assert await store.read_list(write.key) == []
    assert await store.position() == (fence, Position(2, "0-0"))


async def test_commit_numbers_go_on_under_the_next_leader(open_store: Callable[[], Store]) -> None:
    one, other = open_store(), open_store()
    first = await leading(one)
    await do(one, first, 1)
    await one.resign(first)
    second = await other.lead("b", 30)
    assert second is not None
    assert await do(other, second, 1) is Outcome.ALREADY
    assert await do(other, second, 2) is Outcome.COMMITTED


async def test_the_inbox_is_trimmed_up_to_the_cursor(store: Store) -> None:
    fence = await leading(store)
    ids = await store.send([b"%d" % n for n in range(5)])
    assert await do(store, fence, 1, cursor=ids[2]) is Outcome.COMMITTED
    assert await store.read_inbox("0-0", 10, 0) == [(ids[3], b"3"), (ids[4], b"4")]
    assert await store.position() == (fence, Position(1, ids[2]))
    assert await store.inbox_length() == 2


@pytest.mark.parametrize("spoilt", ["put", "push", "append", "set", "trim", "drop"])
async def test_a_key_of_the_wrong_type_stops_the_whole_batch(store: Store, keys: Keys, spoilt: str) -> None:
    fence = await leading(store)
    key = keys.trials("s")
    other: Write = Push(key, [b"x"]) if spoilt in ("put", "drop", "set") else Put(key, {"f": b"x"})
    await do(store, fence, 1, other)
    bad: dict[str, Write] = {
        "put": Put(key, {"f": b"y"}),
        "drop": Drop(key, ["f"]),
        "push": Push(key, [b"y"]),
        "append": Append(key, b"y"),
        "trim": Trim(key, 1),
        "set": Set(key, b"y", 60),
    }
    ids = await store.send([b"message"])
    with pytest.raises(StoreConflict, match="in the store, not a"):
        await do(store, fence, 2, Put(keys.agents, {"a": b"1"}), bad[spoilt], cursor=ids[0])
    assert await store.read_hash(keys.agents) == {}
    assert await store.read_inbox("0-0", 10, 0) == [(ids[0], b"message")]
    assert await store.position() == (fence, Position(1, "0-0"))
    assert await do(store, fence, 2, Delete([key]), cursor=ids[0]) is Outcome.COMMITTED


async def test_a_number_that_a_stream_has_passed_stops_the_whole_batch(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    outbox = keys.outbox("a")
    await do(store, fence, 1, Append(outbox, b"", number=7))
    await do(store, fence, 2, Trim(outbox, 7))
    ids = await store.send([b"message"])
    for number in (6, 7):
        with pytest.raises(StoreConflict, match="7-0 already"):
            await do(
                store,
                fence,
                3,
                Put(keys.agents, {"a": b"1"}),
                Append(outbox, b"", number=number),
                cursor=ids[0],
            )
    assert await store.read_hash(keys.agents) == {}
    assert await store.inbox_length() == 1
    await do(store, fence, 3, Append(outbox, b"eight", number=8))
    assert await store.read_stream(outbox, "0-0", 10) == [("8-0", b"eight")]


@pytest.mark.parametrize(
    "writes",
    [
        [Put("k", {"f": b""}), Push("k", [b""])],
        [Append("k", b"", number=2), Append("k", b"", number=2)],
        [Append("k", b"", number=2), Append("k", b"", number=1)],
    ],
)
async def test_a_batch_at_odds_with_itself_is_refused(store: Store, writes: list[Write]) -> None:
    fence = await leading(store)
    with pytest.raises(ValueError, match="one batch"):
        await do(store, fence, 1, *writes)
    assert await do(store, fence, 1) is Outcome.COMMITTED


async def test_a_stream_with_a_limit_stays_near_it(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    for commit in range(1, 31):
        await do(store, fence, commit, *(Append(keys.feed, b"%d" % n, limit=100) for n in range(20)))
    entries = await store.read_stream(keys.feed, "0-0", 1000)
    # Real servers cut whole nodes, of 100 entries as they are configured by default.
    assert 100 <= len(entries) <= 220
    assert entries[-1][1] == b"19"


async def test_a_string_lives_as_long_as_it_was_said(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    await do(store, fence, 1, Set(keys.reply("short"), b"x", 1), Set(keys.reply("long"), b"y", 60))
    assert await store.read(keys.reply("short")) == b"x"
    await wait_until_async(lambda: _absent(store, keys.reply("short")))
    assert await store.read(keys.reply("long")) == b"y"
    assert await store.read_prefixed(keys.reply("")) == {keys.reply("long"): b"y"}


async def _absent(store: Store, key: str) -> bool:
    return await store.read(key) is None


async def test_setting_again_starts_a_new_life(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    await do(store, fence, 1, Set(keys.reply("r"), b"x", 1))
    await do(store, fence, 2, Set(keys.reply("r"), b"y", 60), Set(keys.reply("witness"), b"", 1))
    await wait_until_async(lambda: _absent(store, keys.reply("witness")))
    assert await store.read(keys.reply("r")) == b"y"


async def test_ten_thousand_writes_in_one_commit(store: Store, keys: Keys) -> None:
    """Over every limit of a script's argument list, by count and by size."""
    fence = await leading(store)
    chance = random.Random(7)
    fields = {str(n): chance.randbytes(100) for n in range(10_000)}
    items = [chance.randbytes(50) for _ in range(10_001)]
    singles = [Put(keys.curves("s"), {str(n): b"c"}) for n in range(10_000)]
    appends = [Append(keys.ends, b"%d" % n) for n in range(5_000)]
    outcome = await do(
        store, fence, 1, Put(keys.trials("s"), fields), Push(keys.points("s", 1), items), *singles, *appends
    )
    assert outcome is Outcome.COMMITTED
    assert await store.read_hash(keys.trials("s")) == fields
    assert await store.read_list(keys.points("s", 1)) == items
    assert len(await store.read_hash(keys.curves("s"))) == 10_000
    ends = await store.read_stream(keys.ends, "0-0", 10_000)
    assert [data for _, data in ends] == [b"%d" % n for n in range(5_000)]
    await do(
        store,
        fence,
        2,
        Drop(keys.trials("s"), list(fields)),
        Delete([keys.points("s", n) for n in range(10_000)]),
    )
    assert await store.read_hash(keys.trials("s")) == {}
    assert await store.read_list(keys.points("s", 1)) == []


async def test_many_streams_with_numbers_in_one_commit(store: Store, keys: Keys) -> None:
    fence = await leading(store)
    boxes = [keys.outbox(f"agent {n}") for n in range(300)]
    for number in (1, 2):
        await do(store, fence, number, *(Append(box, b"%d" % number, number=number) for box in boxes))
    assert [await store.read_stream(box, "1-0", 5) for box in boxes] == [[("2-0", b"2")]] * 300
