"""The Python client: submit studies, read what became of them, pause, resume and cancel them.

    with sweepd.Client() as client:
        study = client.submit("digits.yaml")
        study.wait()
        print(study.best())

A client reads the records of the store directly and asks the coordinator through its inbox for
everything that changes something. Every method raises :class:`StoreUnreachable` when the store
cannot be reached.
"""

from __future__ import annotations

import difflib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sweepd import results
from sweepd.errors import NotFound, RequestTimeout, StoreUnreachable, UsageError
from sweepd.messages import (
    MESSAGE_LIMIT_BYTES,
    CancelStudy,
    ClientMessage,
    ClientRequest,
    PauseStudy,
    Reply,
    ResumeStudy,
    SubmitStudy,
    decode_reply,
    encode,
)
from sweepd.reader import BLOCK_LIMIT_S, Reader, shown_url
from sweepd.records import StudyRecord
from sweepd.states import StudyState, TrialState

if TYPE_CHECKING:
    from sweepd.spec import StudySpec

REQUEST_TIMEOUT_S = 15.0  #: longer than a coordinator's successor needs to take over
RESEND_S = 3.0

_FIRST_LOOK_S = 0.002
_LOOK_LIMIT_S = 0.05


@dataclass(frozen=True)
class Study:
    """A study in the store. `created` and `resumed` say what `Client.submit` did."""

    client: Client
    id: str
    name: str
    created: bool = False
    resumed: bool = False

    def record(self) -> StudyRecord:
        """Return the study's record as it stands."""
        return self.client.record(self.id)

    @property
    def state(self) -> StudyState:
        """Where the study is now."""
        return self.record().state

    def show(self) -> dict[str, Any]:
        """Return what `sweepd show --json` prints."""
        return results.show(self.record(), self.client.facts(self.id))

    def trials(self, reports: bool = False) -> list[dict[str, Any]]:
        """Return what `sweepd trials --json` prints, with the curves if *reports*."""
        records = self.client.trials(self.id)
        curves = self.client.curves(self.id) if reports else None
        return [
            results.trial(record, time.time(), None if curves is None else curves.get(record.number, []))
            for record in records
        ]

    def best(self) -> list[dict[str, Any]]:
        """Return the best trial (with several objectives: the Pareto front); empty at first."""
        return cast("list[dict[str, Any]]", self.show()["best"])

    def wait(self, timeout_s: float | None = None) -> StudyState:
        """Wait until nothing more happens by itself: see :meth:`Client.wait`."""
        return self.client.wait(self.id, timeout_s)

    def pause(self, reason: str = "") -> None:
        """Lease nothing more; running attempts are stopped and will be run again."""
        self.client.pause(self.id, reason)

    def resume(self) -> None:
        """Go on after a pause."""
        self.client.resume(self.id)

    def cancel(self, reason: str = "") -> None:
        """End the study and its running trials."""
        self.client.cancel(self.id, reason)


