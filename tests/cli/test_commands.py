"""The commands that read and ask: what they print, and what they exit with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from cli.scripted import AT, Scripted, attempt_record, study_record, trial_record
from servers import RedisServer, free_port
from typer.testing import CliRunner, Result
from waiting import wait_until

from sweepd import __version__
from sweepd.cli.app import app
from sweepd.embedded import EmbeddedStore, running_store
from sweepd.messages import CancelStudy, ClientRequest, Device, Reply, SubmitStudy
from sweepd.records import AgentRecord, BestRecord, CurvePoint, StudyRecord
from sweepd.statedir import Purpose, StateDirectory
from sweepd.states import AttemptOutcome, StudyState, TrialState

STUDY = """\
name: digits
task: {objective: pkg.train:objective}
objectives: [{metric: accuracy, direction: maximize}]
space:
  lr: {type: float, low: 1e-5, high: 1e-2, log: true}
  layers: {type: int, low: 1, high: 4}
  kind: {type: categorical, choices: [adam, sgd]}
sampler: {type: random, seed: 7}
scheduler: {type: asha, min: 1, max: 27}
budget: {trials: 12}
resources: {gpus: 2, memory: 4GiB}
limits: {time: 90m}
"""

Sweepd = Callable[..., Result]


@pytest.fixture
def sweepd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweepd:
    """Run a command line in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "study.yaml").write_text(STUDY)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, [str(word) for word in words])


@pytest.fixture
def digits(scripted: Scripted) -> StudyRecord:
    """A study that is under way: trial 0 complete, 1 running, 2 waiting."""
    record = study_record(
        counts={"complete": 1, "running": 1, "waiting": 1},
        best=BestRecord(0, {"accuracy": 0.75}, {"lr": 0.1234567890123, "kind": "adam"}),
    )
    ended = attempt_record(ended_at=AT + 9, outcome=AttemptOutcome.FINISHED, end_step=3, reports=3)
    trials = [
        trial_record(
            0, attempts=[ended], values={"accuracy": 0.75}, last_step=3, reports=3, reason="its own end"
        ),
        trial_record(1, TrialState.RUNNING, attempts=[attempt_record()]),
        trial_record(2, TrialState.WAITING, params={"lr": 0.5, "[kind]": "sgd"}),
    ]
    scripted.put(
        record,
        trials,
        points={1: [CurvePoint(1, 1, {"accuracy": 0.5})]},
        curves={0: [CurvePoint(1, 3, {"accuracy": 0.75})]},
    )
    return record


# --- tables -----------------------------------------------------------------------------------


def test_ls_lists_the_studies(sweepd: Sweepd, server: RedisServer, digits: StudyRecord) -> None:
    result = sweepd("ls", "--redis", server.url)
    assert result.exit_code == 0
    header, row = result.stdout.splitlines()
    assert header.split() == ["study", "state", "trials", "best", "value", "id", "created"]
    assert row.split()[:7] == ["digits", "running", "2/4", "#0", "accuracy", "0.75", "digits-1"]


def test_ls_json_is_a_list_of_what_show_prints(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord
) -> None:
    listed = json.loads(sweepd("ls", "--json", "--redis", server.url).stdout)
    shown = json.loads(sweepd("show", "digits", "--json", "--redis", server.url).stdout)
    assert listed == [shown]
    assert shown["counts"]["complete"] == 1
    assert shown["best"] == [{"number": 0, "values": {"accuracy": 0.75}, "params": digits.best.params}]  # pyright: ignore


