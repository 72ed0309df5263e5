"""The thread: first in, first out; in batches; and no error disappears."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from queue import Queue
from typing import Any

import msgspec
import pytest
from search.studies import SPACE, spec, told
from waiting import wait_until

from sweepd.space import Float, Parameter
from sweepd.spec import StudySpec
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
from sweepd_coordinator.search import KINDS, SamplerKind, Search, samplers
from sweepd_coordinator.search.random import RandomSearch
from sweepd_coordinator.search.tpe import TpeSearch
from sweepd_coordinator.search.worker import BATCH, Answer

WAIT_S = 30


class Desk:
    """A Search and what comes back from it."""

    def __init__(self) -> None:
        self.batches: Queue[list[Answer]] = Queue()
        self.observed: list[tuple[str, float]] = []
        self.on_answer: Callable[[list[Answer]], None] = self.batches.put
        self.search = Search(
            lambda answers: self.on_answer(answers), lambda *seen: self.observed.append(seen)
        )

    def batch(self) -> list[Answer]:
        return self.batches.get(timeout=WAIT_S)

    def answers(self, count: int) -> list[Answer]:
        got: list[Answer] = []
        while len(got) < count:
            got += self.batch()
        assert len(got) == count
        return got

    def ask(self, *notes: SearchNote) -> Answer:
        """Hand over notes with one question among them; return its answer."""
        self.search.submit(notes)
        return self.answers(1)[0]


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.search.close()


class Odd:
    """A sampler that goes wrong where it is told to."""

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def pending(self, note: TrialPending) -> None:
        if self.wrong == "pending":
            raise ValueError("cannot take it")

    def told(self, note: TrialTold) -> None:
        if self.wrong == "told":
            raise ValueError("cannot take it")

    def suggest(self, number: int) -> dict[str, Any]:
        if self.wrong == f"suggest {number}":
            raise ZeroDivisionError("no more numbers")
        return {"number": number}

    def suggest_one(self, number: int, name: str, distribution: Parameter) -> Any:
        raise ZeroDivisionError("never")


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], StudySpec]:
    """Return a function from what shall go wrong to a study whose sampler does so."""

    def study(wrong: str, stateless: bool = False) -> StudySpec:
        def build(spec: StudySpec, seed: int) -> Odd:
            if wrong == "build":
                raise ImportError("No module named 'optuna'")
            return Odd(wrong)

        monkeypatch.setattr(samplers, "KINDS", {**KINDS, "odd": SamplerKind("odd", stateless, build)})
        return spec("odd")

    return study


def test_questions_of_random_search_are_answered_together(desk: Desk) -> None:
    desk.search.submit([StudyOpened("s", spec()), *(Ask("s", number, 7) for number in range(100))])
    chance = RandomSearch(SPACE, 42)
    assert desk.batch() == [Suggestion("s", number, 7, chance.suggest(number)) for number in range(100)]
    assert len(desk.observed) == 100
    assert all(type == "random" and seconds >= 0 for type, seconds in desk.observed)


def test_a_batch_has_an_end(desk: Desk) -> None:
    desk.search.submit([StudyOpened("s", spec()), *(Ask("s", number, 7) for number in range(BATCH + 1))])
    assert [len(desk.batch()), len(desk.batch())] == [BATCH, 1]


def test_what_is_ready_does_not_wait_for_a_slower_sampler(desk: Desk) -> None:
    desk.search.submit(
        [
            StudyOpened("quick", spec()),
            StudyOpened("slow", spec("tpe")),
            Ask("quick", 0, 1),
            Ask("quick", 1, 1),
            Ask("slow", 0, 1),
            Ask("slow", 1, 1),
            Ask("quick", 2, 1),
        ]
    )
    batches = [desk.batch() for _ in range(4)]
    asked = [[(a.study, a.number) for a in batch if isinstance(a, Suggestion)] for batch in batches]
    assert asked == [[("quick", 0), ("quick", 1)], [("slow", 0)], [("slow", 1)], [("quick", 2)]]


def test_a_question_is_answered_from_the_history_before_it(desk: Desk) -> None:
    """The history of a question is what stands before it, wherever the commits end."""
    trials = [told(number, -number, RandomSearch(SPACE, 5).suggest(number)) for number in range(20)]
    expected = TpeSearch(SPACE, False, 42)
    for note in trials[:15]:
        expected.told(note)
    before = expected.suggest(30)
    for note in trials[15:]:
        expected.told(note)
    after = expected.suggest(30)
    assert before != after

    notes = [StudyOpened("s", spec("tpe")), *trials[:15], Ask("s", 30, 1), *trials[15:], Ask("s", 30, 2)]
    desk.search.submit(notes)
    together = desk.answers(2)
    for note in notes:
        desk.search.submit([note])
    assert together == desk.answers(2) == [Suggestion("s", 30, 1, before), Suggestion("s", 30, 2, after)]


def test_a_job_asks_for_one_parameter(desk: Desk) -> None:
    ask = AskOne("s", 3, 9, "token", "extra", Float(0, 1))
    value = RandomSearch({}, 42).suggest_one(3, "extra", Float(0, 1))
    assert desk.ask(StudyOpened("s", spec()), ask) == OneSuggestion(ask, value)


def test_opening_a_study_again_starts_its_history_again(desk: Desk) -> None:
    trials = [told(number, number / 20, RandomSearch(SPACE, 5).suggest(number)) for number in range(20)]
    first = desk.ask(StudyOpened("s", spec("tpe")), *trials, Ask("s", 30, 1))
    again = desk.ask(StudyOpened("s", spec("tpe")), *trials, Ask("s", 30, 1))
    assert first == again


@pytest.mark.parametrize("notes", [[], [StudyOpened("s", spec()), StudyClosed("s")]])
def test_a_question_for_a_study_that_is_not_open(desk: Desk, notes: list[SearchNote]) -> None:
    error = "the search has no open study s: it ended, or was never opened"
    late = told(0, 1.0)
    assert desk.ask(*notes, late, Ask("s", 1, 2)) == Suggestion("s", 1, 2, {}, error)
    ask = AskOne("s", 1, 2, "token", "x", Float(0, 1))
    assert desk.ask(ask) == OneSuggestion(ask, None, error)


def test_a_sampler_that_raises_answers_with_an_error(desk: Desk, odd: Callable[[str], StudySpec]) -> None:
    ask = AskOne("s", 2, 1, "token", "x", Float(0, 1))
    desk.search.submit([StudyOpened("s", odd("suggest 0")), Ask("s", 0, 1), Ask("s", 1, 1), ask])
    bad, good, one = desk.answers(3)
    assert bad.error.startswith("sampler odd could not suggest trial 0: ZeroDivisionError: no more numbers\n")
    assert "in suggest" in bad.error
    assert good == Suggestion("s", 1, 1, {"number": 1})
    assert one.error.startswith(
        "sampler odd could not suggest parameter x of trial 2: ZeroDivisionError: never\n"
    )
    assert len(desk.observed) == 1


@pytest.mark.parametrize("wrong", ["pending", "told"])
def test_a_sampler_that_missed_a_trial_suggests_no_more(
    desk: Desk, odd: Callable[[str], StudySpec], wrong: str
) -> None:
    notes = [TrialPending("s", 4, {}, {}), told(4, 1.0), told(5, 1.0)]
    answer = desk.ask(StudyOpened("s", odd(wrong)), *notes, Ask("s", 6, 1))
    assert answer.error.startswith("sampler odd could not take trial 4: ValueError: cannot take it\n")
    other = desk.ask(StudyOpened("other", spec()), Ask("other", 0, 1))
    assert other.error == ""


def test_a_sampler_that_cannot_be_built_says_so_to_each_question(
    desk: Desk, odd: Callable[[str], StudySpec]
) -> None:
    desk.search.submit([StudyOpened("s", odd("build")), told(0, 1.0), Ask("s", 0, 1), Ask("s", 1, 1)])
    for answer in desk.answers(2):
        assert answer.error.startswith(
            "sampler odd could not be built: ImportError: No module named 'optuna'\n"
        )


@pytest.mark.parametrize(
    ("sampler", "seed", "error"),
    [
        ("grid", 1, "sampler.type: 'grid' is not one of random, tpe"),
        (
            "tpe",
            None,
            "sampler.seed: missing; set one, or load the file with sweepd.study_file, which draws one",
        ),
    ],
)
def test_a_spec_that_cannot_be_served(desk: Desk, sampler: str, seed: int | None, error: str) -> None:
    assert error in desk.ask(StudyOpened("s", spec(sampler, seed=seed)), Ask("s", 0, 1)).error


def refused(search: Search) -> RuntimeError | None:
    """Return why *search* takes no more notes; None while it does."""
    try:
        search.submit([])
    except RuntimeError as refusal:
        return refusal
    return None


def test_a_thread_that_dies_says_so_at_the_next_submit(desk: Desk) -> None:
    def broken(answers: list[Answer]) -> None:
        raise RuntimeError("Event loop is closed")

    desk.on_answer = broken
    desk.search.submit([StudyOpened("s", spec()), Ask("s", 0, 1)])
    refusal = wait_until(lambda: refused(desk.search))
    assert "the search thread has died" in str(refusal)
    assert str(refusal.__cause__) == "Event loop is closed"


def test_close_drops_what_waits(desk: Desk) -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold(answers: list[Answer]) -> None:
        desk.batches.put(answers)
        entered.set()
        go_on.wait(WAIT_S)

    desk.on_answer = hold
    desk.search.submit([StudyOpened("s", spec("tpe")), Ask("s", 0, 1), Ask("s", 1, 1)])
    desk.search.submit([Ask("s", 2, 1)])
    assert entered.wait(WAIT_S)
    closing = threading.Thread(target=desk.search.close)
    closing.start()
    wait_until(lambda: refused(desk.search))
    go_on.set()
    closing.join(WAIT_S)
    assert not closing.is_alive()
    assert desk.batches.qsize() == 1
    with pytest.raises(RuntimeError, match="the search is closed"):
        desk.search.submit([Ask("s", 3, 1)])


def test_an_edited_study_is_the_same_question(desk: Desk) -> None:
    edited = msgspec.structs.replace(spec(), budget=msgspec.structs.replace(spec().budget, trials=500))
    first = desk.ask(StudyOpened("s", spec()), Ask("s", 3, 1))
    assert desk.ask(StudyOpened("s", edited), Ask("s", 3, 1)) == first


def test_random_search_never_loads_optuna() -> None:
    code = (
        "import sys; from search.studies import spec; from sweepd_coordinator.search import samplers;"
        "samplers.build(spec()).suggest(0); assert not {'optuna', 'numpy'} & set(sys.modules);"
        "samplers.build(spec('tpe')); assert 'optuna' in sys.modules"
    )
    path = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_questions_asked_in_one_breath_know_of_each_other(
    desk: Desk, odd: Callable[[str], StudySpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lower number without an end is pending, whether or not its answer was committed."""
    heard: list[tuple[int, dict[str, Any]]] = []
    monkeypatch.setattr(Odd, "pending", lambda _, note: heard.append((note.number, note.params)))
    desk.search.submit([StudyOpened("s", odd("nothing")), *(Ask("s", number, 7) for number in range(3))])
    desk.answers(3)
    assert heard == [(number, {"number": number}) for number in range(3)]