class Client(Reader):
    """A reader that can also ask the coordinator to change something."""

    # --- asking the coordinator ---------------------------------------------------------------

    def submit(
        self,
        study: StudySpec | Mapping[str, Any] | str | os.PathLike[str],
        *,
        new: bool = False,
        timeout_s: float = REQUEST_TIMEOUT_S,
        idle: Callable[[], None] | None = None,
    ) -> Study:
        """Create a study, or go on with the one of that name; return it.

        *study*: a spec, its content as a mapping (relative paths start at the current folder), or
        the path of its file. *new*: create another study although the name is taken. Raises
        SpecError if the spec is wrong and UsageError if a study of that name differs in more than
        may be edited.
        """
        from sweepd import spec as specs
        from sweepd.study_file import from_mapping, load

        if isinstance(study, specs.StudySpec):
            checked = study
        elif isinstance(study, Mapping):
            checked = from_mapping(study)
        else:
            checked = load(os.fspath(study))
        reply = self.request(SubmitStudy(specs.to_builtins(checked), new), timeout_s, idle)
        return Study(self, reply.study, reply.name or checked.name, reply.created, reply.resumed)

    def pause(self, study: str, reason: str = "") -> None:
        """Lease nothing more; running attempts are stopped and will be run again."""
        self.request(PauseStudy(self.study(study).id, reason))

    def resume(self, study: str) -> None:
        """Go on with a paused study."""
        self.request(ResumeStudy(self.study(study).id))

    def cancel(self, study: str, reason: str = "") -> None:
        """End a study and its running trials."""
        self.request(CancelStudy(self.study(study).id, reason))

    def request(
        self,
        message: ClientMessage,
        timeout_s: float = REQUEST_TIMEOUT_S,
        idle: Callable[[], None] | None = None,
    ) -> Reply:
        """Send *message* to the coordinator and wait for its answer.

        *idle* is called between looks at the store; what it raises ends the wait. Raises UsageError
        with the coordinator's words if it refuses, RequestTimeout if nobody answers.

        The request is sent again, under the same id, after a lost connection and every few seconds
        without an answer: a store that was killed may have forgotten it, and redis-py connects
        again without a word. The coordinator takes each id once.
        """
        request_id = secrets.token_hex(8)
        data = encode(ClientRequest(request_id, message))
        if len(data) > MESSAGE_LIMIT_BYTES:
            raise UsageError(
                f"the request has {len(data):,} bytes, the limit is {MESSAGE_LIMIT_BYTES:,}: "
                "make the study smaller"
            )
        deadline = time.monotonic() + timeout_s
        look_s = _FIRST_LOOK_S
        resend_s = 0.0  #: on the monotonic clock; at first at once
        reached = False
        lost: StoreUnreachable | None = None
        while True:
            try:
                with self.reaching():
                    if time.monotonic() >= resend_s:
                        self.redis.xadd(self.keys.inbox, {"e": data})
                        resend_s = time.monotonic() + RESEND_S
                    answer = cast("bytes | None", self.redis.get(self.keys.reply(request_id)))
                reached, lost = True, None
            except StoreUnreachable as error:
                if not reached:
                    raise
                answer, resend_s, lost = None, 0.0, error
            if answer is not None:
                break
            if time.monotonic() >= deadline:
                raise lost or self._unanswered(timeout_s)
            if idle is not None:
                idle()
            time.sleep(look_s)
            look_s = min(look_s * 1.5, _LOOK_LIMIT_S)
        reply = decode_reply(answer)
        if reply.error:
            raise UsageError(reply.error)
        return reply

    def _unanswered(self, timeout_s: float) -> RequestTimeout:
        where = f"{shown_url(self.url)} (namespace {self.keys.namespace})"
        with self.reaching():
            leads = bool(self.redis.exists(self.keys.leader))
        if leads:
            why = f"the coordinator at {where} did not answer within {timeout_s:g} s: look at its log"
        else:
            why = f"no coordinator works at {where}: start one with `sweepd coordinator --redis URL`"
        return RequestTimeout(f"{why}. The request stays in its inbox and will be carried out then.")

    # --- finding and following

    def study(self, name_or_id: str) -> Study:
        """Return the study of that id, else the newest one of that name.

        Raises NotFound, naming the nearest name there is.
        """
        records = self.studies()
        found = [record for record in records if record.id == name_or_id]
        found = found or [record for record in records if record.name == name_or_id]
        if found:
            return Study(self, found[-1].id, found[-1].name)
        names = [record.name for record in records]
        near = difflib.get_close_matches(name_or_id, names, n=1)
        if near:
            remedy = f"did you mean {near[0]!r}?"
        elif names:
            remedy = "there are " + ", ".join(sorted(set(names))[:10])
        else:
            remedy = "there is none at all yet; `sweepd submit FILE` creates one"
        raise NotFound(f"there is no study {name_or_id!r} at {shown_url(self.url)}: {remedy}")

    def wait(self, study: str, timeout_s: float | None = None) -> StudyState:
        """Wait until nothing more happens to a study by itself; return its state.

        That is when it is done, cancelled or failed and its last trial has ended, or when it is
        paused and nothing of it runs any more. Raises RequestTimeout after *timeout_s* seconds;
        None waits for ever.
        """
        found = self.study(study)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        after = self.feed_end()
        while True:
            record = self.record(found.id)
            state = record.state
            paused = state is StudyState.PAUSED and not record.counts.get(TrialState.RUNNING.value)
            if record.finished_at is not None or paused:
                return state
            left_s = BLOCK_LIMIT_S if deadline is None else deadline - time.monotonic()
            if left_s <= 0:
                raise RequestTimeout(f"study {found.name} is still {state.value} after {timeout_s:g} s")
            entries = self.feed(after, block_s=min(left_s, 1.0))
            after = entries[-1][0] if entries else after
