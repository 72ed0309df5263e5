"""Jobs that misbehave: each trial gets the right end and reason, nothing of it stays, the study goes on."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from servers import DURABLE, valkey
from waiting import wait_until

from integration.fleet import Fleet, fleet
from sweepd.records import TrialRecord
from sweepd.states import AttemptOutcome, FailureClass, StudyState, TrialState

#: What each trial does, by the value of its parameter.
TRAIN = """
import os, signal, subprocess, sys, time
import sweepd

how = sweepd.params()["how"]
sweepd.report({"score": 0.5}, step=1)

if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif how == "raises":
    raise KeyError("no such thing")
elif how == "megabyte":
    sys.stdout.write("x" * 1_000_000)
    sys.stdout.flush()
    sys.exit(3)
elif how == "stubborn children":
    deaf = "import signal, time; signal.signal(15, signal.SIG_IGN); print('!', flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    child.stdout.readline()
    daemon = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True)
    daemon.stdout.readline()
elif how == "nan":
    sweepd.report({"score": float("nan")}, step=2)
elif how == "silent":
    pass
"""

HOWS = ["well", "killed", "raises", "megabyte", "stubborn children", "nan"]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Fleet, dict[str, TrialRecord]]]:
    """One study that meets every kind of bad job, on an agent of two slots."""
    home = tmp_path_factory.mktemp("bad")
    (home / "train.py").write_text(TRAIN)
    options = ["--kill-grace", "0.5"]
    with valkey(DURABLE) as server, fleet(server, home, slots=2, options=options) as it:
        study = it.submit(
            {
                "name": "bad",
                "task": {"command": ["python3", "train.py"]},
                "objectives": [{"metric": "score", "direction": "maximize"}],
                "space": {"how": {"type": "categorical", "choices": HOWS}},
                "sampler": {"type": "random", "seed": 5},
                "budget": {"trials": 24},
                "executor": {"type": "process"},
            },
            home,
        )
        record = it.wait_ended(study)
        assert record.state is StudyState.DONE, it.told()
        found = {trial.params["how"]: trial for trial in it.trials(study).values()}
        assert set(found) == set(HOWS), "the seed must draw every kind"
        yield it, found


@pytest.mark.parametrize(
    ("how", "state", "outcome", "failure", "words"),
    [
        ("well", TrialState.COMPLETE, AttemptOutcome.FINISHED, None, "own end"),
        ("killed", TrialState.FAILED, AttemptOutcome.FAILED, FailureClass.CRASHED, "signal 9 (SIGKILL)"),
        (
            "raises",
            TrialState.FAILED,
            AttemptOutcome.FAILED,
            FailureClass.CRASHED,
            "KeyError: 'no such thing'",
        ),
        ("megabyte", TrialState.FAILED, AttemptOutcome.FAILED, FailureClass.CRASHED, "xxx"),
        ("stubborn children", TrialState.COMPLETE, AttemptOutcome.FINISHED, None, "own end"),
        ("nan", TrialState.FAILED, AttemptOutcome.FAILED, FailureClass.DIVERGED, "score is NaN"),
    ],
)
def test_the_end_and_its_reason(
    trials: tuple[Fleet, dict[str, TrialRecord]],
    how: str,
    state: TrialState,
    outcome: AttemptOutcome,
    failure: FailureClass | None,
    words: str,
) -> None:
    trial = trials[1][how]
    attempt = trial.attempts[-1]
    assert (trial.state, attempt.outcome, attempt.failure) == (state, outcome, failure)
    assert words in trial.reason
    assert len(attempt.message) < 20_000, "a message is a tail, not the whole output"


def test_no_process_of_any_attempt_remains(trials: tuple[Fleet, dict[str, TrialRecord]]) -> None:
    marker = f"SWEEPD_ATTEMPT={trials[0].home}".encode()

    def remaining() -> list[str]:
        found: list[str] = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                if marker in (directory / "environ").read_bytes():
                    found.append((directory / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    wait_until(lambda: not remaining(), describe=remaining)


def test_the_whole_output_is_in_the_log(trials: tuple[Fleet, dict[str, TrialRecord]]) -> None:
    log = Path(trials[1]["megabyte"].attempts[-1].log)
    assert log.stat().st_size >= 1_000_000
