"""Between the engine and the store: its changes as writes, and what is stored as its snapshot.

Records are JSON. `to_writes` copies them the moment it is called: the engine goes on using the
same objects in its next turn.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TypeVar

import msgspec

from sweepd.errors import StoreConflict
from sweepd.keys import FEED_LENGTH, REPLY_TTL_S, Keys
from sweepd.messages import FeedEntry, Reply
from sweepd.records import AgentRecord, CurvePoint, StudyRecord, TrialRecord
from sweepd.spec import StudySpec
from sweepd.states import TRIAL_ENDS
from sweepd.store import Append, Delete, Push, Put, Set, Store, Trim, Write
from sweepd_coordinator.core.changes import Changes, Snapshot

_encode = msgspec.json.Encoder().encode
_studies = msgspec.json.Decoder(StudyRecord)
_specs = msgspec.json.Decoder(StudySpec)
_trials = msgspec.json.Decoder(TrialRecord)
_points = msgspec.json.Decoder(CurvePoint)
_agents = msgspec.json.Decoder(AgentRecord)
_replies = msgspec.json.Decoder(Reply)

T = TypeVar("T")


def to_writes(changes: Changes, keys: Keys) -> list[Write]:
    """Return what one commit writes. One hash is written once, whatever number of fields changed."""
    writes: list[Write] = []
    if changes.studies:
        writes.append(Put(keys.studies, {name: _encode(study) for name, study in changes.studies.items()}))
    if changes.specs:
        writes.append(Put(keys.specs, {name: _encode(spec) for name, spec in changes.specs.items()}))
    if changes.agents:
        writes.append(Put(keys.agents, {name: _encode(agent) for name, agent in changes.agents.items()}))
    trials: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
    for (study, number), trial in changes.trials.items():
        trials[study][str(number)] = _encode(trial)
    writes += (Put(keys.trials(study), fields) for study, fields in trials.items())
    writes += (
        Push(keys.points(study, trial), [_encode(point) for point in points])
        for (study, trial), points in changes.points.items()
        if (study, trial) not in changes.curves
    )
    if changes.curves:
        curves: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        for (study, number), curve in changes.curves.items():
            curves[study][str(number)] = _encode(curve)
        writes += (Put(keys.curves(study), fields) for study, fields in curves.items())
        writes.append(Delete([keys.points(study, number) for study, number in changes.curves]))
    writes += (Trim(keys.outbox(agent), seen) for agent, seen in changes.outbox_seen.items())
    writes += (
        Append(keys.outbox(agent), _encode(entry), number=entry.number)
        for agent, entry in changes.outboxes.items()
    )
    writes += (Set(keys.reply(reply.request_id), _encode(reply), REPLY_TTL_S) for reply in changes.replies)
    writes += (Append(keys.ends, _encode(end)) for end in changes.ends)
    if changes.events:
        entry = FeedEntry(changes.commit, changes.at, changes.events)
        writes.append(Append(keys.feed, _encode(entry), limit=FEED_LENGTH))
    return writes


async def load_snapshot(store: Store, keys: Keys) -> Snapshot:
    """Read what a new leader needs: all studies, and of those that are not over their trials.

    Only the leader may call it: then nothing but the inbox changes meanwhile. Raises
    StoreConflict, naming the place, for a record that cannot be read.
    """
    _, position = await store.position()
    snapshot = Snapshot(position.commit, position.cursor)
    snapshot.studies = await _read(store, keys.studies, _studies)
    snapshot.specs = await _read(store, keys.specs, _specs)
    snapshot.agents = await _read(store, keys.agents, _agents)
    prefix = keys.reply("")
    for key, data in (await store.read_prefixed(prefix)).items():
        snapshot.replies[key.removeprefix(prefix)] = _decode(_replies, data, key)
    for study, record in snapshot.studies.items():
        if study not in snapshot.specs:
            raise StoreConflict(f"{keys.specs} has no field {study}, which {keys.studies} has")
        if record.finished_at is not None:
            continue
        trials = list((await _read(store, keys.trials(study), _trials)).values())
        snapshot.trials[study] = trials
        for trial in trials:
            # Also of a trial that waits to be tried again: its curve begins in an earlier attempt.
            if trial.attempts and trial.state not in TRIAL_ENDS:
                key = keys.points(study, trial.number)
                points = [_decode(_points, data, key) for data in await store.read_list(key)]
                if points:
                    snapshot.points[study, trial.number] = points
    return snapshot


async def _read(store: Store, key: str, decoder: msgspec.json.Decoder[T]) -> dict[str, T]:
    fields = await store.read_hash(key)
    return {name: _decode(decoder, data, f"{key} {name}") for name, data in fields.items()}


def _decode(decoder: msgspec.json.Decoder[T], data: bytes, place: str) -> T:
    try:
        return decoder.decode(data)
    except msgspec.DecodeError as error:
        raise StoreConflict(f"{place} holds a record that cannot be read: {error}") from None
