"""Sessions, numbers, offers and leases: what an agent says and what it is told."""

from __future__ import annotations

from typing import Any

import pytest

from core.world import World
from sweepd.messages import (
    AgentBatch,
    Assign,
    CancelStudy,
    Decide,
    Decline,
    Device,
    Leave,
    Offer,
    Refuse,
    Renew,
    Revoke,
    RunningAttempt,
    Started,
    Welcome,
)
from sweepd.states import AttemptOutcome, TrialState, Verdict


def running_world(slots: int = 1, **spec: Any) -> tuple[World, Any]:
    """A world with one agent that runs as many trials as it has slots."""
    world = World()
    world.submit(**spec)
    agent = world.agent(slots=slots)
    agent.join()
    world.settle()
    assert len(agent.assigned) == slots
    return world, agent


def known(assign: Assign) -> RunningAttempt:
    return RunningAttempt(assign.study, assign.trial, assign.attempt, assign.token)


def test_a_session_is_welcomed_and_acknowledged() -> None:
    world = World()
    agent = world.agent()
    agent.hello()
    assert agent.heard == [Welcome(protocol=1, run=[], lease_ttl_s=30.0)]
    assert agent.acknowledged == 1
    agent.offer()
    assert agent.acknowledged == 2
    assert world.records.agents["a"].state == "connected"


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_an_agent_of_another_protocol_is_refused_with_both_ranges(low: int, high: int) -> None:
    world = World()
    agent = world.agent()
    agent.hello(protocol_min=low, protocol_max=high)
    (refuse,) = agent.told(Refuse)
    assert f"protocol 1 to 1, the agent {low} to {high}" in refuse.reason
    assert "install matching versions" in refuse.reason
    assert world.records.agents["a"].state == "left"


def test_a_session_that_was_never_opened_is_refused() -> None:
    world = World()
    agent = world.agent()
    agent.session, agent.seq = "unheard", 7
    agent.offer()
    (refuse,) = agent.told(Refuse)
    assert "start the agent again" in refuse.reason


def test_messages_sent_again_change_nothing_and_are_acknowledged_again() -> None:
    world, agent = running_world()
    batch = agent.batch(Renew([agent.assigned[0].token]))
    world.turn(batch)
    before = world.engine.gauges()
    changes = world.turn(batch)
    assert changes.outboxes["a"].acknowledged == agent.seq
    assert changes.outboxes["a"].messages == []
    assert world.engine.gauges() == before


def test_a_batch_half_known_counts_from_where_it_is_new() -> None:
    world, agent = running_world(slots=2)
    first = agent.batch(Renew([]))
    both = AgentBatch("a", agent.session, first.first_seq, agent.seen, [Renew([]), Offer(9, 0)])
    world.turn(first)
    changes = world.turn(both)
    assert changes.outboxes["a"].acknowledged == first.first_seq + 1
    offer = world.records.agents["a"].offer
    assert offer is not None
    assert offer.number == 9


def test_a_gap_is_answered_with_the_number_to_resend_from() -> None:
    world, agent = running_world()
    last = agent.seq
    agent.batch(Renew([]))  # lost
    changes = agent.say(Offer(7, 1))
    entry = changes.outboxes["a"]
    assert (entry.acknowledged, entry.resend_from) == (last, last + 1)
    offer = world.records.agents["a"].offer
    assert offer is not None
    assert offer.number != 7


def test_a_gap_that_was_filled_in_the_same_turn_is_not_asked_for() -> None:
    world, agent = running_world()
    first, second = agent.batch(Renew([])), agent.batch(Offer(7, 1))
    entry = world.turn(second, first, second).outboxes["a"]
    assert (entry.acknowledged, entry.resend_from) == (agent.seq, None)


