"""One thread asks the samplers, so that the loop never waits for one.

The loop hands over notes in the order of its commits; the thread works through them first in,
first out. A question is therefore answered from exactly the history before it, its cut,
however late the thread gets to it. Pending at the cut is every trial with a lower number and no
end: those that were asked for in the same breath too, although they are in no record yet.
Otherwise a free fleet, which asks for many trials at once, would get one answer many times.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue

from sweepd_coordinator.core.changes import (
    Ask,
    AskOne,
    OneSuggestion,
    SearchNote,
    StudyClosed,
    StudyOpened,
    Suggestion,
    TrialPending,
    TrialTold,
)
from sweepd_coordinator.search.samplers import StudySampler, build, kind_of

log = logging.getLogger("sweepd.search")

Answer = Suggestion | OneSuggestion

#: Answers of a sampler without a state that are handed over at once: about 5 ms of work.
BATCH = 500

#: How long `close` waits for the suggestion under way.
CLOSE_S = 10.0

#: Of a sampler's traceback, what a study's reason has room for.
TRACEBACK_BYTES = 4_000


@dataclass(slots=True)
class _Study:
    """An open study. `broken`: why its sampler can answer nothing any more."""

    type: str
    stateless: bool = False
    sampler: StudySampler | None = None
    broken: str = ""


class Search:
    """The samplers of all running studies, and the thread that asks them.

    `answer(answers)` is called in that thread, in the order of the questions, and must neither
    block nor raise. `observe(sampler type, seconds)` is called there for each suggestion.
    A sampler that raises answers with an error; what else goes wrong ends the thread, and the
    next `submit` raises it.
    """

    def __init__(self, answer: Callable[[list[Answer]], None], observe: Callable[[str, float], None]) -> None:
        self._answer = answer
        self._observe = observe
        self._notes: SimpleQueue[Sequence[SearchNote] | None] = SimpleQueue()
        self._studies: dict[str, _Study] = {}
        self._closing = False
        self._failure: BaseException | None = None
        # A daemon: a sampler that hangs must not keep a coordinator from leaving.
        self._thread = threading.Thread(target=self._run, name="sweepd-search", daemon=True)
        self._thread.start()

    def submit(self, notes: Sequence[SearchNote]) -> None:
        """Hand over the notes of one commit. Never waits.

        Raises RuntimeError if the thread has died, from what it died of, or if this is closed.
        """
        if self._failure is not None:
            raise RuntimeError(
                "the search thread has died; this coordinator cannot suggest"
            ) from self._failure
        if self._closing:
            raise RuntimeError("the search is closed")
        if notes:
            self._notes.put(notes)

    def close(self) -> None:
        """End the thread after the suggestion under way; questions not yet answered never are."""
        self._closing = True
        self._notes.put(None)
        self._thread.join(CLOSE_S)
        if self._thread.is_alive():
            log.warning("search.still_running after_s=%g", CLOSE_S)

    def _run(self) -> None:
        try:
            while (notes := self._notes.get()) is not None:
                self._work(notes)
        except BaseException as error:
            log.exception("search.died")
            self._failure = error

    def _work(self, notes: Sequence[SearchNote]) -> None:
        ready: list[Answer] = []
        for note in notes:
            if self._closing:
                return
            if not isinstance(note, Ask | AskOne):
                self._learn(note)
                continue
            study = self._studies.get(note.study)
            together = study is None or study.stateless
            if not together:
                # What is ready does not wait for a suggestion that takes milliseconds.
                ready = self._hand_over(ready)
            ready.append(self._suggest(study, note))
            if not together or len(ready) >= BATCH:
                ready = self._hand_over(ready)
        self._hand_over(ready)

    def _hand_over(self, ready: list[Answer]) -> list[Answer]:
        if ready and not self._closing:
            self._answer(ready)
        return []

    def _learn(self, note: StudyOpened | StudyClosed | TrialPending | TrialTold) -> None:
        if isinstance(note, StudyOpened):
            # Also one that is open already: what follows is its whole history, not an addition.
            self._studies[note.study] = _opened(note)
            return
        if isinstance(note, StudyClosed):
            self._studies.pop(note.study, None)
            return
        study = self._studies.get(note.study)
        if study is None or study.sampler is None:
            return  # of a study that ended, or that answers with an error anyway
        try:
            if isinstance(note, TrialPending):
                study.sampler.pending(note)
            else:
                study.sampler.told(note)
        except Exception as error:
            # Without this trial every later suggestion would follow from another history.
            study.broken = _story(f"sampler {study.type} could not take trial {note.number}", error)
            study.sampler = None
            log.exception("search.broken study=%s trial=%d", note.study, note.number)

    def _suggest(self, study: _Study | None, ask: Ask | AskOne) -> Answer:
        if study is None:
            return _refusal(ask, f"the search has no open study {ask.study}: it ended, or was never opened")
        if study.sampler is None:
            return _refusal(ask, study.broken)
        began = time.perf_counter()
        try:
            if isinstance(ask, AskOne):
                value = study.sampler.suggest_one(ask.number, ask.name, ask.distribution)
                answer: Answer = OneSuggestion(ask, value)
            else:
                params = study.sampler.suggest(ask.number)
                study.sampler.pending(TrialPending(ask.study, ask.number, params, {}))
                answer = Suggestion(ask.study, ask.number, ask.cut, params)
        except Exception as error:
            log.exception("search.failed study=%s trial=%d sampler=%s", ask.study, ask.number, study.type)
            what = (
                f"parameter {ask.name} of trial {ask.number}"
                if isinstance(ask, AskOne)
                else f"trial {ask.number}"
            )
            return _refusal(ask, _story(f"sampler {study.type} could not suggest {what}", error))
        self._observe(study.type, time.perf_counter() - began)
        return answer


def _opened(note: StudyOpened) -> _Study:
    study = _Study(note.spec.sampler.type)
    try:
        study.stateless = kind_of(note.spec).stateless
        study.sampler = build(note.spec)
    except Exception as error:
        study.broken = _story(f"sampler {study.type} could not be built", error)
        log.exception("search.broken study=%s", note.study)
    return study


def _refusal(ask: Ask | AskOne, error: str) -> Answer:
    if isinstance(ask, AskOne):
        return OneSuggestion(ask, None, error)
    return Suggestion(ask.study, ask.number, ask.cut, {}, error)


def _story(what: str, error: Exception) -> str:
    """Return *what* happened and why, with the end of the traceback."""
    told = "".join(traceback.format_exception(error))[-TRACEBACK_BYTES:]
    return f"{what}: {type(error).__name__}: {error}\n{told}"
