"""A coordinator that does as the test says: it answers requests and writes the records it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, cast

import msgspec
from servers import RedisServer

from sweepd.keys import REPLY_TTL_S, Keys
from sweepd.messages import (
    ClientRequest,
    Event,
    FeedEntry,
    Reply,
    SubmitStudy,
    decode_envelope,
)
from sweepd.records import AgentRecord, AttemptRecord, CurvePoint, StudyRecord, TrialRecord
from sweepd.states import StudyState, TrialState

AT = 1_700_000_000.0
SPEC = {
    "name": "digits",
    "task": {"objective": "train.py:objective"},
    "objectives": [{"metric": "accuracy", "direction": "maximize"}],
    "budget": {"trials": 4},
    "a_word_of_the_future": {"x": 1},
}


def study_record(name: str = "digits", ordinal: int = 1, **more: object) -> StudyRecord:
    """Return a study that runs; its id is its name and ordinal."""
    record = StudyRecord(f"{name}-{ordinal}", name, StudyState.RUNNING, AT, ordinal)
    return msgspec.structs.replace(record, **more)


def attempt_record(number: int = 1, **more: object) -> AttemptRecord:
    """Return an attempt that runs on the agent `node-a`."""
    record = AttemptRecord(number, "node-a", "host-a", f"token-{number}", AT, started_at=AT + 1)
    return msgspec.structs.replace(record, **more)


def trial_record(number: int, state: TrialState = TrialState.COMPLETE, **more: object) -> TrialRecord:
    """Return a trial without attempts."""
    record = TrialRecord(number, state, AT, number + 1, params={"lr": 0.1 * (number + 1), "kind": "adam"})
    return msgspec.structs.replace(record, **more)


class Scripted:
    """Writes records to a server, and answers requests with *answer* while `running`."""

    def __init__(self, server: RedisServer, namespace: str = "sweepd") -> None:
        self._server = server
        self.redis = server.client()
        self.keys = Keys(namespace)
        self.requests: list[ClientRequest] = []
        self.answer: Callable[[ClientRequest], Reply] = self.accept
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._commit = 0

    def __enter__(self) -> Scripted:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.redis.close()

    def put(
        self,
        study: StudyRecord,
        trials: list[TrialRecord] | None = None,
        points: dict[int, list[CurvePoint]] | None = None,
        curves: dict[int, list[CurvePoint]] | None = None,
        spec: object = SPEC,
    ) -> None:
        """Write records of a study, and an entry of the feed that names the trials."""
        encode = msgspec.json.encode
        pipeline = self.redis.pipeline()
        pipeline.hset(self.keys.studies, study.id, encode(study))
        pipeline.hset(self.keys.specs, study.id, encode(spec))
        for trial in trials or []:
            pipeline.hset(self.keys.trials(study.id), str(trial.number), encode(trial))
        for number, items in (points or {}).items():
            pipeline.rpush(self.keys.points(study.id, number), *map(encode, items))
        for number, items in (curves or {}).items():
            pipeline.hset(self.keys.curves(study.id), str(number), encode(items))
            pipeline.delete(self.keys.points(study.id, number))
        touched = {trial.number for trial in trials or []} | set(points or {}) | set(curves or {})
        events = [Event("trial.touched", study.id, number) for number in sorted(touched)]
        self._commit += 1
        entry = FeedEntry(self._commit, AT + self._commit, events or [Event("study.touched", study.id)])
        pipeline.xadd(self.keys.feed, {"e": encode(entry)})
        pipeline.execute()

    def put_agent(self, agent: AgentRecord) -> None:
        """Write the record of an agent."""
        self.redis.hset(self.keys.agents, agent.id, msgspec.json.encode(agent))

    def accept(self, asked: ClientRequest) -> Reply:
        """Do nothing and say that it was done."""
        request = asked.request
        if isinstance(request, SubmitStudy):
            name = request.spec["name"]
            return Reply(asked.request_id, f"{name}-1", name, created=True, state="running")
        return Reply(asked.request_id, request.study)

    def _serve(self) -> None:
        own = self._server.client()
        after = "0-0"
        while not self._stop.is_set():
            found = cast("list[Any]", own.xread({self.keys.inbox: after}, block=20) or [])
            for entry_id, fields in found[0][1] if found else []:
                after = entry_id
                asked = decode_envelope(fields[b"e"])
                assert isinstance(asked, ClientRequest)
                self.requests.append(asked)
                reply = msgspec.json.encode(self.answer(asked))
                own.set(self.keys.reply(asked.request_id), reply, ex=REPLY_TTL_S)
        own.close()
