"""The inbox and the other streams, as readers see them."""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio
import pytest

from sweepd.errors import StoreConflict
from sweepd.keys import Keys
from sweepd.store import Append, Position, Put, Set, Store

pytestmark = pytest.mark.anyio


async def test_entries_keep_their_order_and_their_bytes(store: Store) -> None:
    sent = [b"a", bytes(range(256)), b"", b"x" * 300_000]
    ids = await store.send(sent)
    assert await store.read_inbox("0-0", 10, 0) == list(zip(ids, sent, strict=True))
    assert len(set(ids)) == 4


async def test_a_read_has_a_limit_and_goes_on_after_an_entry(store: Store) -> None:
    ids = await store.send([b"%d" % n for n in range(7)])
    first = await store.read_inbox("0-0", 3, 0)
    assert [data for _, data in first] == [b"0", b"1", b"2"]
    rest = await store.read_inbox(first[-1][0], 10, 0)
    assert [entry for entry, _ in rest] == ids[3:]
    assert await store.read_inbox(ids[-1], 10, 0) == []


async def test_sending_nothing(store: Store) -> None:
    assert await store.send([]) == []
    assert await store.inbox_length() == 0


async def test_a_blocking_read_wakes_when_something_comes(open_store: Callable[[], Store]) -> None:
    reader, sender = open_store(), open_store()
    got: list[tuple[str, bytes]] = []

    async def read() -> None:
        got.extend(await reader.read_inbox("0-0", 10, 30))

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0.05)  # the read is under way; were it not, it would just not block
        assert got == []
        ids = await sender.send([b"wake"])
    assert got == [(ids[0], b"wake")]
    assert time.monotonic() - began < 10


async def test_a_blocking_read_does_not_hold_up_anything_else(store: Store) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.read_inbox, "0-0", 10, 30)
        await anyio.sleep(0.05)
        with anyio.fail_after(10):
            fence = await store.lead("a", 30)
            assert fence is not None
            await store.commit(fence, Position(1, "0-0"), [])
        tasks.cancel_scope.cancel()


async def test_a_blocking_read_ends_with_nothing_when_nothing_comes(store: Store, keys: Keys) -> None:
    began = time.monotonic()
    assert await store.read_inbox("0-0", 10, 0.1) == []
    assert await store.read_stream(keys.feed, "0-0", 10, 0.1) == []
    assert time.monotonic() - began >= 0.19


async def test_a_stream_wakes_its_readers_too(open_store: Callable[[], Store], keys: Keys) -> None:
    reader, writer = open_store(), open_store()
    fence = await writer.lead("a", 30)
    assert fence is not None
    got: list[tuple[str, bytes]] = []

    async def read() -> None:
        got.extend(await reader.read_stream(keys.outbox("a"), "0-0", 10, 30))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await anyio.sleep(0.05)
        await writer.commit(fence, Position(1, "0-0"), [Append(keys.outbox("a"), b"x", number=1)])
    assert got == [("1-0", b"x")]


async def test_a_cancelled_read_loses_nothing(store: Store) -> None:
    with anyio.move_on_after(0.1):
        await store.read_inbox("0-0", 10, 30)
    ids = await store.send([b"after"])
    assert await store.read_inbox("0-0", 10, 1) == [(ids[0], b"after")]


async def test_what_is_not_there_is_empty(store: Store, keys: Keys) -> None:
    assert await store.read_hash(keys.studies) == {}
    assert await store.read_list(keys.points("s", 1)) == []
    assert await store.read_stream(keys.feed, "0-0", 10) == []
    assert await store.read(keys.reply("r")) is None
    assert await store.read_prefixed(keys.reply("")) == {}


async def test_strings_are_found_by_their_prefix_only(store: Store, keys: Keys) -> None:
    fence = await store.lead("a", 30)
    assert fence is not None
    replies = {keys.reply(f"r{n}"): b"%d" % n for n in range(500)}
    await store.commit(fence, Position(1, "0-0"), [Set(key, data, 60) for key, data in replies.items()])
    assert await store.read_prefixed(keys.reply("")) == replies
    assert await store.read_prefixed(keys.reply("r49")) == {
        key: data for key, data in replies.items() if key.startswith(keys.reply("r49"))
    }


async def test_reading_a_key_as_another_type_says_which(store: Store, keys: Keys) -> None:
    fence = await store.lead("a", 30)
    assert fence is not None
    writes = [Put(keys.agents, {"a": b"1"}), Set(keys.reply("r"), b"", 60)]
    await store.commit(fence, Position(1, "0-0"), list(writes))
    for read in (
        store.read_list(keys.agents),
        store.read(keys.agents),
        store.read_hash(keys.reply("r")),
        store.read_stream(keys.agents, "0-0", 1),
    ):
        with pytest.raises(StoreConflict, match="contract"):
            await read