def test_agents_lists_machines_and_what_they_hold(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    device = Device("GPU-1", "H200", 141_000)
    held = trial_record(1, TrialState.RUNNING, attempts=[attempt_record(devices=["GPU-1"])])
    scripted.put(study_record(), [held])
    scripted.put_agent(AgentRecord("node-a", "host-a", "s", slots=2, devices=[device], last_seen_at=AT))
    row = sweepd("agents", "--redis", server.url).stdout.splitlines()[1]
    assert row.split()[:3] == ["node-a", "host-a", "connected"]
    assert row.split()[-4:] == ["1/2", "1/1", "digits-1", "#1"]
    (agent,) = json.loads(sweepd("agents", "--json", "--redis", server.url).stdout)
    assert agent["running"] == [["digits-1", 1, 1]]
    assert agent["gpus"][0]["leased_by"] == ["digits-1", 1, 1]
    assert set(agent) == {"id", "host", "state", "last_seen_s", "slots", "gpus", "running"}


def test_agents_of_an_empty_store_says_how_to_start_one(sweepd: Sweepd, server: RedisServer) -> None:
    result = sweepd("agents", "--redis", server.url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "sweepd agent" in result.stderr


def test_show_tells_people_the_state_the_goal_and_the_best(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord
) -> None:
    out = sweepd("show", "digits", "--redis", server.url).stdout
    for line in ("state    running", "goal     maximize accuracy", "budget   2/4 trials", "best trial 0"):
        assert line in out
    assert "0.1234567890123" in out  # all digits: somebody will copy them


def test_show_prints_the_traceback_that_paused_a_study(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    failure = 'Traceback\n  File "[x].py"\nValueError: no'
    scripted.put(study_record(state=StudyState.PAUSED, reason="failed alike", failure=failure))
    out = sweepd("show", "digits", "--redis", server.url).stdout
    assert '    File "[x].py"\n  ValueError: no' in out


def test_trials_has_a_line_per_trial_and_a_column_per_parameter(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord
) -> None:
    lines = sweepd("trials", "digits", "--redis", server.url).stdout.splitlines()
    head, complete, _, waiting = [" ".join(line.split()) for line in lines]
    assert head == "trial state accuracy reports step took lr kind [kind] reason"
    assert complete == "0 complete 0.75 3 3 8.0 s 0.1 adam - its own end"
    assert waiting == "2 waiting - 0 - - 0.5 - sgd"


def test_trials_json_is_the_contract_and_reports_add_the_curves(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord
) -> None:
    plain = json.loads(sweepd("trials", "digits", "--json", "--redis", server.url).stdout)
    curves = json.loads(sweepd("trials", "digits", "--json", "--reports", "--redis", server.url).stdout)
    assert [trial["state"] for trial in plain] == ["complete", "running", "waiting"]
    assert [trial["curve"] for trial in curves] == [[[3, {"accuracy": 0.75}]], [[1, {"accuracy": 0.5}]], []]
    assert [set(a) - set(b) for a, b in zip(curves, plain, strict=True)] == [{"curve"}] * 3


def test_reports_are_for_json(sweepd: Sweepd, server: RedisServer, digits: StudyRecord) -> None:
    result = sweepd("trials", "digits", "--reports", "--redis", server.url)
    assert result.exit_code == 2
    assert "--json" in result.stderr


def test_best_prints_the_parameters(sweepd: Sweepd, server: RedisServer, digits: StudyRecord) -> None:
    assert sweepd("best", "digits", "--redis", server.url).stdout.splitlines()[0] == "best trial 0"
    found = json.loads(sweepd("best", "digits", "--json", "--redis", server.url).stdout)
    assert found[0]["number"] == 0


def test_before_the_first_complete_trial_there_is_no_best(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    scripted.put(study_record())
    assert json.loads(sweepd("best", "digits", "--json", "--redis", server.url).stdout) == []
    result = sweepd("best", "digits", "--redis", server.url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no trial of digits is complete yet" in result.stderr


def test_why_explains_in_sentences(sweepd: Sweepd, server: RedisServer, digits: StudyRecord) -> None:
    out = sweepd("why", "digits", 0, "--redis", server.url).stdout
    assert out.startswith("Trial 0 of digits is complete: its own end.\n")
    told = json.loads(sweepd("why", "digits", 0, "--json", "--redis", server.url).stdout)
    assert told["sentences"] == out.splitlines()
    assert (told["number"], told["state"], told["reason"]) == (0, "complete", "its own end")


def test_watch_of_a_study_that_rests_prints_its_result(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    scripted.put(study_record(state=StudyState.DONE, counts={"complete": 1}), [trial_record(0)])
    result = sweepd("watch", "digits", "--redis", server.url)
    assert result.stdout.startswith("digits is done: 1 complete")
    assert json.loads(sweepd("watch", "digits", "--json", "--redis", server.url).stdout)["state"] == "done"
    assert sweepd("watch", "digits", "--events", "--redis", server.url).stdout == ""


def test_watch_tells_the_ends_of_trials_until_the_study_rests(
    server: RedisServer, scripted: Scripted, digits: StudyRecord
) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "sweepd", "watch", "digits", "--redis", server.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stderr is not None
        wait_until_followed(scripted)
        done = study_record(
            state=StudyState.DONE,
            counts={"complete": 3},
            best=BestRecord(1, {"accuracy": 0.9}, {}),
        )
        ended = attempt_record(ended_at=AT + 9, outcome=AttemptOutcome.FINISHED)
        scripted.put(
            done,
            [
                trial_record(1, attempts=[ended], values={"accuracy": 0.9}, reports=2),
                trial_record(2, TrialState.FAILED, reason="crashed: no"),
            ],
        )
        out, err = watching.communicate(timeout=20)
    assert err.splitlines() == [
        "trial 1 complete: accuracy 0.9 (2 reports, 8.0 s), the best so far",
        "trial 2 failed: crashed: no",
    ]
    assert out.startswith("digits is done")


def wait_until_followed(scripted: Scripted) -> None:
    """Wait until somebody reads the feed (the coordinator itself reads its inbox)."""

    def followed() -> bool:
        clients = cast("list[dict[str, Any]]", scripted.redis.client_list())
        return sum(client["cmd"] == "xread" for client in clients) == 2

    wait_until(followed)


# --- requests ---------------------------------------------------------------------------------


def test_submit_says_what_it_did(sweepd: Sweepd, server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record())
    result = sweepd("submit", "study.yaml", "--redis", server.url)
    assert result.stdout == "digits submitted (digits-1): follow it with `sweepd watch digits`\n"
    result = sweepd("submit", "study.yaml", "--new", "--json", "--redis", server.url)
    assert json.loads(result.stdout) == {
        "id": "digits-1",
        "name": "digits",
        "state": "running",
        "created": True,
        "resumed": False,
    }
    news = [asked.request.new for asked in scripted.requests if isinstance(asked.request, SubmitStudy)]
    assert news == [False, True]


def test_submitting_again_says_resumed_or_the_state(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    scripted.put(study_record())
    scripted.answer = lambda asked: Reply(asked.request_id, "digits-1", "digits", resumed=True)
    assert sweepd("submit", "study.yaml", "--redis", server.url).stdout.startswith("digits resumed")
    scripted.answer = lambda asked: Reply(asked.request_id, "digits-1", "digits")
    assert sweepd("submit", "study.yaml", "--redis", server.url).stdout.startswith("digits is running")


def test_cancel_carries_its_reason(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord, scripted: Scripted
) -> None:
    def cancel(asked: ClientRequest) -> Reply:
        scripted.put(study_record(state=StudyState.CANCELLED))
        return Reply(asked.request_id, "digits-1", "digits")

    scripted.answer = cancel
    result = sweepd("cancel", "digits", "--reason", "enough", "--redis", server.url)
    assert result.stdout == "digits (digits-1) is cancelled\n"
    assert [asked.request for asked in scripted.requests] == [CancelStudy("digits-1", "enough")]


# --- logs -------------------------------------------------------------------------------------


def put_logged(scripted: Scripted, *attempts: Any, state: TrialState = TrialState.FAILED) -> None:
    scripted.put(study_record(), [trial_record(0, state, attempts=list(attempts))])


def test_logs_prints_the_newest_attempts_output_byte_for_byte(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted, tmp_path: Path
) -> None:
    here = socket.gethostname()
    for number in (1, 2):
        (tmp_path / f"{number}.log").write_bytes(b"attempt %d [bold]\xff\n" % number)
    attempts = [
        attempt_record(n, host=here, log=str(tmp_path / f"{n}.log"), outcome=AttemptOutcome.LOST)
        for n in (1, 2)
    ]
    put_logged(scripted, *attempts)
    assert sweepd("logs", "digits", 0, "--redis", server.url).stdout_bytes == b"attempt 2 [bold]\xff\n"
    first = sweepd("logs", "digits", 0, "--attempt", 1, "--redis", server.url)
    assert first.stdout_bytes == b"attempt 1 [bold]\xff\n"
    result = sweepd("logs", "digits", 0, "--attempt", 3, "--redis", server.url)
    assert result.exit_code == 2
    assert "no attempt 3: there are 2" in result.stderr


def test_logs_of_a_job_that_printed_nothing_say_so(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted, tmp_path: Path
) -> None:
    log = tmp_path / "output.log"
    log.touch()
    put_logged(scripted, attempt_record(host=socket.gethostname(), log=str(log)))
    result = sweepd("logs", "digits", 0, "--redis", server.url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "attempt 1 of trial 0 has printed nothing\n"


def test_logs_of_another_host_names_the_place_and_prints_the_recorded_tail(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    put_logged(scripted, attempt_record(host="far", log="/state/output.log", message="the end\nof it\n"))
    result = sweepd("logs", "digits", 0, "--redis", server.url)
    assert "far:/state/output.log" in result.stderr
    assert result.stdout == "the end\nof it\n"


def test_logs_of_an_attempt_that_never_started_say_so(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    put_logged(scripted, attempt_record(started_at=None))
    assert "it never started" in sweepd("logs", "digits", 0, "--redis", server.url).stderr
    put_logged(scripted, state=TrialState.WAITING)
    result = sweepd("logs", "digits", 0, "--redis", server.url)
    assert result.exit_code == 2
    assert "has not run yet" in result.stderr


def test_logs_follow_until_the_attempt_ends(server: RedisServer, scripted: Scripted, tmp_path: Path) -> None:
    log = tmp_path / "output.log"
    log.write_text("one\n")
    attempt = attempt_record(host=socket.gethostname(), log=str(log))
    put_logged(scripted, attempt, state=TrialState.RUNNING)
    command = [sys.executable, "-m", "sweepd", "logs", "digits", "0", "-f", "--redis", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one\n"
        with log.open("a") as file:
            file.write("two\n")
        assert following.stdout.readline() == "two\n"
        with log.open("a") as file:
            file.write("three\n")
        put_logged(scripted, attempt_record(1, outcome=AttemptOutcome.FINISHED), state=TrialState.COMPLETE)
        assert following.communicate(timeout=20)[0] == "three\n"
        assert following.returncode == 0


# --- check ------------------------------------------------------------------------------------


def test_check_says_what_a_good_file_means(sweepd: Sweepd) -> None:
    result = sweepd("check", "study.yaml")
    assert result.exit_code == 0
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "study.yaml is fine",
        "study digits",
        "objective pkg.train:objective",
        "goal maximize accuracy (last report)",
        "space 3 parameters",
        "lr: float from 1e-05 to 0.01, on a log scale",
        "layers: int from 1 to 4",
        "kind: one of adam, sgd",
        "sampler random, seed 7",
        "scheduler asha: compared after 1, 3, 9 reports, the best 1/3 go on; complete at 27",
        "budget 12 trials",
        "each trial one slot, 2 GPUs, 4096 MiB of memory",
        "time limit 1:30:00 an attempt",
        "attempts at most 1 a trial",
        "executor local",
    ]


def test_check_counts_the_combinations_of_a_finite_space(sweepd: Sweepd, tmp_path: Path) -> None:
    (tmp_path / "grid.yaml").write_text(
        "name: g\ntask: {command: [train, '{args}']}\nobjectives: [{metric: a, direction: minimize}]\n"
        "space:\n  a: {type: int, low: 0, high: 10, step: 5}\n"
        "  b: {type: float, low: 0, high: 1, step: 0.1}\n"
        "  c: {type: categorical, choices: [x, y]}\nbudget: {trials: 3}\n"
    )
    assert "3 parameters, 66 combinations" in sweepd("check", "grid.yaml").stdout


def test_check_prints_all_problems_and_exits_with_2(sweepd: Sweepd, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(STUDY.replace("trials: 12", "trials: 0").replace("low: 1,", "low: 9,"))
    result = sweepd("check", "bad.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bad.yaml: 2 errors" in result.stderr
    assert "space.layers" in result.stderr
    assert "budget.trials" in result.stderr
    found = json.loads(sweepd("check", "bad.yaml", "--json").stdout)
    assert (found["valid"], len(found["problems"])) == (False, 2)


def test_check_json_of_a_good_file_is_its_spec(sweepd: Sweepd) -> None:
    found = json.loads(sweepd("check", "study.yaml", "--json").stdout)
    assert found["valid"]
    assert found["spec"]["budget"] == {"trials": 12}


def test_check_prints_the_schema_for_editors(sweepd: Sweepd) -> None:
    schema = json.loads(sweepd("check", "--schema").stdout)
    assert schema["title"] == "sweepd study"
    assert set(schema["required"]) >= {"name", "task"}


# --- errors and exit codes --------------------------------------------------------------------

USAGE_ERRORS: list[tuple[list[str], str]] = [
    (["check"], "name a study file"),
    (["check", "nowhere.yaml"], "nowhere.yaml"),
    (["submit", "nowhere.yaml"], "nowhere.yaml"),
    (["run"], "name a study file, or an --objective"),
    (["run", "train.py"], "--objective train.py:FUNCTION"),
    (["run", "study.yaml", "--objective", "train.py:f"], "not both"),
    (["run", "study.yaml", "--trials", "3"], "--trials goes with --objective"),
    (["run", "study.yaml", "--direction", "maximize"], "--direction goes with --objective"),
    (["run", "--objective", "train.py:f", "--trials", "3"], "also needs --direction"),
    (["run", "--objective", "train.py:f", "--direction", "maximize"], "also needs --trials N"),
    (["run", "--objective", "train.py", "--direction", "up", "--trials", "3"], "task.objective"),
    (["run", "study.yaml", "--slots", "0"], "--slots"),
    (["ls", "--state", "nowhere"], "holds no studies"),
    (["ls", "--redis", "localhost"], "redis://HOST:PORT/DB"),
    (["frobnicate"], "frobnicate"),
    (["show"], "STUDY"),
]


@pytest.mark.parametrize(("words", "told"), USAGE_ERRORS)
def test_usage_errors_exit_with_2_and_name_the_remedy(sweepd: Sweepd, words: list[str], told: str) -> None:
    result = sweepd(*words)
    assert result.exit_code == 2, result.output
    assert told in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_an_unknown_study_exits_with_2_and_names_the_nearest(
    sweepd: Sweepd, server: RedisServer, digits: StudyRecord
) -> None:
    for words in (["show", "digist"], ["trials", "digist"], ["why", "digist", "0"], ["cancel", "digist"]):
        result = sweepd(*words, "--redis", server.url)
        assert result.exit_code == 2
        assert "did you mean 'digits'?" in result.stderr


def test_what_the_coordinator_refuses_exits_with_2(
    sweepd: Sweepd, server: RedisServer, scripted: Scripted
) -> None:
    scripted.answer = lambda asked: Reply(asked.request_id, error="exists with another definition")
    result = sweepd("submit", "study.yaml", "--redis", server.url)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "exists with another definition" in result.stderr


@pytest.mark.parametrize(
    "words", [["ls"], ["show", "x"], ["submit", "study.yaml"], ["watch", "x"], ["cancel", "x"]]
)
def test_a_store_that_cannot_be_reached_exits_with_3(sweepd: Sweepd, words: list[str]) -> None:
    result = sweepd(*words, "--redis", f"redis://127.0.0.1:{free_port()}/0")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "no store answers at" in result.stderr


def test_no_store_anywhere_names_both_places(
    sweepd: Sweepd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sweepd.cli.connect.DEFAULT_URL", f"redis://127.0.0.1:{free_port()}/0")
    result = sweepd("ls")
    assert result.exit_code == 3
    told = " ".join(result.stderr.split())
    assert f"no store runs in {tmp_path / '.sweepd'} and none answers at redis://127.0.0.1" in told
    assert "sweepd up" in told
    (tmp_path / ".sweepd/store/appendonlydir").mkdir(parents=True)
    result = sweepd("watch", "digits")
    assert result.exit_code == 3
    assert "`show` and `trials` read what is at rest there" in " ".join(result.stderr.split())
    result = sweepd("submit", "study.yaml", "--state", "elsewhere")
    assert result.exit_code == 3
    assert "sweepd up --state elsewhere" in " ".join(result.stderr.split())


def test_a_reader_of_a_directory_that_rests_starts_its_store_for_the_moment(sweepd: Sweepd) -> None:
    directory = StateDirectory.at(".sweepd")
    directory.create()
    with EmbeddedStore(directory, Purpose.RUN) as store:
        script = Scripted(_Embedded(store.url))
        script.put(study_record(), [trial_record(0)])
        script.redis.close()
    result = sweepd("trials", "digits")
    assert result.exit_code == 0, result.output
    assert "complete" in result.stdout
    assert running_store(directory) is None


class _Embedded(RedisServer):
    """What `Scripted` needs of a server, for a store that is there already."""

    def __init__(self, url: str) -> None:
        self._url = url

    def client(self) -> Any:
        import redis

        return redis.Redis.from_url(self._url)


# --- the rest ---------------------------------------------------------------------------------


def test_version_and_help(sweepd: Sweepd) -> None:
    assert sweepd("--version").stdout == f"sweepd {__version__}\n"
    out = sweepd("--help").stdout
    for name in [
        "run",
        "try",
        "up",
        "coordinator",
        "agent",
        "submit",
        "ls",
        "show",
        "trials",
        "watch",
        "best",
        "logs",
        "why",
        "cancel",
        "check",
    ]:
        assert f" {name} " in out


@pytest.mark.parametrize(
    ("name", "module"), [("coordinator", "sweepd_coordinator"), ("agent", "sweepd_agent")]
)
def test_the_daemons_take_their_own_options(name: str, module: str) -> None:
    own = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True)
    ours = subprocess.run(
        [sys.executable, "-m", "sweepd", name, "--help"], capture_output=True, text=True, check=True
    )
    assert ours.stdout == own.stdout


def test_a_daemon_that_is_not_installed_is_named_with_the_remedy(
    sweepd: Sweepd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweepd.cli.service.importlib.util.find_spec", lambda _: None)  # pyright: ignore
    for words in (["coordinator"], ["agent"], ["run", "study.yaml"]):
        result = sweepd(*words)
        assert result.exit_code == 2
        assert "pip install sweepd-" in result.stderr


def test_nothing_of_ours_is_a_traceback_for_a_reader_that_goes_away(
    server: RedisServer, digits: StudyRecord
) -> None:
    command = [sys.executable, "-m", "sweepd", "trials", "digits", "--redis", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reading:
        assert reading.stdout is not None
        assert reading.stderr is not None
        reading.stdout.close()
        assert "Traceback" not in reading.stderr.read()


def test_ctrl_c_leaves_a_watched_study_alone(
    server: RedisServer, scripted: Scripted, digits: StudyRecord
) -> None:
    command = [sys.executable, "-m", "sweepd", "watch", "digits", "--redis", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watching:
        wait_until_followed(scripted)
        os.kill(watching.pid, signal.SIGINT)
        _, err = watching.communicate(timeout=20)
    assert watching.returncode == 130
    assert "Traceback" not in err
    assert scripted.requests == []
