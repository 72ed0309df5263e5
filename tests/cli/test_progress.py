"""The picture of a study on a terminal, and the lines elsewhere."""

from __future__ import annotations

import io
import math
import re
import sys
import time
from pathlib import Path

import pytest
from cli.scripted import AT, SPEC, Scripted, attempt_record, study_record, trial_record
from rich.console import Console
from servers import RedisServer

from sweepd import explain
from sweepd.cli import screen
from sweepd.cli.progress import LINES, LineView, LiveView, NoView, sparkline, watching
from sweepd.cli.summary import exit_code, one_line, print_failure, print_hints, print_result
from sweepd.cli.tables import trial_table
from sweepd.client import Client
from sweepd.follow import Follower
from sweepd.records import AttemptRecord, BestRecord, CurvePoint, TrialRecord
from sweepd.results import ObjectiveFacts, StudyFacts
from sweepd.states import AttemptOutcome, StudyState, TrialState

BEST = BestRecord(0, {"accuracy": 0.75}, {"lr": 0.1, "kind": "[adam]"})


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def terminal(height: int = 20) -> Console:
    return Console(
        file=Stream(True), force_terminal=True, width=100, height=height, color_system=None, highlight=False
    )


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def picture(console: Console) -> list[str]:
    """Return the lines that were drawn, without the codes that move the cursor."""
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written(console)).replace("\r", "\n")
    return [" ".join(line.split()) for line in plain.splitlines()]


def running(number: int) -> TrialRecord:
    began = attempt_record(started_at=time.time() - 65)
    return trial_record(number, TrialState.RUNNING, params={"lr": 0.1}, attempts=[began])


def ended(number: int, state: TrialState = TrialState.COMPLETE, value: float = 0.5) -> TrialRecord:
    attempt = attempt_record(ended_at=AT + 3, outcome=AttemptOutcome.FINISHED)
    values = None if state is TrialState.FAILED else {"accuracy": value}
    return trial_record(
        number, state, attempts=[attempt], values=values, reports=3, reason="crashed: [no]", ended_at=AT + 3
    )


# --- the picture ------------------------------------------------------------------------------


def test_the_picture_has_budget_counts_best_and_a_line_per_running_trial(
    server: RedisServer, scripted: Scripted
) -> None:
    points = [CurvePoint(1, step, {"accuracy": step / 10}) for step in range(1, 6)]
    record = study_record(counts={"complete": 1, "running": 2, "waiting": 1}, best=BEST)
    scripted.put(record, [ended(0), running(1), running(2)], points={1: points})
    console = terminal()
    with Client(server.url) as client, LiveView(console) as view:
        view.status("starting")
        view.show(Follower(client, "digits-1"), [])
    lines = picture(console)
    assert any(line.startswith("digits running · 0:00") for line in lines)
    assert any(line.endswith("1/4 trials") for line in lines)
    assert "1 waiting · 2 running · 1 complete" in lines
    assert "best accuracy 0.75 trial 0 lr=0.1 kind=[adam]" in lines
    assert "trial step accuracy took parameters" in lines
    assert "1 5 0.5000 ▁▃▄▆█ 1:05 lr=0.1" in lines
    assert "2 1:05 lr=0.1" in lines


def test_more_running_trials_than_lines_are_counted(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(counts={"running": 30}), [running(n) for n in range(30)])
    console = terminal(height=18)
    with Client(server.url) as client, LiveView(console) as view:
        view.show(Follower(client, "digits-1"), [])
    assert "… and 20 more" in picture(console)
    assert len({line for line in picture(console) if line.endswith("lr=0.1")}) == 10


def test_failures_are_told_above_the_picture_but_not_for_ever(
    server: RedisServer, scripted: Scripted
) -> None:
    scripted.put(study_record())
    console = terminal()
    with Client(server.url) as client, LiveView(console) as view:
        follower = Follower(client, "digits-1")
        view.show(follower, [])
        view.show(follower, [ended(n, TrialState.FAILED) for n in range(9)])
    assert written(console).count("failed: crashed: [no]") == 5
    assert "trial 4 failed: crashed: [no]" in written(console)


def test_what_is_left_is_told_after_a_few_ends(server: RedisServer, scripted: Scripted) -> None:
    spec = {**SPEC, "budget": {"trials": 100}}
    scripted.put(study_record(counts={"complete": 1}), spec=spec)
    console = terminal()
    with Client(server.url) as client, LiveView(console) as view:
        follower = Follower(client, "digits-1")
        view.show(follower, [])
        assert "left" not in written(console)
        scripted.put(study_record(counts={"complete": 11}), [ended(0)], spec=spec)
        follower.update(1.0)
        view.show(follower, [])
    assert "11/100 trials · about 0:" in written(console)


