"""A follower has what the store has, reading only what the feed names."""

from __future__ import annotations

from cli.scripted import Scripted, attempt_record, study_record, trial_record
from servers import RedisServer

from sweepd.client import Client
from sweepd.follow import TAIL_LENGTH, Follower
from sweepd.records import CurvePoint
from sweepd.states import TrialState


def test_it_starts_with_everything(server: RedisServer, scripted: Scripted) -> None:
    trial = trial_record(1, TrialState.RUNNING, attempts=[attempt_record()])
    points = [CurvePoint(1, step, {"accuracy": 0.1}) for step in range(TAIL_LENGTH + 5)]
    scripted.put(study_record(), [trial_record(0), trial], points={1: points})
    with Client(server.url) as client:
        follower = Follower(client, "digits-1")
    assert sorted(follower.trials) == [0, 1]
    assert [trial.number for trial in follower.running] == [1]
    tail = follower.tails[1]
    assert [point.step for point in tail] == list(range(5, TAIL_LENGTH + 5))
    assert follower.points(trial) == tail


def test_it_takes_over_what_the_feed_names(server: RedisServer, scripted: Scripted) -> None:
    trial = trial_record(0, TrialState.RUNNING, attempts=[attempt_record()])
    scripted.put(study_record(counts={"running": 1}), [trial], points={0: [CurvePoint(1, 1, {})]})
    with Client(server.url) as client:
        follower = Follower(client, "digits-1")
        scripted.put(study_record("other", 2), [trial_record(5)])
        scripted.put(
            study_record(counts={"complete": 1}), [trial_record(0)], curves={0: [CurvePoint(1, 1, {})]}
        )
        changed = follower.update(1.0)
    assert [(trial.number, trial.state) for trial in changed] == [(0, TrialState.COMPLETE)]
    assert (follower.running, follower.tails) == ([], {})
    assert follower.record.counts == {"complete": 1}


def test_points_of_an_older_attempt_are_not_shown(server: RedisServer, scripted: Scripted) -> None:
    trial = trial_record(0, TrialState.RUNNING, attempts=[attempt_record(1), attempt_record(2)])
    old, new = CurvePoint(1, 9, {}), CurvePoint(2, 1, {})
    scripted.put(study_record(), [trial], points={0: [old, new]})
    with Client(server.url) as client:
        assert Follower(client, "digits-1").points(trial) == [new]


def test_without_news_nothing_changed(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(counts={"complete": 1}), [trial_record(0)])
    with Client(server.url) as client:
        assert Follower(client, "digits-1").update(0.01) == []


def test_it_reads_everything_again_when_the_feed_missed_something(
    server: RedisServer, scripted: Scripted
) -> None:
    scripted.put(study_record(counts={"waiting": 1}), [trial_record(0, TrialState.WAITING)])
    with Client(server.url) as client:
        follower = Follower(client, "digits-1")
        scripted.put(study_record(counts={"complete": 1}), [trial_record(0)])
        scripted.redis.xtrim(scripted.keys.feed, maxlen=0)
        changed = follower.update(0.01)
    assert [(trial.number, trial.state) for trial in changed] == [(0, TrialState.COMPLETE)]
