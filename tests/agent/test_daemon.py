"""The agent as a real process, with a coordinator that says what the test tells it to."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest
from scripted import ScriptedCoordinator, agent_process, assign, script
from servers import RedisServer, free_port
from waiting import wait_until

from sweepd import processes
from sweepd.messages import (
    Decide,
    Decline,
    Finished,
    Hello,
    Job,
    Leave,
    Offer,
    Refuse,
    Renew,
    Resources,
    Revoke,
    RunningAttempt,
    Started,
    Suggested,
    SuggestParameter,
    Welcome,
)
from sweepd.states import AttemptOutcome, FailureClass, Verdict

WAIT = "import time; print('up', flush=True); time.sleep(600)"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + WAIT
REPORT_FOR_EVER = """
import itertools, sweepd, time
for step in itertools.count(1):
    if sweepd.report({"loss": 1 / step}, step=step) == "stop":
        break
    time.sleep(0.01)
"""

HEAP_LINES = 600_000
HEAP = f"""
import os, time
line = '{{"ordinal": %d, "step": %d, "metrics": {{"loss": 0.5, "' + 40 * 'x' + '": 1.0}}}}\\n'
with open(os.path.dirname(os.environ["SWEEPD_ATTEMPT"]) + "/reports.ndjson", "w") as file:
    file.writelines(line % (number, number) for number in range(1, {HEAP_LINES} + 1))