@pytest.mark.parametrize(
    ("values", "bars"),
    [
        ([], ""),
        ([1.0], "▁"),
        ([0.0, 0.5, 1.0], "▁▅█"),
        ([2.0, 2.0], "▁▁"),
        ([math.nan, 1.0, math.inf, 3.0], " ▁ █"),
        ([math.nan], ""),
    ],
)
def test_sparklines_leave_out_what_is_no_number(values: list[float], bars: str) -> None:
    assert sparkline(values) == bars


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.94, "0.9400"), (12.5, "12.5000"), (0.0, "0.0000"), (1e-5, "1.000e-05"), (2e4, "2.000e+04")],
)
def test_values_keep_their_width_while_they_change(value: float, text: str) -> None:
    assert explain.steady(value) == text


# --- the lines --------------------------------------------------------------------------------


def test_a_small_study_has_a_line_per_end(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record())
    console = Console(file=Stream(False), width=1000)
    with Client(server.url) as client, LineView(console) as view:
        follower = Follower(client, "digits-1")
        view.show(follower, [ended(9)])  # there before we were
        follower.record.best = BEST
        view.show(follower, [ended(0), running(5), ended(1, TrialState.FAILED), ended(2, TrialState.PRUNED)])
        view.show(follower, [ended(0), ended(3)])
    assert written(console).splitlines() == [
        "trial 0 complete: accuracy 0.5 (3 reports, 2.0 s), the best so far",
        "trial 1 failed: crashed: [no] (3 reports, 2.0 s)",
        "trial 2 pruned: accuracy 0.5 (3 reports, 2.0 s)",
        "trial 3 complete: accuracy 0.5 (3 reports, 2.0 s)",
    ]


def test_a_large_study_has_a_bounded_number_of_lines(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record(), spec={**SPEC, "budget": {"trials": 5000}})
    console = Console(file=Stream(False), width=1000)
    with Client(server.url) as client, LineView(console) as view:
        follower = Follower(client, "digits-1")
        view.show(follower, [])
        for number in range(5000):
            state = TrialState.FAILED if number % 3 == 0 else TrialState.COMPLETE
            follower.record.counts = {"complete": number + 1}
            view.show(follower, [ended(number, state)])
    lines = written(console).splitlines()
    assert len(lines) == LINES + 5
    assert lines[-1] == "5000/5000 trials"


def test_quiet_says_only_what_must_be_known(server: RedisServer, scripted: Scripted) -> None:
    scripted.put(study_record())
    console = Console(file=Stream(False))
    with Client(server.url) as client, NoView(console) as view:
        view.status("starting")
        view.show(Follower(client, "digits-1"), [ended(0)])
        view.note("the agent ended")
    assert written(console) == "the agent ended\n"


def test_only_a_terminal_gets_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI systems do
    monkeypatch.setenv("TERM", "xterm")
    assert type(watching(Console(file=Stream(False)))) is LineView
    assert type(watching(Console(file=Stream(True)))) is LiveView
    assert type(watching(Console(file=Stream(True)), quiet=True)) is NoView
    monkeypatch.setenv("TERM", "dumb")
    assert type(watching(Console(file=Stream(True)))) is LineView


# --- the end ----------------------------------------------------------------------------------


def test_the_result_lists_the_ten_best_and_the_parameters(
    server: RedisServer, scripted: Scripted, capsys: pytest.CaptureFixture[str]
) -> None:
    record = study_record(state=StudyState.DONE, counts={"complete": 12}, best=BEST)
    scripted.put(record, [ended(number, value=number / 100) for number in range(12)])
    with Client(server.url) as client:
        print_result(Follower(client, "digits-1"))
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == "digits is done: 12 complete"
    assert [line.split()[0] for line in lines[3:13]] == [str(number) for number in range(11, 1, -1)]
    assert lines[-4:] == ["best trial 0", "accuracy 0.75", "lr 0.1", "kind [adam]"]


