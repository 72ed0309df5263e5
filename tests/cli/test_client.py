"""The client against a real server and a coordinator that follows a script."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from cli.scripted import AT, SPEC, Scripted, attempt_record, study_record, trial_record
from servers import RedisServer, free_port, valkey
from waiting import wait_until

from sweepd.client import Client
from sweepd.errors import NotFound, RequestTimeout, SpecError, StoreUnreachable, SweepdError, UsageError
from sweepd.messages import (
    CancelStudy,
    ClientRequest,
    PauseStudy,
    Reply,
    ResumeStudy,
    SubmitStudy,
)
from sweepd.reader import shown_url
from sweepd.records import AgentRecord, CurvePoint
from sweepd.results import Holding
from sweepd.states import StudyState, TrialState

GOOD = {
    "name": "digits",
    "task": {"objective": "pkg.train:objective"},
    "objectives": [{"metric": "accuracy", "direction": "maximize"}],
    "budget": {"trials": 4},
}


# --- requests ---------------------------------------------------------------------------------


def test_submit_sends_the_checked_spec_and_returns_the_study(server: RedisServer, scripted: Scripted) -> None:
    with Client(server.url) as client:
        study = client.submit(GOOD, new=True)
    assert (study.id, study.name, study.created, study.resumed) == ("digits-1", "digits", True, False)
    request = scripted.requests[0].request
    assert isinstance(request, SubmitStudy)
    assert request.new
    assert request.spec["objectives"] == GOOD["objectives"]


def test_submit_takes_the_path_of_a_file(server: RedisServer, scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("def objective(trial): return 1.0\n")
    file = tmp_path / "digits.yaml"
    file.write_text(
        "name: digits\ntask: {objective: train.py:objective}\n"
        "objectives: [{metric: a, direction: minimize}]\nbudget: {trials: 1}\n"
    )
    with Client(server.url) as client:
        client.submit(file)
    request = scripted.requests[0].request
    assert isinstance(request, SubmitStudy)
    assert request.spec["task"]["workdir"] == str(tmp_path)


def test_a_wrong_spec_never_leaves_the_client(server: RedisServer, scripted: Scripted) -> None:
    with Client(server.url) as client, pytest.raises(SpecError):
        client.submit({**GOOD, "budget": {"trials": 0}})
    assert scripted.requests == []


def test_what_the_coordinator_refuses_is_raised_in_its_words(server: RedisServer, scripted: Scripted) -> None:
    scripted.answer = lambda asked: Reply(asked.request_id, error="space.lr: cannot change")
    with Client(server.url) as client, pytest.raises(UsageError, match=r"space\.lr: cannot change"):
        client.submit(GOOD)


REQUESTS: list[tuple[Callable[[Client], None], object]] = [
    (lambda client: client.pause("digits", "lunch"), PauseStudy("digits-2", "lunch")),
    (lambda client: client.resume("digits"), ResumeStudy("digits-2")),
    (lambda client: client.cancel("digits", "enough"), CancelStudy("digits-2", "enough")),
    (lambda client: client.study("digits-1").cancel(), CancelStudy("digits-1", "")),
]


@pytest.mark.parametrize(("ask", "expected"), REQUESTS)
def test_requests_name_the_immutable_id_of_the_newest_study_of_a_name(
    server: RedisServer, scripted: Scripted, ask: Callable[[Client], None], expected: object
) -> None:
    scripted.put(study_record("digits", 1))
    scripted.put(study_record("digits", 2))
    with Client(server.url) as client:
        ask(client)
    assert [asked.request for asked in scripted.requests] == [expected]


def test_no_coordinator_is_a_timeout_that_says_how_to_start_one(server: RedisServer) -> None:
    with Client(server.url) as client, pytest.raises(RequestTimeout, match="no coordinator works") as error:
        client.submit(GOOD, timeout_s=0.05)
    assert "sweepd coordinator --redis" in str(error.value)
    assert "will be carried out then" in str(error.value)
    assert error.value.exit_code == 3


def test_a_coordinator_that_leads_but_is_silent_is_named_as_that(server: RedisServer) -> None:
    with Client(server.url) as client:
        client.redis.set(client.keys.leader, "somebody")
        with pytest.raises(RequestTimeout, match="did not answer within"):
            client.submit(GOOD, timeout_s=0.05)


def test_a_wait_is_ended_by_what_idle_raises(server: RedisServer) -> None:
    class Enough(Exception):
        pass

    def idle() -> None:
        raise Enough

    with Client(server.url) as client, pytest.raises(Enough):
        client.submit(GOOD, idle=idle)


def test_a_request_that_the_store_forgot_goes_again_under_the_same_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sweepd.client.RESEND_S", 0.2)
    with valkey() as server, Client(server.url) as client, ExitStack() as later:
        coordinators: list[Scripted] = []

        def forget_it_once() -> None:
            if not coordinators:
                server.kill()
                server.start()  # in memory only
                coordinators.append(later.enter_context(Scripted(server)))

        assert client.request(CancelStudy("x"), timeout_s=20, idle=forget_it_once).study == "x"
        assert len(coordinators[0].requests) == 1


def test_a_store_that_is_away_for_a_moment_is_waited_for() -> None:
    with valkey() as server, Client(server.url) as client, ExitStack() as later:
        looks = iter(range(1_000))
        coordinators: list[Scripted] = []

        def break_it_for_two_looks() -> None:
            look = next(looks)
            if look == 0:
                server.kill()
            elif look == 2:
                server.start()
                coordinators.append(later.enter_context(Scripted(server)))

        assert client.request(CancelStudy("x"), timeout_s=20, idle=break_it_for_two_looks).study == "x"
        assert len({asked.request_id for asked in coordinators[0].requests}) == 1


def test_a_store_that_stays_away_is_named_at_the_end() -> None:
    with valkey() as server, Client(server.url) as client:
        kill = iter([server.kill])
        with pytest.raises(StoreUnreachable, match="no store answers"):
            client.request(CancelStudy("x"), timeout_s=0.3, idle=lambda: next(kill, lambda: None)())


def test_nobody_at_the_url_is_said_at_once_without_the_password() -> None:
    url = f"redis://me:secret@127.0.0.1:{free_port()}/0"
    with Client(url) as client, pytest.raises(StoreUnreachable) as error:
        client.submit(GOOD)
    assert "secret" not in str(error.value)
    assert "me:***@127.0.0.1" in str(error.value)
    assert error.value.exit_code == 3


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://127.0.0.1", "redis://127.0.0.1:x/0"])
def test_what_is_no_url_is_refused_with_the_shape_of_one(url: str) -> None:
    with pytest.raises(UsageError, match="redis://HOST:PORT/DB"):
        Client(url)


def test_a_request_over_the_limit_is_refused_here(server: RedisServer) -> None:
    with Client(server.url) as client, pytest.raises(UsageError, match="the limit is 262,144"):
        client.request(CancelStudy("x", "y" * 300_000))


def test_a_store_that_refuses_is_quoted(server: RedisServer) -> None:
    with Client(server.url) as client:
        client.redis.set(client.keys.studies, "not a hash")
        with pytest.raises(SweepdError, match="WRONGTYPE"):
            client.studies()


def test_urls_without_a_password_are_shown_whole() -> None:
    assert shown_url("redis://127.0.0.1:6379/0") == "redis://127.0.0.1:6379/0"
    assert shown_url("unix:///tmp/a@b:c.sock?db=0") == "unix:///tmp/a@b:c.sock?db=0"


# --- reading ----------------------------------------------------------------------------------


def test_studies_come_in_the_order_of_their_submission(server: RedisServer, scripted: Scripted) -> None:
    for ordinal in (3, 1, 2):
        scripted.put(study_record("abc"[ordinal - 1], ordinal))
    with Client(server.url) as client:
        assert [study.name for study in client.studies()] == ["a", "b", "c"]


NAMES = [("digist", "did you mean 'digits'"), ("zzz", "there are digits, mnist")]


@pytest.mark.parametrize(("asked", "remedy"), NAMES)
def test_an_unknown_study_is_not_found_with_the_nearest_name(
    server: RedisServer, scripted: Scripted, asked: str, remedy: str
) -> None:
    scripted.put(study_record("mnist", 1))
    scripted.put(study_record("digits", 2))
    with Client(server.url) as client, pytest.raises(NotFound, match=remedy):
        client.study(asked)


def test_in_an_empty_store_the_remedy_is_to_submit(server: RedisServer) -> None:
    with Client(server.url) as client, pytest.raises(NotFound, match="sweepd submit FILE"):
        client.study("digits")


def test_records_of_unknown_ids_are_not_found(server: RedisServer) -> None:
    with Client(server.url) as client:
        for read in (client.record, client.facts):
            with pytest.raises(NotFound, match="'nope'"):
                read("nope")


def test_running_trials_have_the_steps_and_reports_so_far(server: RedisServer, scripted: Scripted) -> None:
    running = trial_record(1, TrialState.RUNNING, attempts=[attempt_record()])
    ended = trial_record(0, reports=1, last_step=1)
    points = [CurvePoint(1, 10, {"accuracy": 0.5}), CurvePoint(1, 20, {"accuracy": 0.6})]
    scripted.put(study_record(), [running, ended], points={1: points})
    with Client(server.url) as client:
        assert [(t.number, t.reports, t.last_step) for t in client.trials("digits-1")] == [
            (0, 1, 1),
            (1, 2, 20),
        ]
        assert client.trial("digits-1", 1).reports == 2


def test_a_trial_that_is_not_there_says_how_many_there_are(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(), [trial_record(0)])
    scripted.put(study_record("empty", 2))
    with Client(server.url) as client:
        with pytest.raises(NotFound, match="no trial 5: there are 1, from 0"):
            client.trial("digits-1", 5)
        with pytest.raises(NotFound, match="there is none yet"):
            client.trial("empty-2", 0)


def test_curves_come_from_ended_and_running_trials(server: RedisServer, scripted: Scripted) -> None:
    running = trial_record(1, TrialState.RUNNING, attempts=[attempt_record()])
    live, folded = [CurvePoint(1, 1, {"accuracy": 0.5})], [CurvePoint(1, 1, {"accuracy": 0.75})]
    scripted.put(study_record(), [trial_record(0), running], points={1: live}, curves={0: folded})
    with Client(server.url) as client:
        assert client.curves("digits-1") == {0: folded, 1: live}
        shown = client.study("digits").trials(reports=True)
    assert [trial["curve"] for trial in shown] == [[[1, {"accuracy": 0.75}]], [[1, {"accuracy": 0.5}]]]


def test_the_handle_shows_what_the_command_line_prints(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(), [trial_record(0)])
    with Client(server.url) as client:
        study = client.study("digits")
        assert study.show()["budget"] == {"trials": {"limit": 4, "used": 0}}
        assert study.best() == []
        assert [trial["number"] for trial in study.trials()] == [0]
        assert study.state is StudyState.RUNNING


def test_holdings_are_looked_up_in_studies_that_go_on(server: RedisServer, scripted: Scripted) -> None:
    held = trial_record(1, TrialState.RUNNING, attempts=[attempt_record(devices=["GPU-1"])])
    scripted.put(study_record(), [held])
    scripted.put(study_record("old", 2, state=StudyState.DONE, finished_at=1.0), [held])
    scripted.put_agent(AgentRecord("node-a", "host-a", "s"))
    with Client(server.url) as client:
        assert client.holdings() == [Holding("digits-1", 1, 1, "node-a", ("GPU-1",))]
        assert [agent.id for agent in client.agents()] == ["node-a"]


def test_another_namespace_is_another_installation(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record())
    with Client(server.url, namespace="other") as client:
        assert client.studies() == []


# --- following --------------------------------------------------------------------------------


def test_watch_yields_what_happens_to_a_study_from_now_on(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(), [trial_record(0)])
    with Client(server.url) as client:
        feed = client.watch("digits-1")
        seen: list[int | None] = []

        def follow() -> None:
            for entry in feed:
                seen.extend(event.trial for event in entry.events)
                if len(seen) == 2:
                    return

        following = threading.Thread(target=follow)
        following.start()
        # Nobody can tell when the thread stands at the feed's end: it is told until it hears.
        wait_until(lambda: scripted.put(study_record(), [trial_record(1)]) or bool(seen))
        scripted.put(study_record("other", 2), [trial_record(7)])
        scripted.put(study_record(), [trial_record(1)])
        following.join(timeout=10)
    assert seen == [1, 1]


@pytest.mark.parametrize("state", [StudyState.DONE, StudyState.PAUSED, StudyState.CANCELLED])
def test_wait_ends_when_a_study_rests(server: RedisServer, scripted: Scripted, state: StudyState) -> None:
    """A study that was told to end, or to pause, rests when its last running trial has ended."""
    scripted.put(study_record(state=state, counts={"running": 1}))
    with Client(server.url) as client:
        study = client.study("digits")
        with pytest.raises(RequestTimeout, match=f"still {state.value}"):
            study.wait(timeout_s=0.05)
        finished_at = None if state is StudyState.PAUSED else 1_700_000_100.0
        rests = study_record(state=state, counts={"running": 0}, finished_at=finished_at)
        later = threading.Timer(0.05, lambda: scripted.put(rests))
        later.start()
        assert study.wait(timeout_s=10) is state
        later.join()


def test_wait_gives_up_after_its_time(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(state=StudyState.DRAINING))
    with Client(server.url) as client, pytest.raises(RequestTimeout, match="still draining after"):
        client.wait("digits", timeout_s=0.05)


def test_the_default_url_is_the_environments(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPD_REDIS", server.url)
    with Client() as client:
        assert client.url == server.url


def test_without_anything_the_default_is_redis_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Client() as client:
        assert client.url == "redis://127.0.0.1:6379/0"


def test_specs_of_the_future_are_read(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(), spec=SPEC)
    with Client(server.url) as client:
        assert client.facts("digits-1").budget.trials == 4
        assert client.record("digits-1").created_at == AT


def test_requests_are_not_repeated_by_the_library(server: RedisServer) -> None:
    """Three lost replies to one XADD were four entries with the library's own retries."""
    with Client(server.url) as client:
        retry = client.redis.connection_pool.connection_kwargs["retry"]
        assert retry.get_retries() == 0
        assert client.redis.connection_pool.connection_kwargs["retry_on_error"] == []


def test_a_request_carries_a_fresh_id(server: RedisServer, scripted: Scripted) -> None:
    with Client(server.url) as client:
        client.submit(GOOD)
        client.submit(GOOD)
    ids = [asked.request_id for asked in scripted.requests]
    assert all(isinstance(asked, ClientRequest) for asked in scripted.requests)
    assert len(set(ids)) == 2