time.sleep(600)
"""


def output(state: Path, trial: int = 0, attempt: int = 1) -> str:
    file = state / "attempts" / "s1" / str(trial) / str(attempt) / "output.log"
    return file.read_text() if file.exists() else ""


def test_a_trial_from_its_assignment_to_its_end(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--label", "pool=a100", "--label", "site=x"):
        hello = coordinator.welcome()
        assert (hello.slots, hello.devices, hello.running) == (2, [], [])
        assert hello.labels == {"pool": "a100", "site": "x"}
        assert hello.boot_id == processes.boot_id()
        offer = coordinator.hear(Offer)
        assert (offer.number, offer.slots) == (1, 2)
        coordinator.say(assign("t", script(REPORT_FOR_EVER)))
        started = coordinator.hear(Started)
        assert (started.study, started.trial, started.attempt, started.token) == ("s1", 0, 1, "t")
        assert Path(started.log).parent == state / "attempts" / "s1" / "0" / "1"
        wait_until(lambda: len(coordinator.points("t")) >= 3)
        coordinator.say(Decide("t", Verdict.STOP, 3, "rung 1"))
        end = coordinator.hear(Finished)
        assert (end.outcome, end.message) == (AttemptOutcome.PRUNED, "rung 1")
        assert end.usage.wall_s > 0
        assert end.usage.max_rss_mib > 1
        points = coordinator.points("t")
        assert [point.ordinal for point in points] == list(range(1, len(points) + 1))
        assert all(point.metrics == {"loss": 1 / point.step} for point in points)
        offer = coordinator.hear(Offer)
        assert (offer.number, offer.slots) == (2, 2)
        last = coordinator.batches[-1].messages
        assert [type(message) for message in last] == [Finished, Offer], "they travel together"


def test_a_job_that_ignores_a_stop_is_ended_with_all_its_children(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    code = f"""
import subprocess, sys, sweepd
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
sweepd.report({{"loss": 1.0}})
{STUBBORN}
"""
    with agent_process(store, state, "--stop-grace", "0.2", "--kill-grace", "0.3"):
        coordinator.welcome()
        coordinator.say(assign("t", script(code)))
        wait_until(lambda: output(state).count("up") == 2)
        coordinator.say(Decide("t", Verdict.STOP, 1, "rung 1"))
        end = coordinator.hear(Finished)
        assert (end.outcome, end.message) == (AttemptOutcome.PRUNED, "rung 1")
        attempt = state / "attempts" / "s1" / "0" / "1" / "attempt.json"
        assert processes.marked("SWEEPD_ATTEMPT", str(attempt)) == []


def test_a_revoked_attempt_is_ended_at_once(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome()
        coordinator.say(assign("t", script(WAIT)), assign("u", script(WAIT), trial=1))
        wait_until(lambda: output(state) and output(state, trial=1))
        coordinator.say(
            Revoke("t", AttemptOutcome.CANCELLED, "somebody asked"),
            Revoke("unknown", AttemptOutcome.SUPERSEDED, ""),
        )
        end = coordinator.hear(Finished)
        assert (end.token, end.outcome, end.message) == ("t", AttemptOutcome.CANCELLED, "somebody asked")
        assert coordinator.hear(Offer, lambda offer: offer.slots > 0).slots == 1


def test_an_attempt_that_is_assigned_and_revoked_in_one_breath_ends_once(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome()
        coordinator.say(assign("t", script(WAIT)), Revoke("t", AttemptOutcome.CANCELLED, "at once"))
        assert coordinator.hear(Finished).outcome is AttemptOutcome.CANCELLED
        coordinator.say(assign("u", script("print('done')"), trial=1))
        assert coordinator.hear(Finished).token == "u"
        assert sum(isinstance(said, Finished) for said in coordinator.heard) == 2


def test_what_does_not_fit_is_declined_with_the_reason_and_a_new_offer(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--slots", "1"):
        coordinator.welcome()
        coordinator.say(
            assign("t", script(WAIT)),
            assign("u", script(WAIT), trial=1),
            assign("v", script(WAIT), trial=2, resources=Resources(gpus=1), devices=["GPU-x"]),
        )
        declined = [coordinator.hear(Decline), coordinator.hear(Decline)]
        assert {said.token: said.reason for said in declined} == {
            "u": "all 1 slots are taken",
            "v": "all 1 slots are taken",
        }
        assert coordinator.hear(Offer, lambda offer: offer.number > 1).slots == 0
        # What is revoked after it was declined is nothing to end.
        coordinator.say(Revoke("u", AttemptOutcome.SUPERSEDED, "declined"))
        coordinator.say(Revoke("t", AttemptOutcome.CANCELLED, ""))
        assert coordinator.hear(Finished).token == "t"


FAILURES: dict[str, tuple[Job, FailureClass, str]] = {
    "exit code": (
        script("raise SystemExit('no data at ' + 'noon')"),
        FailureClass.CRASHED,
        "no data at noon",
    ),
    "killed": (script("import os; os.kill(os.getpid(), 9)"), FailureClass.CRASHED, "signal 9 (SIGKILL)"),
    "gpu memory": (
        script("raise RuntimeError('CUDA out of ' + 'memory. Tried to allocate')"),
        FailureClass.GPU_OOM,
        "CUDA out of memory",
    ),
    "a megabyte in one line": (
        script("print('x' * 10**6); raise SystemExit(3)"),
        FailureClass.CRASHED,
        "exit code 3\nxxxx",
    ),
    "time limit": (script(WAIT, time_limit_s=0.3), FailureClass.TIMEOUT, "0.3 s"),
    "no such program": (
        Job("command", ["/nonexistent/train"], executor="process", workdir="/tmp"),
        FailureClass.LAUNCH_ERROR,
        "/nonexistent/train",
    ),
    "unknown executor": (
        script(WAIT, executor="slurm"),
        FailureClass.LAUNCH_ERROR,
        "local and process, not slurm",
    ),
    "no nemo_run": (script(WAIT, executor="local"), FailureClass.LAUNCH_ERROR, "/nonexistent/python"),
}


def test_failures_are_named(store: RedisServer, coordinator: ScriptedCoordinator, state: Path) -> None:
    with agent_process(store, state, slots=len(FAILURES)):
        coordinator.welcome()
        coordinator.say(*(assign(name, job, trial=n) for n, (name, (job, *_)) in enumerate(FAILURES.items())))
        ends = {end.token: end for end in (coordinator.hear(Finished) for _ in FAILURES)}
        for name, (_, failure, message) in FAILURES.items():
            assert (ends[name].outcome, ends[name].failure) == (AttemptOutcome.FAILED, failure), name
            assert message in ends[name].message, name
            assert len(ends[name].message) < 6_000, name
        coordinator.hear(Offer, lambda offer: offer.slots == len(FAILURES))


def test_a_job_whose_supervisor_is_killed_dies_and_has_an_end(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {STUBBORN!r}]); {WAIT}"
    with agent_process(store, state) as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(code)))
        wait_until(lambda: output(state).count("up") == 2)
        job = processes.look_up(coordinator.hear(Started).pid)
        assert job is not None
        supervisor = int(Path(f"/proc/{job.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        os.kill(supervisor, signal.SIGKILL)
        end = coordinator.hear(Finished)
        assert (end.outcome, end.failure) == (AttemptOutcome.FAILED, FailureClass.CRASHED)
        assert end.message.startswith("the supervisor of the attempt was killed")
        assert not processes.is_alive(job)
        agent.says("supervisor.killed")


def test_an_objective_suggests_as_it_goes_and_returns_its_values(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(
        """
