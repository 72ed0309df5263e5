"""`run`, `try` and `up` as people use them: real daemons, real jobs, real signals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import RedisServer
from waiting import wait_until

from sweepd import processes

SWEEPD = str(Path(sys.executable).parent / "sweepd")
PATIENCE_S = 90.0

STUDY = """\
name: small
task: {{objective: train.py:{function}}}
objectives: [{{metric: loss, direction: minimize}}]
space:
  x: {{type: float, low: 0, high: 1}}
sampler: {{type: random, seed: 1}}
budget: {{trials: {trials}}}
executor: {{type: process}}
"""

TRAIN = """\
import signal, subprocess, sys, time
from pathlib import Path

import optuna

def quick(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.report(x, 1)
    print("x is", x)
    return x

def free(trial):
    return trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 1, 3)

def broken(trial):
    print("about to fail")
    raise ValueError("no such [file]: data.csv")

def pruned(trial):
    raise optuna.TrialPruned

def waits(trial):
    Path(f"began-{trial.number}").touch()
    while not Path("finish").exists():
        time.sleep(0.02)
    return trial.suggest_float("x", 0, 1)

def stubborn(trial):
    if Path("finish").exists():
        return trial.suggest_float("x", 0, 1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
    return waits(trial)
"""


class Place:
    """A directory with a study file; `sweepd` runs in it."""

    first: subprocess.CompletedProcess[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "train.py").write_text(TRAIN)

    def study(self, function: str, trials: int = 4) -> str:
        """Write a study file and return its name."""
        (self.path / "study.yaml").write_text(STUDY.format(function=function, trials=trials))
        return "study.yaml"

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [SWEEPD, *words],
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *words: str) -> Any:
        """Return what a command prints as JSON."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *words: str) -> Generator[subprocess.Popen[str]]:
        """Run a command for as long as the block lasts."""
        command = subprocess.Popen(
            [SWEEPD, *words],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with command:
            try:
                yield command
            finally:
                if command.poll() is None:
                    end_at_once(command)

    def began(self, count: int) -> Callable[[], bool]:
        """Return the condition that so many jobs began."""
        return lambda: len(list(self.path.glob("began-*"))) >= count

    def finish(self) -> None:
        """Let the jobs that wait end."""
        (self.path / "finish").touch()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def part(command: subprocess.Popen[str], module: str) -> processes.Process:
    """Return the daemon *module* among the processes of a command, once it is there."""

    def look() -> processes.Process | None:
        for process in processes.descendants(command.pid):
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            if words[2:4] == [b"-m", module.encode()]:
                return process
        return None

    found = wait_until(look, PATIENCE_S)
    assert found is not None
    return found


def end_at_once(command: subprocess.Popen[str]) -> None:
    """End a command that a failed test left running, with all that it started."""
    for _ in range(2):
        command.terminate()
        try:
            command.wait(timeout=1)
        except subprocess.TimeoutExpired:
            pass
    if command.poll() is None:
        command.kill()


def gone(before: list[processes.Process]) -> Callable[[], bool]:
    return lambda: not any(map(processes.is_alive, before))


# --- to the end -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A place where `run` ran a study of four trials to its end; `first` is what it printed."""
    place = Place(tmp_path_factory.mktemp("finished"))
    place.first = place("run", place.study("quick"), "--slots", "2")
    return place


def test_a_study_runs_from_its_file_to_its_result(finished: Place) -> None:
    done = finished.first
    assert done.returncode == 0, done.stderr
    assert "small is done: 4 complete" in done.stdout
    assert "best trial" in done.stdout
    ends = [line for line in done.stderr.splitlines() if line.startswith("trial ")]
    assert len(ends) == 4
    assert all(": loss 0." in line for line in ends)
    state = finished.path / ".sweepd"
    assert str(state / "logs") in done.stderr
    assert (state / ".gitignore").read_text() == "*\n"
    assert {log.name for log in (state / "logs").iterdir()} == {"agent.log", "coordinator.log", "store.log"}


def test_what_was_run_can_be_read_when_nothing_runs_any_more(finished: Place) -> None:
    shown = finished.json("show", "small")
    assert (shown["state"], shown["counts"]["complete"]) == ("done", 4)
    assert shown["budget"] == {"trials": {"limit": 4, "used": 4}}
    trials = finished.json("trials", "small", "--reports")
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    best = min(trials, key=lambda trial: trial["values"]["loss"])
    assert shown["best"] == [{name: best[name] for name in ("number", "values", "params")}]
    assert trials[0]["curve"] == [[1, {"loss": trials[0]["params"]["x"]}]]
    assert finished("logs", "small", "1").stdout == f"x is {trials[1]['params']['x']}\n"
    assert finished("why", "small", "0").stdout.startswith("Trial 0 of small is complete")


def test_a_study_that_is_done_prints_its_result_again(finished: Place) -> None:
    again = finished("run", "study.yaml", "--slots", "2", "--json", "--quiet")
    assert (again.returncode, again.stderr) == (0, "")
    assert json.loads(again.stdout) == finished.json("show", "small")
    assert "small is done already; --new runs another one" in finished("run", "study.yaml").stderr


def test_quiet_prints_one_line(finished: Place) -> None:
    again = finished("run", "study.yaml", "--slots", "2", "--quiet")
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("small is done: loss 0.")
    assert again.stdout.count("\n") == 1


def test_new_makes_another_study_of_the_name(place: Place) -> None:
    file = place.study("quick", 1)
    first, second = (json.loads(place("run", file, "--new", "--json").stdout) for _ in range(2))
    assert first["id"] != second["id"]
    assert set(first) == SHOWN
    assert [study["id"] for study in place.json("ls")] == [first["id"], second["id"]]


SHOWN = {
    "id",
    "name",
    "state",
    "objectives",
    "counts",
    "best",
    "budget",
    "created_at",
    "finished_at",
}


def test_an_objective_needs_no_file(place: Place) -> None:
    words = ["--objective", "train.py:free", "--direction", "minimize", "--trials", "3", "--name", "mine"]
    done = place("run", *words, "--executor", "process", "--slots", "2")
    assert done.returncode == 0, done.stderr
    assert "mine is done: 3 complete" in done.stdout
    assert all(set(trial["params"]) == {"x", "n"} for trial in place.json("trials", "mine"))


def test_a_redis_of_ones_own_is_used_when_asked_for(place: Place, server: RedisServer) -> None:
    done = place("run", place.study("quick", 1), "--slots", "1", "--redis", server.url)
    assert done.returncode == 0, done.stderr
    assert not (place.path / ".sweepd" / "store").exists()
    assert place.json("show", "small", "--redis", server.url)["state"] == "done"


def test_modules_that_lie_in_the_directory_are_not_taken_for_ours(place: Place) -> None:
    for name in ("anyio", "prometheus_client"):
        (place.path / f"{name}.py").write_text("raise RuntimeError('not yours')\n")
    (place.path / "train.py").write_text("def quick(trial): return trial.suggest_float('x', 0, 1)\n")
    done = place("run", place.study("quick", 1), "--slots", "1")
    assert done.returncode == 0, done.stderr


# --- trials that fail -------------------------------------------------------------------------


def test_when_the_first_three_fail_alike_the_traceback_is_shown_and_how_to_go_on(place: Place) -> None:
    file = place.study("broken", 9)
    done = place("run", file, "--slots", "1")
    assert done.returncode == 1
    assert "the study is paused: " in done.stderr
    assert ", in broken" in done.stderr
    assert "ValueError: no such [file]: data.csv" in done.stderr
    assert f"sweepd run {file} --slots 1" in done.stderr
    assert place.json("show", "small")["state"] == "paused"
    assert "ValueError" in place("why", "small", "0").stdout
    # Mended, the same command goes on.
    mended = TRAIN.replace("def broken", "def unused").replace("def quick", "def broken")
    (place.path / "train.py").write_text(mended)
    done = place("run", file, "--slots", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["complete"] >= 5


def test_a_study_whose_few_trials_all_failed_shows_the_traceback_and_begins_anew(place: Place) -> None:
    file = place.study("broken", 3)
    for _ in range(2):  # the second time it is done already
        done = place("run", file, "--slots", "1")
        assert done.returncode == 1
        assert "small is done: 3 failed" in done.stdout
        assert ", in broken" in done.stderr
        assert f"sweepd run {file} --slots 1 --new" in done.stderr


def test_a_study_without_a_complete_trial_failed(place: Place) -> None:
    done = place("run", place.study("pruned", 2), "--slots", "2")
    assert done.returncode == 1
    assert "small is done: 2 pruned" in done.stdout


def test_a_study_too_large_for_the_machine_is_refused_in_words(place: Place) -> None:
    file = place.study("quick")
    with (place.path / file).open("a") as text:
        text.write("resources: {labels: {pool: a100}}\n")
    done = place("run", file)
    assert done.returncode == 2
    assert "can start: each wants the label pool=a100" in done.stderr
    assert "change resources" in done.stderr


# --- signals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_once_pauses_says_how_to_go_on_and_the_same_command_does(
    place: Place, number: signal.Signals, code: int
) -> None:
    words = ["run", place.study("waits", 3), "--slots", "2"]
    with place.running(*words) as run:
        wait_until(place.began(2), PATIENCE_S)
        run.send_signal(number)
        out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == code, err
    assert "small is paused" in out
    assert "sweepd run study.yaml --slots 2" in err
    trials = place.json("trials", "small")
    assert [trial["attempts"][0]["outcome"] for trial in trials[:2]] == ["preempted", "preempted"]
    assert {trial["state"] for trial in trials} == {"waiting"}
    place.finish()
    done = place(*words)
    assert done.returncode == 0, done.stderr
    assert "going on with small" in done.stderr
    counts = place.json("show", "small")["counts"]
    assert counts["complete"] == 3
    assert sum(counts.values()) == 3


def test_twice_is_out_at_once_with_nothing_left_running(place: Place) -> None:
    file = place.study("stubborn", 2)
    with place.running("run", file, "--slots", "2") as run:
        wait_until(place.began(2), PATIENCE_S)
        everything = processes.descendants(run.pid)
        assert len(everything) >= 3 + 2 * 3  # store, daemons; supervisor, job and its deaf child
        run.send_signal(signal.SIGINT)
        assert run.stderr is not None
        line = next(line for line in run.stderr if line.startswith("pausing"))
        assert "Ctrl-C again" in line
        run.send_signal(signal.SIGINT)
        run.wait(timeout=5)  # a stubborn job has ten seconds after a polite request
        _, err = run.communicate()
    assert run.returncode == 130
    assert "stopped at once" in err
    assert gone(everything)()
    place.finish()
    done = place("run", file, "--slots", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["complete"] == 2


def test_a_run_that_is_killed_takes_everything_with_it(place: Place) -> None:
    file = place.study("waits", 2)
    with place.running("run", file, "--slots", "2") as run:
        wait_until(place.began(2), PATIENCE_S)
        everything = processes.descendants(run.pid)
        run.kill()
        wait_until(gone(everything), 40)
    place.finish()
    done = place("run", file, "--slots", "2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["complete"] == 2


def test_a_terminal_that_goes_away_counts_as_ctrl_c(place: Place) -> None:
    master, slave = pty.openpty()
    with subprocess.Popen(
        [SWEEPD, "run", place.study("waits", 2), "--slots", "2"],
        cwd=place.path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
    ) as run:
        os.close(slave)
        wait_until(place.began(2), PATIENCE_S)
        picture = os.read(master, 65_536).decode(errors="replace")
        assert "small" in picture
        os.close(master)
        run.send_signal(signal.SIGHUP)
        assert run.wait(timeout=PATIENCE_S) == 128 + signal.SIGHUP
    assert place.json("show", "small")["state"] == "paused"


def test_a_reader_that_goes_away_counts_as_ctrl_c(place: Place) -> None:
    with place.running("run", place.study("waits", 9), "--slots", "1") as run:
        wait_until(place.began(1), PATIENCE_S)
        assert run.stderr is not None
        run.stderr.close()
        place.finish()
        assert run.wait(timeout=PATIENCE_S) == 128 + signal.SIGHUP
    assert place.json("show", "small")["state"] == "paused"


def test_under_nohup_a_terminal_that_goes_away_changes_nothing(place: Place) -> None:
    command = ["nohup", SWEEPD, "run", place.study("waits", 2), "--slots", "2", "--quiet"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=place.path, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as run:
        wait_until(place.began(2), PATIENCE_S)
        run.send_signal(signal.SIGHUP)
        place.finish()
        out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    assert out.startswith("small is done")


# --- parts that die ---------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["sweepd_coordinator", "sweepd_agent"])
def test_a_daemon_that_is_killed_is_started_again(place: Place, module: str) -> None:
    with place.running("run", place.study("waits", 3), "--slots", "2", "--json") as run:
        wait_until(place.began(2), PATIENCE_S)
        processes.signal_process(part(run, module), signal.SIGKILL)
        assert run.stderr is not None
        name = module.removeprefix("sweepd_")
        next(line for line in run.stderr if line.startswith(f"the {name} ended (killed by signal 9)"))
        place.finish()
        out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    assert json.loads(out)["counts"]["complete"] == 3


def test_the_store_too(place: Place) -> None:
    with place.running("run", place.study("waits", 3), "--slots", "2", "--json") as run:
        wait_until(place.began(2), PATIENCE_S)
        record = json.loads((place.path / ".sweepd" / "store.json").read_text())
        os.kill(record["pid"], signal.SIGKILL)
        assert run.stderr is not None
        next(line for line in run.stderr if line.startswith("the embedded store ended"))
        place.finish()
        out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    assert json.loads(out)["counts"]["complete"] == 3


def test_a_daemon_that_cannot_start_ends_the_run_with_its_last_words(place: Place) -> None:
    environment = {**os.environ, "SWEEPD_LEASE_TTL": "soon"}
    done = subprocess.run(
        [SWEEPD, "run", place.study("quick")],
        cwd=place.path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 1
    assert "the coordinator ended (exit 2)" in done.stderr
    assert "SWEEPD_LEASE_TTL" in done.stderr
    assert "coordinator.log" in done.stderr


def test_a_second_run_in_the_same_directory_is_refused(place: Place) -> None:
    file = place.study("waits", 1)
    with place.running("run", file, "--slots", "1") as run:
        wait_until(place.began(1), PATIENCE_S)
        second = place("run", file, "--slots", "1")
        assert second.returncode == 2
        assert f"process {run.pid} (sweepd run)" in second.stderr
        # Reading is fine: the store is there.
        assert place.json("show", "small")["counts"]["running"] == 1
        place.finish()
        assert run.wait(timeout=PATIENCE_S) == 0


# --- try and up -------------------------------------------------------------------------------


def test_try_runs_one_trial_with_its_output_on_the_screen_and_keeps_nothing(place: Place) -> None:
    file = place.study("quick", 50)
    done = place("try", file)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("x is 0.")
    assert "trial 0 complete: loss 0." in done.stderr
    assert not (place.path / ".sweepd").exists()
    asked = place("try", file, "--json")
    trial = json.loads(asked.stdout)  # nothing else: what the job prints is on stderr then
    assert (trial["number"], trial["state"]) == (0, "complete")
    assert "x is 0." in asked.stderr


def test_try_of_a_job_that_fails_shows_its_traceback_and_exits_with_1(place: Place) -> None:
    done = place("try", place.study("broken"))
    assert done.returncode == 1
    assert "about to fail" in done.stdout
    assert "ValueError: no such [file]: data.csv" in done.stdout
    assert "trial 0 failed: crashed: ValueError" in done.stderr


def test_ctrl_c_ends_a_try(place: Place) -> None:
    with place.running("try", place.study("waits")) as trying:
        wait_until(place.began(1), PATIENCE_S)
        trying.send_signal(signal.SIGINT)
        assert trying.wait(timeout=PATIENCE_S) == 130


def test_up_serves_what_another_terminal_submits(place: Place) -> None:
    file = place.study("waits", 2)
    with place.running("up", "--slots", "2") as up:
        assert up.stderr is not None
        next(line for line in up.stderr if line.startswith("submit a study"))
        submitted = place.json("submit", file)
        assert (submitted["name"], submitted["created"]) == ("small", True)
        wait_until(place.began(2), PATIENCE_S)
        refused = place("run", file)
        assert refused.returncode == 2
        assert "sweepd submit FILE" in refused.stderr
        place.finish()
        watched = place("watch", "small")
        assert "small is done: 2 complete" in watched.stdout
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=PATIENCE_S) == 0


def test_a_study_that_rests_can_be_cancelled(place: Place) -> None:
    place("run", place.study("broken", 9), "--slots", "2")
    done = place("cancel", "small")
    assert done.returncode == 0, done.stderr
    assert "is cancelled" in done.stdout
    assert place.json("show", "small")["state"] == "cancelled"
    again = place("run", "study.yaml")
    assert again.returncode == 2
    assert "--new" in again.stderr
