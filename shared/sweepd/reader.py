"""Reading the store: the records as they stand, and the feed of what happens.

The half of the client that changes nothing. Every method raises :class:`StoreUnreachable` when
the store cannot be reached.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sweepd import results
from sweepd.embedded import running_store
from sweepd.errors import NotFound, StoreUnreachable, SweepdError, UsageError
from sweepd.keys import Keys
from sweepd.messages import FeedEntry, decode_feed
from sweepd.records import AgentRecord, CurvePoint, StudyRecord, TrialRecord
from sweepd.statedir import DEFAULT_STATE, StateDirectory
from sweepd.states import TRIAL_ENDS, TrialState

if TYPE_CHECKING:
    from typing_extensions import Self  # noqa: UP035  (typing has it from 3.11 on)

DEFAULT_URL = "redis://127.0.0.1:6379/0"
BLOCK_LIMIT_S = 2.0  #: far below the socket's timeout, so that blocking reads need no connection of their own

_SOCKET_TIMEOUT_S = 10.0

_study_decoder = msgspec.json.Decoder(StudyRecord)
_trial_decoder = msgspec.json.Decoder(TrialRecord)
_agent_decoder = msgspec.json.Decoder(AgentRecord)
_point_decoder = msgspec.json.Decoder(CurvePoint)
_curve_decoder = msgspec.json.Decoder(list[CurvePoint])
_spec_decoder = msgspec.json.Decoder(results.StudyFacts)


def default_url() -> str:
    """Return $SWEEPD_REDIS, else the store that runs in ./.sweepd, else Redis on this machine."""
    url = os.environ.get("SWEEPD_REDIS")
    if url:
        return url
    running = running_store(StateDirectory.at(os.environ.get("SWEEPD_STATE") or DEFAULT_STATE))
    return running.url if running else DEFAULT_URL


class Reader:
    """A connection to the store of one installation; connects when first used.

    *url*: `redis://`, `rediss://` or `unix:///path`; None means :func:`default_url`. *namespace*:
    that of the coordinator. Not for use by several threads at once.
    """

    def __init__(self, url: str | None = None, namespace: str = "sweepd") -> None:
        self.url = url or default_url()
        self.keys = Keys(namespace)
        try:
            self.redis = redis.Redis.from_url(
                self.url,
                protocol=2,
                socket_timeout=_SOCKET_TIMEOUT_S,
                socket_connect_timeout=5,
                # Three lost replies to one XADD were four entries: only we know what may be repeated.
                retry=Retry(NoBackoff(), 0),
                retry_on_error=[],
            )
        except ValueError as error:
            raise UsageError(
                f"{shown_url(self.url)!r} is no URL of a store ({error}): "
                "write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=0"
            ) from error

    def close(self) -> None:
        """Release the connection."""
        self.redis.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading the records ------------------------------------------------------------------

    def studies(self) -> list[StudyRecord]:
        """Return all studies in the order of their submission."""
        with self.reaching():
            fields = cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.studies))
        return sorted(map(_study_decoder.decode, fields.values()), key=lambda record: record.ordinal)

    def record(self, study: str) -> StudyRecord:
        """Return the record of the study with this id; raises NotFound."""
        with self.reaching():
            data = cast("bytes | None", self.redis.hget(self.keys.studies, study))
        if data is None:
            raise NotFound(f"there is no study with the id {study!r} at {shown_url(self.url)}")
        return _study_decoder.decode(data)

    def facts(self, study: str) -> results.StudyFacts:
        """Return what readers need of a study's spec; raises NotFound."""
        with self.reaching():
            data = cast("bytes | None", self.redis.hget(self.keys.specs, study))
        if data is None:
            raise NotFound(f"there is no spec of a study with the id {study!r} at {shown_url(self.url)}")
        return _spec_decoder.decode(data)

    def trials(self, study: str) -> list[TrialRecord]:
        """Return the trials of the study with this id by number.

        The records of running trials have the steps and reports that came in so far.
        """
        with self.reaching():
            fields = cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.trials(study)))
        records = sorted(map(_trial_decoder.decode, fields.values()), key=lambda record: record.number)
        points = self.points(study, [r.number for r in records if r.state is TrialState.RUNNING])
        return [results.with_points(record, points.get(record.number, [])) for record in records]

    def some_trials(self, study: str, numbers: Iterable[int]) -> dict[int, TrialRecord]:
        """Return those of the trials *numbers* that exist; as they stand in the store."""
        wanted = list(numbers)
        if not wanted:
            return {}
        with self.reaching():
            found = cast(
                "list[bytes | None]", self.redis.hmget(self.keys.trials(study), list(map(str, wanted)))
            )
        pairs = zip(wanted, found, strict=True)
        return {number: _trial_decoder.decode(data) for number, data in pairs if data is not None}

    def trial(self, study: str, number: int) -> TrialRecord:
        """Return one trial of the study with this id; raises NotFound."""
        record = self.some_trials(study, [number]).get(number)
        if record is None:
            with self.reaching():
                count = self.redis.hlen(self.keys.trials(study))
            there = f"there are {count}, from 0" if count else "there is none yet"
            raise NotFound(f"the study has no trial {number}: {there}")
        if record.state is not TrialState.RUNNING:
            return record
        return results.with_points(record, self.points(study, [number])[number])

    def points(
        self, study: str, numbers: Iterable[int], last: int | None = None
    ) -> dict[int, list[CurvePoint]]:
        """Return the points of running trials, or the *last* ones; none of those that are not running."""
        wanted = list(numbers)
        if not wanted:
            return {}
        with self.reaching(), self.redis.pipeline(transaction=False) as pipeline:
            for number in wanted:
                pipeline.lrange(self.keys.points(study, number), -last if last else 0, -1)
            lists = cast("list[list[bytes]]", pipeline.execute())
        decode = _point_decoder.decode
        return {n: [decode(item) for item in items] for n, items in zip(wanted, lists, strict=True)}

    def curves(self, study: str) -> dict[int, list[CurvePoint]]:
        """Return the points of every trial that has any, running ones included."""
        with self.reaching():
            fields = cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.trials(study)))
        records = map(_trial_decoder.decode, fields.values())
        live = self.points(study, [r.number for r in records if r.state not in TRIAL_ENDS])
        # Read last: what ended in between is here, and no longer among the live ones.
        with self.reaching():
            folded = cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.curves(study)))
        found = {number: points for number, points in live.items() if points}
        return found | {int(number): _curve_decoder.decode(data) for number, data in folded.items()}

    def agents(self) -> list[AgentRecord]:
        """Return all agents by id, those that left included."""
        with self.reaching():
            fields = cast("dict[bytes, bytes]", self.redis.hgetall(self.keys.agents))
        return sorted(map(_agent_decoder.decode, fields.values()), key=lambda record: record.id)

    def holdings(self) -> list[results.Holding]:
        """Return the attempts that hold a lease now, of all studies."""
        held: list[results.Holding] = []
        for record in self.studies():
            if record.finished_at is None:  # also one that was cancelled and whose trials still end
                held += results.holdings(record.id, self.trials(record.id))
        return held

    # --- following ----------------------------------------------------------------------------

    def feed_end(self) -> str:
        """Return the id of the feed's last entry: where following starts."""
        with self.reaching():
            last = cast("list[tuple[bytes, Any]]", self.redis.xrevrange(self.keys.feed, count=1))
        return last[0][0].decode() if last else "0-0"

    def feed(self, after: str, block_s: float = 0.0) -> list[tuple[str, FeedEntry]]:
        """Return what happened after the entry *after*: at most 1,000 entries of the feed.

        Waits up to *block_s* (at most two seconds) for the first one.
        """
        block_ms = int(min(block_s, BLOCK_LIMIT_S) * 1000) or None
        with self.reaching():
            found = cast(
                "list[tuple[bytes, list[tuple[bytes, dict[bytes, bytes]]]]]",
                self.redis.xread({self.keys.feed: after}, count=1000, block=block_ms),
            )
        entries = found[0][1] if found else []
        return [(entry_id.decode(), decode_feed(fields[b"e"])) for entry_id, fields in entries]

    def watch(self, study: str | None = None) -> Iterator[FeedEntry]:
        """Yield what happens from now on, one entry per commit, without end.

        With the id of a *study*: only entries with events of it, and only those events.
        """
        after = self.feed_end()
        while True:
            for entry_id, entry in self.feed(after, block_s=1.0):
                after = entry_id
                events = [event for event in entry.events if study is None or event.study == study]
                if events:
                    yield FeedEntry(entry.commit, entry.at, events)

    @contextmanager
    def reaching(self) -> Generator[None, None, None]:
        """Turn the errors of redis into ours."""
        try:
            yield
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            raise StoreUnreachable(
                f"no store answers at {shown_url(self.url)} ({error}): check that Redis runs there, "
                "or start one here with `sweepd up`"
            ) from error
        except redis.RedisError as error:
            raise SweepdError(f"the store at {shown_url(self.url)} refused: {error}") from error


def shown_url(url: str) -> str:
    """Return *url* without the password it may carry."""
    return re.sub(r"(://[^/@]*:)[^/@]*@", r"\1***@", url)