def objective(trial):
    x = trial.suggest_float("x", 0.0, 1.0)
    trial.set_user_attr("kind", "test")
    trial.report(x, 1)
    return 2 * x
"""
    )
    job = Job(
        "objective",
        "train.py:objective",
        executor="process",
        workdir=str(tmp_path),
        objectives=[["loss", "minimize"]],
    )
    with agent_process(store, state):
        coordinator.welcome()
        coordinator.say(assign("t", job, params={}, declared=False))
        asked = coordinator.hear(SuggestParameter)
        assert (asked.token, asked.name, asked.distribution["type"]) == ("t", "x", "float")
        coordinator.say(Suggested("t", "x", 0.25))
        end = coordinator.hear(Finished)
        assert end.outcome is AttemptOutcome.FINISHED, end.message
        assert (end.values, end.attributes) == ({"loss": 0.5}, {"kind": "test"})
        assert [point.metrics for point in coordinator.points("t")] == [{"loss": 0.25}]


def test_a_question_that_nobody_answers_is_asked_again(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path, tmp_path: Path
) -> None:
    """The coordinator took it and died: its successor does not know that it was asked."""
    (tmp_path / "train.py").write_text("def objective(trial):\n    return trial.suggest_float('x', 0, 1)\n")
    job = Job("objective", "train.py:objective", executor="process", workdir=str(tmp_path),
              objectives=[["loss", "minimize"]])  # fmt: skip
    with agent_process(store, state):
        coordinator.welcome(lease_ttl_s=0.9)
        coordinator.say(assign("t", job, params={}, declared=False))
        asked = coordinator.hear(SuggestParameter)
        assert coordinator.hear(SuggestParameter) == asked
        coordinator.say(Suggested("t", "x", 0.25))
        assert coordinator.hear(Finished).values == {"loss": 0.25}


def test_a_heap_of_reports_holds_up_neither_leases_nor_free_slots(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome(lease_ttl_s=3)
        coordinator.say(assign("t", script(HEAP)))
        coordinator.say(assign("u", script("pass"), trial=1))
        coordinator.hear(Finished, lambda end: end.token == "u")
        assert coordinator.hear(Offer).slots == 1
        coordinator.hear(Renew, lambda said: said.tokens == ["t"])
        assert len(coordinator.points("t")) < HEAP_LINES, "both came before the last report"


def test_leases_are_renewed_and_the_heartbeat_goes_on_without_attempts(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome(lease_ttl_s=0.9)
        assert coordinator.hear(Renew).tokens == []
        coordinator.say(assign("t", script(WAIT)))
        coordinator.hear(Renew, lambda said: said.tokens == ["t"])
        coordinator.hear(Renew, lambda said: said.tokens == ["t"])
        coordinator.silent = True
        before = len(coordinator.heard)
        coordinator.hear(Renew)
        coordinator.say(Revoke("t", AttemptOutcome.CANCELLED, ""))
        coordinator.hear(Finished)
        silence = [type(said) for said in coordinator.heard[before:]]
        assert silence.count(Renew) <= 3, "no heap of renewals for a coordinator that does not answer"


def test_asked_to_stop_it_ends_its_attempts_reports_them_and_leaves(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(REPORT_FOR_EVER)), assign("u", script(WAIT), trial=1))
        wait_until(lambda: len(coordinator.points("t")) >= 2 and output(state, trial=1))
        agent.signal(signal.SIGTERM)
        coordinator.hear(Offer, lambda offer: offer.slots == 0)
        ends = [coordinator.hear(Finished), coordinator.hear(Finished)]
        assert {end.token: end.outcome for end in ends} == {
            "t": AttemptOutcome.PREEMPTED,
            "u": AttemptOutcome.PREEMPTED,
        }
        coordinator.hear(Leave)
        wait_until(lambda: coordinator.read() or agent.process.poll() is not None)
        assert agent.wait() == 0
        assert isinstance(coordinator.heard[-1], Leave), "nothing is said after the farewell"


def test_asked_twice_it_kills_what_runs_and_goes(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--kill-grace", "600") as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(STUBBORN)))
        wait_until(lambda: output(state))
        agent.signal(signal.SIGTERM)
        agent.says("attempt.stopping")
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        attempt = state / "attempts" / "s1" / "0" / "1" / "attempt.json"
        assert processes.marked("SWEEPD_ATTEMPT", str(attempt)) == []


def test_asked_to_stop_while_the_launcher_warms_up_it_goes(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path, tmp_path: Path
) -> None:
    slow = tmp_path / "python"
    slow.write_text(f"#!/bin/sh\ntouch {tmp_path}/warming\nexec cat\n")  # never ready; ends with its input
    slow.chmod(0o755)
    with agent_process(store, state, nemo_python=str(slow)) as agent:
        wait_until((tmp_path / "warming").exists)
        agent.signal(signal.SIGTERM)
        assert agent.wait(timeout_s=10) == 0


def test_asked_to_stop_while_it_waits_for_the_store_it_goes(state: Path) -> None:
    with agent_process(f"redis://127.0.0.1:{free_port()}/0", state) as agent:
        wait_until(lambda: (state / "spool.ndjson").exists() and catches(agent.pid, signal.SIGTERM))
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0


def catches(pid: int, number: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(mask >> (number - 1) & 1)


def test_stopped_without_a_coordinator_it_leaves_at_once_and_keeps_its_ends(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        agent.says("agent.ready")
        agent.signal(signal.SIGINT)
        assert agent.wait() == 0


def test_killed_and_started_again_it_stops_what_runs_and_sends_what_ended(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    ends_soon = """
import pathlib, sweepd, time
for step in range(1, 4):
    sweepd.report({'loss': step / 10}, step=step)