def test_a_new_session_hears_the_standing_orders_again() -> None:
    """Its agent reads nothing of what was said to the session before."""
    world, agent = running_world(slots=3, scheduler={"type": "asha", "min": 1, "max": 9, "eta": 3})
    good, bad, _ = agent.assigned
    agent.report(good, 1, {"acc": 0.9})
    agent.report(bad, 1, {"acc": 0.1})
    running = [known(assign) for assign in agent.assigned]
    welcome, decided = agent.hello(running=running).outboxes["a"].messages
    assert isinstance(welcome, Welcome)
    assert decided == Decide(bad.token, Verdict.STOP, 1, world.trial(bad.trial).reason)
    world.request(CancelStudy(world.study().id, "enough"))
    _, *revoked = agent.hello(running=running).outboxes["a"].messages
    tokens = sorted(assign.token for assign in agent.assigned)
    assert revoked == [Revoke(token, AttemptOutcome.CANCELLED, "enough") for token in tokens]


def test_the_newest_session_wins_and_the_old_one_changes_nothing() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    old = agent.batch(Offer(50, 5))
    agent.hello(running=[known(assign)])
    assert agent.told(Welcome)[-1].run == [assign.token]
    changes = world.turn(old)
    assert [event.kind for event in changes.events] == ["message.superseded"]
    assert world.engine.gauges().superseded == 1
    offer = world.records.agents["a"].offer
    assert offer is None


def test_an_agent_that_comes_back_without_its_attempt_has_lost_it() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    agent.hello()
    trial = world.trial(0)
    assert trial.attempts[0].outcome is AttemptOutcome.LOST
    assert trial.state is TrialState.WAITING
    assert agent.told(Welcome)[-1].run == []
    agent.offer()
    assert agent.assigned[-1].trial == 0
    assert (agent.assigned[-1].attempt, agent.assigned[-1].params) == (2, assign.params)


def test_a_lease_ends_only_after_the_inbox_was_read_past_its_deadline() -> None:
    world, agent = running_world()
    read = world.now_s
    for _ in range(20):
        world.now_s += 3
        world.turn(read_through_s=read)
    assert world.trial(0).state is TrialState.RUNNING
    world.now_s += 1
    world.turn()
    assert world.trial(0).attempts[0].outcome is AttemptOutcome.LOST
    assert world.trial(0).reason == "lost: no renewal for 30 s"
    assert world.records.agents["a"].state == "lost"
    assert agent.heard  # it was told nothing new: nobody knows whether it lives


def test_renewals_keep_a_lease() -> None:
    world, agent = running_world()
    for _ in range(10):
        world.wait(9)
        agent.say(Renew([agent.assigned[0].token]))
    assert world.trial(0).state is TrialState.RUNNING


def test_reports_keep_a_lease_as_well() -> None:
    world, agent = running_world()
    for ordinal in range(1, 10):
        world.wait(9)
        agent.report(agent.assigned[0], ordinal, {"acc": 0.5})
    assert world.trial(0).state is TrialState.RUNNING


def test_one_of_two_leases_is_renewed_and_the_other_ends() -> None:
    world, agent = running_world(slots=2)
    kept, lost = agent.assigned
    for _ in range(5):
        world.wait(9)
        agent.say(Renew([kept.token]))
    assert world.trial(kept.trial).state is TrialState.RUNNING
    assert world.trial(lost.trial).attempts[0].outcome is AttemptOutcome.LOST


def test_a_frozen_coordinator_blames_nobody() -> None:
    world, _ = running_world()
    world.now_s += 1_000
    world.turn()
    assert world.trial(0).state is TrialState.RUNNING
    assert world.records.agents["a"].state == "connected"


def test_turns_are_due_while_something_can_expire() -> None:
    assert World().engine.next_deadline_s(5.0) is None
    world, agent = running_world()
    assert world.engine.next_deadline_s(5.0) == 5.0 + 30 / 8
    agent.say(Leave())
    assert world.engine.next_deadline_s(5.0) is None


