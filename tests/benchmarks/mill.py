"""Mill: how many trials per second go through the coordinator, beside Optuna's Redis journal.

    python tests/benchmarks/mill.py [--trials 4000] [--long 50000] [--fsync everysec|always]

Everything is real but the jobs: a Valkey of its own, the coordinator as its own process,
random sampler, four reports a trial. Optuna's side is `JournalStorage(JournalRedisBackend)`
with as many worker processes, each `ask`, four `report`s and `tell`, on the same server, right
after ours, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import redis

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from servers import DURABLE, RedisServer, valkey  # noqa: E402

from sweepd import messages as m  # noqa: E402
from sweepd.keys import Keys  # noqa: E402
from sweepd.records import StudyRecord  # noqa: E402

import msgspec  # noqa: E402  isort: skip

KEYS = Keys()


def spec(trials: int) -> dict[str, object]:
    return {
        "name": f"mill-{time.time_ns()}",
        "task": {"command": ["true", "{args}"]},
        "objectives": [{"metric": "loss", "direction": "minimize"}],
        "space": {name: {"type": "float", "low": 0.0, "high": 1.0} for name in ("a", "b", "c", "d")},
        "sampler": {"type": "random", "seed": 1},
        "budget": {"trials": trials},
        "executor": {"type": "process"},
    }


@contextmanager
def coordinator(server: RedisServer) -> Generator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sweepd_coordinator", "--redis", server.unix_url, "--log-level", "warning"]
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def agents(server: RedisServer, count: int, processes: int, slots: int) -> Generator[None]:
    running: list[subprocess.Popen[bytes]] = []
    names = [f"agent{number}" for number in range(count)]
    try:
        for part in range(processes):
            mine = ",".join(names[part::processes])
            command = [sys.executable, str(HERE / "trivial_agent.py"), "--url", server.unix_url]
            running.append(subprocess.Popen([*command, "--names", mine, "--slots", str(slots)]))
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def grind(server: RedisServer, trials: int, count: int, processes: int, slots: int) -> dict[str, float]:
    """Run one study of *trials* and return its figures; the clock starts at the first ended trial."""
    client = server.client()
    client.flushall()
    with coordinator(server) as process, agents(server, count, processes, slots):
        while client.hlen(KEYS.agents) < count:
            time.sleep(0.02)
        submit = m.ClientRequest("mill", m.SubmitStudy(spec(trials)))
        client.xadd(KEYS.inbox, {"e": m.encode(submit)})
        marks: list[tuple[float, int]] = []
        cpu = 0.0
        while True:
            records = client.hvals(KEYS.studies)
            record = msgspec.json.decode(records[0], type=StudyRecord) if records else None
            done = record.counts.get("complete", 0) if record else 0
            if done:
                if not marks:
                    cpu = cpu_s(process.pid)
                marks.append((time.monotonic(), done))
            if done == trials:
                break
            time.sleep(0.02)
        cpu = cpu_s(process.pid) - cpu
        ends = client.xlen(KEYS.ends)
        assert ends == trials, f"{ends} ends for {trials} trials"
    (first_s, first), (last_s, last) = marks[0], marks[-1]
    rate = (last - first) / (last_s - first_s)
    messages = (last - first) * 7
    figures = {
        "trials_per_s": rate,
        "reports_per_s": 4 * rate,
        "coordinator_us_per_message": cpu / messages * 1e6,
    }
    if trials > 5000:
        figures["first_1000_per_s"] = window(marks, 0, 1_000)
        figures["last_1000_per_s"] = window(marks, trials - 1_000, trials)
        figures["last_10000_per_s"] = window(marks, trials - 10_000, trials)
    client.close()
    return figures


def window(marks: list[tuple[float, int]], low: int, high: int) -> float:
    """Trials per second between the marks nearest to *low* and *high* ended trials."""
    inside = [mark for mark in marks if low <= mark[1] <= high]
    (start_s, start), (end_s, end) = inside[0], inside[-1]
    return (end - start) / (end_s - start_s)


OPTUNA_WORKER = """
import sys, warnings, optuna
warnings.simplefilter('ignore')
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalRedisBackend
optuna.logging.set_verbosity(optuna.logging.ERROR)
url, study, trials = sys.argv[1], sys.argv[2], int(sys.argv[3])
storage = JournalStorage(JournalRedisBackend(url))
study = optuna.load_study(study_name=study, storage=storage, sampler=optuna.samplers.RandomSampler())
for _ in range(trials):
    trial = study.ask()
    x = [trial.suggest_float(name, 0, 1) for name in "abcd"][0]
    for step in range(4):
        trial.report(x / (step + 1), step)
    study.tell(trial, x)
"""


def optuna_journal(server: RedisServer, trials: int, processes: int) -> dict[str, float]:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalRedisBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", category=optuna.exceptions.ExperimentalWarning)
    client = server.client()
    client.flushall()
    storage = JournalStorage(JournalRedisBackend(server.url))
    study = optuna.create_study(study_name="mill", storage=storage)
    each = trials // processes
    command = [sys.executable, "-c", OPTUNA_WORKER, server.url, "mill", str(each)]
    workers = [subprocess.Popen(command) for _ in range(processes)]
    try:
        marks: list[tuple[float, int]] = []
        for worker in workers:
            worker.wait()
        finished = [t for t in study.get_trials(deepcopy=False) if t.datetime_complete is not None]
        times = sorted(t.datetime_complete.timestamp() for t in finished if t.datetime_complete)
        marks = [(times[0], 1), (times[-1], len(times))]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        client.close()
    rate = (marks[1][1] - 1) / (marks[1][0] - marks[0][0])
    return {"trials_per_s": rate, "reports_per_s": 4 * rate}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument(
        "--long", type=int, default=0, help="also one run of so many trials, to see it stay flat"
    )
    parser.add_argument("--optuna-trials", type=int, default=800)
    parser.add_argument("--fsync", choices=["everysec", "always"], default="everysec")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = {**DURABLE, "appendfsync": options.fsync, "auto-aof-rewrite-min-size": "512mb"}
    rows: dict[str, dict[str, float]] = {}

    def show(name: str, figures: dict[str, float]) -> None:
        rows[name] = figures
        if not options.json:
            told = "  ".join(f"{key}={value:,.1f}" for key, value in figures.items())
            print(f"{name:34} {told}", flush=True)

    with valkey(config) as server:
        for count in (1, 4, 16):
            show(f"sweepd, {count} agents in one process", grind(server, options.trials, count, 1, 1))
        show("sweepd, 16 agent processes", grind(server, options.trials, 16, 16, 1))
        show("Optuna Redis journal, 16 processes", optuna_journal(server, options.optuna_trials, 16))
        ours = rows["sweepd, 16 agent processes"]["trials_per_s"]
        theirs = rows["Optuna Redis journal, 16 processes"]["trials_per_s"]
        show("ratio at 16 processes", {"times": ours / theirs})
        if options.long:
            show(f"sweepd, {options.long} trials, 16 agents", grind(server, options.long, 16, 2, 1))
    if options.json:
        print(json.dumps(rows))


if __name__ == "__main__":
    try:
        main()
    except redis.ConnectionError as error:
        sys.exit(f"the server went away: {error}")