while not pathlib.Path("GO").exists():
    time.sleep(0.01)
sweepd.report({'loss': 0.4}, step=4)
""".replace("GO", str(state.parent / "go"))
    with agent_process(store, state) as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(WAIT)), assign("u", script(ends_soon), trial=1))
        wait_until(lambda: len(coordinator.points("u")) == 3 and output(state))
        agent.signal(signal.SIGKILL)
        agent.wait()
    (state.parent / "go").touch()
    wait_until((state / "attempts" / "s1" / "1" / "1" / "exit.json").exists)
    with agent_process(store, state):
        hello = coordinator.welcome(run=["t", "u"])
        running = sorted(hello.running, key=lambda attempt: attempt.trial)
        assert running == [RunningAttempt("s1", 0, 1, "t"), RunningAttempt("s1", 1, 1, "u")]
        ends = {end.token: end for end in (coordinator.hear(Finished), coordinator.hear(Finished))}
        assert ends["t"].outcome is AttemptOutcome.PREEMPTED
        assert ends["t"].message == "the agent was restarted"
        assert ends["u"].outcome is AttemptOutcome.FINISHED
        assert [point.ordinal for point in coordinator.points("u")] == [1, 2, 3, 4]
        assert coordinator.hear(Offer, lambda offer: offer.slots == 2)
    with agent_process(store, state):
        assert coordinator.welcome().running == [], "what was acknowledged is not owed any more"


def test_an_end_that_nobody_acknowledged_is_sent_after_the_restart(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.welcome()
        coordinator.hear(Offer)
        coordinator.silent = True
        coordinator.say(assign("t", script("import sweepd; sweepd.report({'loss': 0.5})")))
        first = coordinator.hear(Finished)
        agent.signal(signal.SIGKILL)
        agent.wait()
    coordinator.silent = False
    with agent_process(store, state):
        assert coordinator.welcome(run=["t"]).running == [RunningAttempt("s1", 0, 1, "t")]
        assert coordinator.hear(Finished) == first
        assert len(coordinator.points("t")) == 1


def test_a_store_that_restarts_in_the_middle_loses_nothing(own_store: RedisServer, state: Path) -> None:
    coordinator = ScriptedCoordinator(own_store)
    code = """
import pathlib, sweepd, time
for step in range(1, 60):
    sweepd.report({'loss': step / 60}, step=step)
    time.sleep(0.02)