def test_a_token_without_a_lease_is_superseded_whatever_it_says() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    world.wait(40)
    assert world.trial(0).attempts[0].outcome is AttemptOutcome.LOST
    changes = agent.say(
        Renew([assign.token]), Started(assign.study, assign.trial, assign.attempt, assign.token)
    )
    agent.finish(assign, values={"acc": 1.0})
    revoked = agent.told(Revoke)
    assert [(message.token, message.outcome) for message in revoked] == [
        (assign.token, AttemptOutcome.SUPERSEDED)
    ] * 3
    assert [event.kind for event in changes.events if "superseded" in event.kind] == [
        "message.superseded"
    ] * 2
    assert world.trial(0).state is not TrialState.COMPLETE
    assert world.records.agents["a"].state == "connected"  # it was lost and is heard again


def test_another_agent_cannot_speak_for_a_lease() -> None:
    world, agent = running_world()
    other = world.agent("b")
    other.hello()
    other.finish(agent.assigned[0], values={"acc": 1.0})
    assert [message.outcome for message in other.told(Revoke)] == [AttemptOutcome.SUPERSEDED]
    assert world.trial(0).state is TrialState.RUNNING


def test_an_offer_made_before_an_assign_was_seen_does_not_count_its_slot_twice() -> None:
    world = World()
    world.submit(budget={"trials": 10})
    agent = world.agent(slots=2)
    agent.join()
    agent.seen = 0  # it has read nothing of its outbox
    world.settle()
    assert len(agent.assigned) == 2
    agent.seen = 0
    agent.offer(slots=2)
    world.turn()
    assert len(agent.assigned) == 2
    agent.seen = 99
    agent.offer(slots=1)
    assert len(agent.assigned) == 3


def test_a_decline_gives_the_trial_back_and_waits_for_the_next_offer() -> None:
    world, agent = running_world(slots=2)
    first = agent.assigned[0]
    agent.say(Decline(first.study, first.trial, first.attempt, first.token, "no room"))
    trial = world.trial(first.trial)
    assert trial.state is TrialState.WAITING
    assert trial.reason == "preempted: declined: no room"
    assert trial.failures == 0
    world.turn()
    assert len(agent.assigned) == 2
    agent.offer(slots=1)
    assert agent.assigned[-1].trial == first.trial


def test_an_agent_that_leaves_gives_everything_back() -> None:
    world, agent = running_world()
    agent.say(Leave("shutdown"))
    assert world.trial(0).state is TrialState.WAITING
    assert world.trial(0).attempts[0].outcome is AttemptOutcome.PREEMPTED
    assert world.records.agents["a"].state == "left"
    assert world.engine.gauges().slots_total == 0


def test_an_agent_heard_again_after_it_was_lost_is_given_work_again() -> None:
    world, agent = running_world()
    world.wait(40)
    assert world.records.agents["a"].state == "lost"
    agent.offer(slots=1)
    assert agent.assigned[-1].attempt == 2


GPUS = [Device("GPU-1", "H200", 141_000), Device("GPU-2", "T4", 16_000)]


def test_devices_are_leased_by_uuid_and_come_back_with_an_offer_alone() -> None:
    world = World()
    world.submit(resources={"gpus": 1})
    agent = world.agent(slots=2, devices=GPUS)
    agent.join()
    world.settle()
    assert sorted(assign.devices for assign in agent.assigned) == [["GPU-1"], ["GPU-2"]]
    assert agent.assigned[0].devices == ["GPU-2"]  # the smallest that fits
    agent.finish(agent.assigned[0], values={"acc": 0.5})
    world.turn()
    assert len(agent.assigned) == 2  # Finished returns no device
    agent.offer(slots=1, devices=["GPU-2"])
    assert agent.assigned[-1].devices == ["GPU-2"]


def test_a_device_that_another_agent_of_the_host_holds_is_not_given_away() -> None:
    world = World()
    world.submit(resources={"gpus": 1})
    first = world.agent("a", devices=GPUS[:1], host="node")
    second = world.agent("b", devices=GPUS[:1], host="node")
    first.join()
    world.settle()
    assert len(first.assigned) == 1
    second.join()
    world.settle()
    assert second.assigned == []
    first.finish(first.assigned[0], values={"acc": 0.5})
    second.offer()
    assert len(second.assigned) == 1