def test_hints_are_commands_that_can_be_copied(capsys: pytest.CaptureFixture[str], tmp_path: object) -> None:
    record = study_record(state=StudyState.PAUSED, best=BEST)
    print_hints(record, Path("/x/logs"), ["--state", "my state"], ["sweepd", "run", "my study.yaml"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[1:] == [
        "every trial sweepd trials digits --state 'my state'",
        "the output of the best sweepd logs digits 0 --state 'my state'",
        "logs of sweepd itself /x/logs",
        "go on sweepd run 'my study.yaml'",
    ]


def test_a_study_without_a_best_trial_is_begun_anew(capsys: pytest.CaptureFixture[str]) -> None:
    record = study_record(state=StudyState.DONE)
    print_hints(record, Path("/x/logs"), ["--redis", "redis://far"], ["sweepd", "run", "study.yaml"])
    lines = [" ".join(line.split()) for line in capsys.readouterr().err.splitlines()]
    assert lines[1:] == [
        "every trial sweepd trials digits --redis redis://far",
        "how a trial ended sweepd why digits 0 --redis redis://far",
        "logs of sweepd itself /x/logs",
        "begin anew, when mended sweepd run study.yaml --new",
    ]


def test_a_long_command_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = Console(width=40, highlight=False)
    monkeypatch.setattr(screen, "stderr", lambda: narrow)
    command = ["sweepd", "run", "a/long/way/to/the/file/of/the/study.yaml"]
    print_hints(study_record(state=StudyState.PAUSED), Path("/x/logs"), [], command)
    assert " ".join(command) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("called", "on_path", "program"),
    [
        ("venv/bin/sweepd", True, ["sweepd"]),
        ("venv/bin/sweepd", False, ["venv/bin/sweepd"]),
        ("site-packages/sweepd/__main__.py", True, [sys.executable, "-m", "sweepd"]),
        ("bin/pytest", False, ["sweepd"]),
    ],
)
def test_the_program_is_named_as_it_can_be_typed(
    called: str, on_path: bool, program: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("venv/bin", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    script = tmp_path / "venv/bin/sweepd"
    script.touch(mode=0o700)
    monkeypatch.setenv("PATH", str(tmp_path / ("venv/bin" if on_path else "empty")))
    monkeypatch.setattr(sys, "argv", [called, "run"])
    assert screen.program() == program


@pytest.mark.parametrize("reasons", [True, False])
def test_a_narrow_terminal_cuts_parameters_and_no_number(
    reasons: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    console = Console(file=Stream(True), width=76, color_system=None, highlight=False)
    monkeypatch.setattr(screen, "stdout", lambda: console)
    record = ended(7, value=0.123456)
    for number in range(9):
        record.params[f"parameter_{number}"] = 0.5
    facts = StudyFacts([ObjectiveFacts("accuracy", "maximize")])
    console.print(trial_table([record], facts, reasons=reasons))
    head, row = written(console).splitlines()
    wanted = ["trial", "state", "accuracy", "reports", "step", "took", "parameters"]
    assert head.split() == [*wanted, *(["reason"] if reasons else [])]
    assert row.split()[:3] == ["7", "complete", "0.123456"]
    assert "…" in row
    assert len(row) <= 76


def test_a_failure_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    record = study_record(state=StudyState.PAUSED, reason="three failed [alike]", failure="a\n  [b]\n")
    print_failure(record)
    assert capsys.readouterr().err == "the study is paused: three failed [alike]\n\n  a\n    [b]\n\n"


ENDS = [
    (StudyState.DONE, BEST, 0, "digits is done: accuracy 0.75 (trial 0)"),
    (StudyState.DONE, None, 1, "digits is done: no trial is complete"),
    (StudyState.PAUSED, BEST, 1, "digits is paused: accuracy 0.75 (trial 0)"),
    (StudyState.CANCELLED, None, 1, "digits is cancelled: no trial is complete"),
    (StudyState.FAILED, None, 1, "digits is failed: no trial is complete"),
]


@pytest.mark.parametrize(("state", "best", "code", "line"), ENDS)
def test_only_a_study_that_is_done_and_has_a_best_is_fine(
    state: StudyState, best: BestRecord | None, code: int, line: str
) -> None:
    record = study_record(state=state, best=best)
    assert (exit_code(record), one_line(record)) == (code, line)


def test_every_state_has_a_color() -> None:
    names = {state.value for state in TrialState} | {state.value for state in StudyState}
    assert names == set(screen.COLORS)


def test_a_trial_that_never_started_has_a_line_without_times() -> None:
    from sweepd.cli.progress import end_line
    from sweepd.results import ObjectiveFacts, StudyFacts

    never = AttemptRecord(1, "a", "h", "t", AT)
    cancelled = trial_record(3, TrialState.CANCELLED, attempts=[never], reason="enough")
    assert end_line(cancelled, StudyFacts([ObjectiveFacts("a", "minimize")])) == "trial 3 cancelled: enough"