"""
    with agent_process(own_store, state) as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(code)))
        wait_until(lambda: len(coordinator.points("t")) >= 5)
        coordinator.close()
        own_store.kill()
        agent.says("link.lost")
        file = state / "attempts" / "s1" / "0" / "1" / "reports.ndjson"
        before = len(file.read_bytes().splitlines())
        wait_until(lambda: len(file.read_bytes().splitlines()) > before)  # the job goes on
        own_store.start()
        coordinator.reconnect(own_store)
        agent.says("link.back")
        assert coordinator.hear(Finished).outcome is AttemptOutcome.FINISHED
        assert [point.step for point in coordinator.points("t")] == list(range(1, 60))
        assert agent.log().count("link.lost") == 1, agent.log()
        assert agent.log().count("link.back") == 1, agent.log()
        coordinator.close()


def test_an_agent_that_is_replaced_ends_its_attempts_and_says_why(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.welcome()
        coordinator.say(assign("t", script(WAIT)))
        wait_until(lambda: output(state))
        coordinator.say(Welcome(1, [], 30.0), session="another")
        assert agent.wait() == 1
        agent.says("Another agent with the same id")
        attempt = state / "attempts" / "s1" / "0" / "1" / "attempt.json"
        assert processes.marked("SWEEPD_ATTEMPT", str(attempt)) == []


def test_an_agent_that_is_refused_says_why(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.hear(Hello)
        coordinator.say(Refuse("install matching versions of sweepd"))
        assert agent.wait() == 1
        agent.says("the coordinator refused this agent: install matching versions of sweepd")


def test_an_agent_that_was_forgotten_opens_a_new_session_and_its_attempts_go_on(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome()
        coordinator.say(assign("t", script(REPORT_FOR_EVER)))
        wait_until(lambda: len(coordinator.points("t")) >= 2)
        old = coordinator.session
        coordinator.say(Refuse("the coordinator does not know this session"))
        assert coordinator.welcome(run=["t"]).running == [RunningAttempt("s1", 0, 1, "t")]
        assert coordinator.session != old
        assert coordinator.hear(Started).token == "t"
        wait_until(lambda: len(coordinator.points("t")) >= 2)
        assert coordinator.points("t")[0].ordinal == 1, "everything is said again"


def test_an_attempt_that_the_coordinator_gave_away_is_ended(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state):
        coordinator.welcome()
        coordinator.say(assign("t", script(WAIT)))
        wait_until(lambda: output(state))
        coordinator.say(Refuse("the coordinator does not know this session"))
        coordinator.welcome(run=[])
        assert coordinator.hear(Finished).outcome is AttemptOutcome.SUPERSEDED


@pytest.mark.nemo
@pytest.mark.skipif(find_spec("nemo_run") is None, reason="needs nemo_run: pip install 'sweepd-agent[nemo]'")
def test_a_trial_runs_as_an_experiment_of_nemo_run(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, nemo_python=sys.executable) as agent:
        coordinator.welcome()
        agent.says("launcher.warm")
        coordinator.say(assign("t", script("import sweepd; sweepd.report({'loss': 0.5})", executor="local")))
        end = coordinator.hear(Finished)
        assert end.outcome is AttemptOutcome.FINISHED, end.message
        assert [point.metrics for point in coordinator.points("t")] == [{"loss": 0.5}]


def test_an_attempt_goes_through_its_life_without_the_channel(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--stop-grace", "0.1") as agent:
        coordinator.welcome()
        (state / "channel.sock").unlink()
        coordinator.say(assign("t", script(f"import sweepd; sweepd.report({{'loss': 0.5}}); {WAIT}")))
        assert coordinator.hear(Started).pid == 0
        agent.says("supervisor.unheard")
        wait_until(lambda: len(coordinator.points("t")) == 1)
        coordinator.say(Decide("t", Verdict.STOP, 1, "rung 1"))
        assert coordinator.hear(Finished).outcome is AttemptOutcome.PRUNED


def test_a_supervisor_that_nobody_waits_for_is_told_to_stop(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--kill-grace", "7") as agent:
        agent.says("agent.ready")
        with socket.socket(socket.AF_UNIX) as supervisor:
            supervisor.settimeout(10)
            supervisor.connect(str(state / "channel.sock"))
            supervisor.sendall(b'{"type": "supervisor", "token": "old", "pid": 1, "job": 2}\n')
            assert json.loads(supervisor.recv(1000)) == {"type": "stop", "grace_s": 7.0}


def test_a_disk_that_refuses_is_the_end_of_the_attempt_and_not_of_the_agent(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.welcome()
        agent.says("agent.ready")
        _, hard = resource.prlimit(agent.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (10, hard))
        coordinator.say(assign("t", script(WAIT)))
        end = coordinator.hear(Finished)
        assert (end.outcome, end.failure) == (AttemptOutcome.FAILED, FailureClass.LAUNCH_ERROR)
        assert end.message.startswith(f"cannot prepare {state}/attempts/s1/0/1: ")
        resource.prlimit(agent.pid, resource.RLIMIT_FSIZE, (hard, hard))
        coordinator.say(assign("u", script("pass"), trial=1))
        assert coordinator.hear(Finished).outcome is AttemptOutcome.FINISHED


def test_an_idle_agent_takes_little(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        coordinator.welcome(lease_ttl_s=1.5)  # twenty times as busy as with the default of 30
        coordinator.hear(Renew)
        began_s, began_cpu_s = time.monotonic(), cpu_s(agent.pid)
        for _ in range(4):
            coordinator.hear(Renew)
        used = (cpu_s(agent.pid) - began_cpu_s) / (time.monotonic() - began_s)
        assert used < 0.05, f"{used:.1%} of a core"
        status = Path(f"/proc/{agent.pid}/status").read_text()
        resident_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
        assert resident_kib < 80 * 1024


def cpu_s(pid: int) -> float:
    """Return the time that a process has spent on a processor, all its threads together."""
    return (
        sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def test_two_agents_cannot_share_a_state_directory(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state) as agent:
        agent.says("agent.ready")
        command = [sys.executable, "-m", "sweepd_agent", "--redis", store.url, "--state", str(state)]
        second = subprocess.run(command, capture_output=True, text=True, timeout=20)
        assert second.returncode == 2
        assert f"another agent (process {agent.pid}) uses {state}" in second.stderr
        assert "--state" in second.stderr


def test_a_store_that_cannot_be_reached_is_exit_code_3_and_one_sentence(state: Path) -> None:
    port = free_port()
    with agent_process(f"redis://:secret@127.0.0.1:{port}/0", state, "--connect-timeout", "0.3") as agent:
        assert agent.wait() == 3
        [line] = agent.log().splitlines()[-1:]
        assert line.startswith(
            f"sweepd agent: the store at redis://:***@127.0.0.1:{port}/0 could not be reached"
        )
        assert "--redis" in line


def test_an_agents_name_stays_with_its_state_directory(store: RedisServer, state: Path) -> None:
    names = []
    for _ in range(2):
        command = ["--redis", store.url, "--state", str(state), "--nemo-python", "/none", "--devices", "none"]
        with subprocess.Popen(
            [sys.executable, "-m", "sweepd_agent", *command], stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            ready = next(line for line in process.stderr if "agent.ready" in line)
            names.append(ready.split(" id=")[1].split()[0])
            process.send_signal(signal.SIGTERM)
            process.stderr.read()
    assert names[0] == names[1]
    assert len(names[0].rsplit("-", 1)[1]) == 6


def test_metrics_are_served_and_well_formed(
    store: RedisServer, coordinator: ScriptedCoordinator, state: Path
) -> None:
    with agent_process(store, state, "--metrics-port", "0") as agent:
        coordinator.welcome()
        coordinator.say(
            assign("t", script("import sweepd; sweepd.report({'loss': 0.5})")),
            assign("u", script(WAIT), trial=1),
        )
        coordinator.hear(Finished)
        wait_until(lambda: output(state, trial=1))
        port = agent.says("metrics.serving").rsplit("port=", 1)[1]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert {name: float(values[name]) for name in values if name in _EXPECTED} == _EXPECTED
        assert float(values["sweepd_agent_spool_bytes"]) > 0
        if promtool := shutil.which("promtool"):
            check = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True)
            assert (check.returncode, check.stdout + check.stderr) == (0, "")


_EXPECTED = {
    "sweepd_agent_slots": 2.0,
    "sweepd_agent_slots_used": 1.0,
    "sweepd_agent_connected": 1.0,
    'sweepd_agent_attempts_total{outcome="finished"}': 1.0,
    'sweepd_agent_attempts_total{outcome="failed"}': 0.0,
    "sweepd_agent_reports_total": 1.0,
    "sweepd_agent_launch_seconds_count": 2.0,
}
