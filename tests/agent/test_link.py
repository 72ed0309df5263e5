"""The session over a real store: numbers, acknowledgements, gaps, lost connections, goodbyes."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest
from scripted import ScriptedCoordinator
from servers import RedisServer, free_port
from waiting import wait_until_async

from sweepd.errors import StoreUnreachable, UsageError
from sweepd.keys import Keys
from sweepd.messages import (
    MESSAGE_LIMIT_BYTES,
    UNACKNOWLEDGED_BYTES,
    UNACKNOWLEDGED_MESSAGES,
    AgentMessage,
    CoordinatorMessage,
    Hello,
    Leave,
    OutboxEntry,
    Refuse,
    Renew,
    Revoke,
    Welcome,
    encode,
)
from sweepd.states import AttemptOutcome
from sweepd_agent.link import Link, MessageTooLarge, Refused, Replaced, redacted

pytestmark = pytest.mark.anyio

HELLO = Hello(1, 1, "host", "boot", 1)


class Talker:
    """A node that says what it is given and notes what it hears."""

    def __init__(self) -> None:
        self.waiting: list[AgentMessage] = []
        self.received_: list[CoordinatorMessage] = []
        self.acknowledged_: list[AgentMessage] = []
        self.sessions = 0
        self.link: Link | None = None

    def say(self, *names: str) -> None:
        self.waiting += [Renew([name]) for name in names]
        assert self.link is not None
        self.link.wake()

    def hello(self) -> Hello:
        self.sessions += 1
        return HELLO

    def next_message(self) -> AgentMessage | None:
        return self.waiting.pop(0) if self.waiting else None

    def received(self, message: CoordinatorMessage) -> None:
        self.received_.append(message)

    def acknowledged(self, message: AgentMessage) -> None:
        self.acknowledged_.append(message)


@asynccontextmanager
async def linked(server: RedisServer, talker: Talker) -> AsyncGenerator[Link]:
    link = talker.link = Link(server.url, Keys(), "a1", talker)
    await link.connect(10)
    async with anyio.create_task_group() as tasks:
        await tasks.start(link.run)
        yield link
        tasks.cancel_scope.cancel()


def renewals(*names: str) -> list[AgentMessage]:
    return [Renew([name]) for name in names]


async def heard(coordinator: ScriptedCoordinator, messages: list[AgentMessage]) -> None:
    """Wait until the coordinator has heard exactly *messages* in this session."""

    def all_heard() -> bool:
        coordinator.read()
        return coordinator.heard == messages

    await wait_until_async(all_heard, describe=lambda: coordinator.heard[:20])


async def welcomed(coordinator: ScriptedCoordinator, link: Link) -> None:
    await heard(coordinator, [HELLO])
    coordinator.say(Welcome(1, [], 30))
    await wait_until_async(lambda: link.welcomed)


async def for_ever() -> None:
    with anyio.fail_after(10):
        await anyio.sleep_forever()


async def test_nothing_but_the_hello_is_said_before_the_welcome(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        talker.say("a")
        await heard(coordinator, [HELLO])
        assert (link.welcomed, link.connected) == (False, True)
        assert coordinator.batches[0].first_seq == 1
        coordinator.say(Welcome(1, ["t"], 30))
        await heard(coordinator, [HELLO, *renewals("a")])
        assert talker.received_ == [Welcome(1, ["t"], 30)]


async def test_what_waits_travels_together_and_is_acknowledged_once(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        talker.say("a", "b", "c")
        await heard(coordinator, [HELLO, *renewals("a", "b", "c")])
        assert len(coordinator.batches) == 2
        assert coordinator.batches[1].first_seq == 2
        assert coordinator.batches[1].outbox_seen == 2
        await wait_until_async(lambda: len(link.window) == 0)
        assert talker.acknowledged_ == [HELLO, *renewals("a", "b", "c")]


async def test_a_gap_is_filled_with_the_same_messages(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        talker.say("a")
        await heard(coordinator, [HELLO, *renewals("a")])
        talker.say("b", "c")
        await heard(coordinator, [HELLO, *renewals("a", "b", "c")])
        before = list(coordinator.batches)
        coordinator.say(resend_from=3)
        await wait_until_async(lambda: coordinator.read() or len(coordinator.batches) > len(before))
        assert coordinator.batches[len(before) :] == [before[-1]]
        coordinator.say(resend_from=2)
        await wait_until_async(lambda: coordinator.read() or len(coordinator.batches) == len(before) + 3)
        assert coordinator.batches[-2:] == before[1:]
        assert talker.sessions == 1


async def test_a_gap_that_was_filled_meanwhile_is_no_lost_session(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        talker.say("a")
        await heard(coordinator, [HELLO, *renewals("a")])
        client = store.client()
        with client.pipeline(transaction=True) as both:  # so that one read finds both entries
            for number, seq, resend in ((3, 1, 2), (4, 2, None)):
                entry = OutboxEntry(number, link.session, seq, [], resend_from=resend)
                both.xadd(coordinator.keys.outbox("a1"), {"e": encode(entry)}, id=f"{number}-0")
            both.execute()
        client.close()
        await wait_until_async(lambda: len(link.window) == 0)
        talker.say("b")
        await heard(coordinator, [HELLO, *renewals("a", "b")])
        assert talker.sessions == 1


async def test_what_is_unacknowledged_is_bounded_and_nothing_is_lost(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        names = [f"{number:04}" for number in range(2_500)]
        talker.say(*names)
        await wait_until_async(
            lambda: coordinator.read() or len(coordinator.heard) == 1 + UNACKNOWLEDGED_MESSAGES
        )
        assert len(link.window) == UNACKNOWLEDGED_MESSAGES
        assert len(talker.waiting) == 1_500
        coordinator.silent = False
        coordinator.say()
        await heard(coordinator, [HELLO, *renewals(*names)])


async def test_entries_are_smaller_than_the_limit_and_the_window_has_a_size(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        names = [f"{number}" * 100_000 for number in range(10)] * 2
        talker.say(*names)
        await wait_until_async(lambda: coordinator.read() or len(coordinator.batches) == 5)
        sizes = [len(encode(batch)) for batch in coordinator.batches]
        assert max(sizes) <= MESSAGE_LIMIT_BYTES
        assert sum(sizes) <= UNACKNOWLEDGED_BYTES
        coordinator.silent = False
        coordinator.say()
        await heard(coordinator, [HELLO, *renewals(*names)])
        sizes = [len(encode(batch)) for batch in coordinator.batches]
        assert max(sizes) <= MESSAGE_LIMIT_BYTES
        assert all(first.outbox_seen <= later.outbox_seen for first, later in zip(
            coordinator.batches, coordinator.batches[1:], strict=False
        ))  # fmt: skip


async def test_what_was_kept_back_does_not_make_the_next_entry_older_than_it_is(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    """An offer made after an assignment was seen must not say that it was not."""
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        talker.say(*(str(number) * 100_000 for number in range(9)))
        await wait_until_async(lambda: not talker.waiting)  # the ninth was taken and found no room
        coordinator.say(Revoke("t", AttemptOutcome.CANCELLED))
        await wait_until_async(lambda: len(talker.received_) == 2)
        talker.say("z")
        await wait_until_async(lambda: coordinator.read() or len(coordinator.batches) == 5)
        coordinator.silent = False
        coordinator.say()
        await wait_until_async(lambda: coordinator.read() or coordinator.heard[-1:] == renewals("z"))
        kept_back, last = coordinator.batches[-2:]
        assert (kept_back.messages, last.messages) == (renewals("8" * 100_000), renewals("z"))
        assert kept_back.outbox_seen < last.outbox_seen


async def test_a_message_that_no_entry_can_carry_ends_the_link_by_name(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    with pytest.RaisesGroup(
        pytest.RaisesExc(MessageTooLarge, match="a Renew of 300"), flatten_subgroups=True
    ):
        async with linked(store, talker) as link:
            await welcomed(coordinator, link)
            talker.say("x" * 300_000)
            await for_ever()


async def test_a_lost_connection_is_said_once_and_everything_is_sent_again(
    own_store: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    coordinator, talker = ScriptedCoordinator(own_store), Talker()
    caplog.set_level(logging.INFO, "sweepd.agent")
    async with linked(own_store, talker) as link:
        await welcomed(coordinator, link)
        coordinator.silent = True
        talker.say("a")
        await heard(coordinator, [HELLO, *renewals("a")])
        coordinator.close()
        own_store.kill()
        await wait_until_async(lambda: not link.connected)
        talker.say("b")
        own_store.start()
        coordinator.reconnect(own_store)
        coordinator.silent = False
        await heard(coordinator, [HELLO, *renewals("a", "b")])
        talker.say("c")
        await heard(coordinator, [HELLO, *renewals("a", "b", "c")])
        await wait_until_async(lambda: len(link.window) == 0 and link.connected)
        assert talker.sessions == 1
    said = [record.getMessage().split()[0] for record in caplog.records]
    assert said == ["link.lost", "link.back"]
    coordinator.close()


async def test_a_store_that_went_back_in_time_gets_a_new_session(own_store: RedisServer) -> None:
    coordinator, talker = ScriptedCoordinator(own_store), Talker()
    async with linked(own_store, talker) as link:
        await welcomed(coordinator, link)
        talker.say("a")
        await heard(coordinator, [HELLO, *renewals("a")])
        await wait_until_async(lambda: len(link.window) == 0)
        coordinator.close()
        client = own_store.client()
        client.flushall()
        client.close()
        own_store.restart()
        young = ScriptedCoordinator(own_store)
        await wait_until_async(lambda: talker.sessions == 2)
        await wait_until_async(lambda: young.read() or young.heard == [HELLO])
        young.say(Welcome(1, [], 30))
        talker.say("b")
        await heard(young, [HELLO, *renewals("b")])
        young.close()


async def test_a_gap_before_what_was_acknowledged_is_answered_with_a_new_session(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        talker.say("a", "b")
        await heard(coordinator, [HELLO, *renewals("a", "b")])
        await wait_until_async(lambda: len(link.window) == 0)
        old = link.session
        coordinator.say(resend_from=2)
        await heard(coordinator, [HELLO])
        assert link.session != old
        assert coordinator.batches[-1].outbox_seen == coordinator.batches[-2].outbox_seen + 2


async def test_entries_of_other_sessions_and_garbage_are_skipped(
    store: RedisServer, coordinator: ScriptedCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    talker = Talker()
    coordinator.say(Welcome(1, [], 30), session="before us")
    async with linked(store, talker) as link:
        await heard(coordinator, [HELLO])
        assert coordinator.batches[0].outbox_seen == 1, "what was there before belongs to others"
        coordinator.say(Welcome(1, [], 30), session="still before us")
        coordinator.say(Welcome(1, [], 30))
        await wait_until_async(lambda: link.welcomed)
        coordinator.say(Revoke("t", AttemptOutcome.CANCELLED), session="another")
        coordinator.say_raw(b"garbage")
        coordinator.say_raw(
            b'{"number": 1, "session": "x", "acknowledged": 0, "messages": [{"type": "new"}]}'
        )
        talker.say("a")
        await heard(coordinator, [HELLO, *renewals("a")])
        await wait_until_async(lambda: caplog.text.count("link.unreadable") == 2)
        assert talker.received_ == [Welcome(1, [], 30)]


async def test_a_newer_session_of_the_same_agent_ends_the_link(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    with pytest.RaisesGroup(Replaced, flatten_subgroups=True):
        async with linked(store, Talker()) as link:
            await welcomed(coordinator, link)
            coordinator.say(Welcome(1, [], 30), session="another")
            await for_ever()


async def test_a_refusal_ends_the_link_with_its_reason(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(Refused, match="too old"), flatten_subgroups=True):
        async with linked(store, Talker()):
            await heard(coordinator, [HELLO])
            coordinator.say(Refuse("too old"))
            await for_ever()


async def test_the_last_word_is_sent_like_any_other(
    store: RedisServer, coordinator: ScriptedCoordinator
) -> None:
    talker = Talker()
    async with linked(store, talker) as link:
        await welcomed(coordinator, link)
        talker.waiting.append(Leave("bye"))
        link.wake()
        await heard(coordinator, [HELLO, Leave("bye")])
        await wait_until_async(lambda: talker.acknowledged_[-1:] == [Leave("bye")])


async def test_a_store_that_does_not_answer_is_named_without_its_password() -> None:
    link = Link(f"redis://user:secret@127.0.0.1:{free_port()}/0", Keys(), "a1", Talker())
    with pytest.raises(StoreUnreachable, match=r"could not be reached for 0\.2 s") as raised:
        await link.connect(0.2)
    assert "user:***@127.0.0.1" in str(raised.value)
    assert "secret" not in str(raised.value)


async def test_a_wrong_password_is_said_at_once(own_store: RedisServer) -> None:
    client = own_store.client()
    client.acl_setuser("agent", enabled=True, passwords=["+right"], keys=["*"], commands=["+@all"])
    client.close()
    url = own_store.url.replace("redis://", "redis://agent:wrong@")
    with pytest.raises(StoreUnreachable, match="refuses this user or password"):
        with anyio.fail_after(5):
            await Link(url, Keys(), "a1", Talker()).connect(60)


async def test_a_url_that_makes_no_sense_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="--redis http://x"):
        Link("http://x", Keys(), "a1", Talker())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h/0", "redis://:***@h/0"),
        ("rediss://me:p@ss@h/0", "rediss://me:***@h/0"),
        ("unix:///run/r.sock?db=0", "unix:///run/r.sock?db=0"),
    ],
)
async def test_passwords_are_never_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