def test_a_device_that_two_agents_offer_is_given_away_once() -> None:
    """Two agents of a host offered it while it was free; it returns with an offer made after its end."""
    world = World()
    first = world.agent("a", devices=GPUS[:1], host="node")
    second = world.agent("b", devices=GPUS[:1], host="node")
    first.join()
    second.join()
    world.submit(resources={"gpus": 1})
    world.settle()
    assert (len(first.assigned), len(second.assigned)) == (1, 0)
    first.finish(first.assigned[0], values={"acc": 0.5})
    world.turn()
    assert second.assigned == []  # its offer is older than the end
    second.offer()
    assert len(second.assigned) == 1


@pytest.mark.parametrize(
    ("resources", "offer", "fits"),
    [
        ({"gpus": 2}, {}, True),
        ({"gpus": 3}, {}, False),
        ({"gpus": 1, "gpu_memory": "100GiB"}, {}, True),
        ({"gpus": 1, "gpu_memory": "200GiB"}, {}, False),
        ({"cpus": 4}, {"cpus": 4}, True),
        ({"cpus": 4}, {"cpus": 3.5}, False),
        ({"memory": "1GiB"}, {"memory_mib": 1024}, True),
        ({"memory": "1GiB"}, {"memory_mib": 1023}, False),
        ({"labels": {"pool": "a"}}, {}, True),
        ({"labels": {"pool": "b"}}, {}, False),
        ({}, {"slots": 0}, False),
    ],
)
def test_a_trial_goes_only_where_it_fits(
    resources: dict[str, Any], offer: dict[str, Any], fits: bool
) -> None:
    world = World()
    world.submit(resources=resources)
    agent = world.agent(devices=GPUS)
    agent.hello(labels={"pool": "a"})
    agent.offer(**offer)
    world.settle()
    assert bool(agent.assigned) is fits
    if fits and resources.get("gpu_memory"):
        assert agent.assigned[0].devices == ["GPU-1"]


def test_trials_spread_over_agents() -> None:
    world = World()
    world.submit(budget={"trials": 4})
    agents = [world.agent(name, slots=2) for name in "ab"]
    for agent in agents:
        agent.hello()
    world.turn(*[agent.batch(Offer(1, 2)) for agent in agents])
    world.settle()
    assert [len(agent.assigned) for agent in agents] == [2, 2]


def test_agents_that_offer_at_once_each_take_what_the_other_left() -> None:
    world = World()
    for name in ("one", "two"):
        world.submit(name=name, budget={"trials": 1})
    world.settle()
    agents = [world.agent(name) for name in "ab"]
    for agent in agents:
        agent.hello()
    world.turn(*(agent.batch(Offer(1, 1)) for agent in agents))
    taken = [assign.study_name for agent in agents for assign in agent.assigned]
    assert taken == ["one", "two"]


def test_studies_share_the_slots() -> None:
    world = World()
    world.submit(name="one", budget={"trials": 8})
    world.submit(name="two", budget={"trials": 8})
    world.settle()
    agent = world.agent(slots=4)
    agent.join()
    world.settle()
    assert sorted(assign.study_name for assign in agent.assigned) == ["one", "one", "two", "two"]


def test_a_study_that_fits_nowhere_does_not_hold_up_the_others() -> None:
    world = World()
    world.submit(name="large", resources={"gpus": 8})
    world.submit(name="small")
    agent = world.agent()
    agent.join()
    world.settle()
    assert [assign.study_name for assign in agent.assigned] == ["small"]


def test_an_undecodable_entry_is_counted_and_passed_over() -> None:
    world = World()
    changes = world.turn(None)
    assert [event.kind for event in changes.events] == ["message.rejected"]
    assert world.records.cursor == changes.cursor


def test_started_records_when_and_where_the_log_is() -> None:
    world, agent = running_world()
    (assign,) = agent.assigned
    agent.say(Started(assign.study, assign.trial, assign.attempt, assign.token, 4711, "/log"))
    attempt = world.trial(0).attempts[0]
    assert (attempt.started_at, attempt.log) == (world.now_s, "/log")
