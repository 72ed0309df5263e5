"""Verdict: from `report()` in a job to the scheduler's answer at that job, with 16 jobs at once.

    python tests/benchmarks/verdict.py [--seconds 8] [--rate 62.5]

Sixteen real jobs on one agent report as fast as they can, or `--rate` times a second each
(62.5 makes 1,000 reports a second in all). The scheduler has a rung at 1, 2, 4, 8, ... reports;
the answer to each rung's report is timed from just before `report()` was called to the moment
the job had read it. All values are equal, so every answer is "go on" and every job lives to the
end. Beside it: how long `report()` itself keeps the job.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from integration.fleet import fleet  # noqa: E402
from servers import DURABLE, valkey  # noqa: E402

JOBS = 16

PROGRAM = """
import json, os, random, select, sys, time
import sweepd
from sweepd.job.session import session
from sweepd.job.channel import Channel

sent, answered, kept = {}, {}, []
heard = Channel._take

def take(self, line):
    heard(self, line)
    message = json.loads(line)
    if message["type"] == "verdict":
        answered.setdefault(message["reports"], time.monotonic())

Channel._take = take
seconds, rate = float(sys.argv[1]), float(sys.argv[2])
open(f"here-{os.getpid()}", "w").close()
while len([name for name in os.listdir(".") if name.startswith("here-")]) < int(sys.argv[3]):
    time.sleep(0.01)
# Not all at the same moment: jobs of a fleet do not march in step.
begin, number = time.monotonic() + (random.random() / rate if rate else 0), 0
time.sleep(max(0, begin - time.monotonic()))
while time.monotonic() - begin < seconds:
    number += 1
    at = time.monotonic()
    sent[number] = at
    sweepd.report({"score": 1.0}, step=number)
    kept.append(time.monotonic() - at)
    if rate:
        # Until its turn it sleeps on the channel, so that waiting costs the machine nothing.
        while (left := begin + number / rate - time.monotonic()) > 0:
            select.select([session().channel._socket], [], [], left)
            sweepd.should_stop()
end = time.monotonic()
while time.monotonic() - end < 2:  # the last answers
    sweepd.should_stop()
    time.sleep(0.001)
waits = [answered[n] - sent[n] for n in answered if n in sent]
with open(f"figures-{os.getpid()}", "w") as file:
    json.dump({"waits": waits, "kept": kept[:5000], "reports": number}, file)
"""


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(seconds: float, rate: float) -> dict[str, float]:
    study = {
        "name": "verdict",
        "task": {"command": [sys.executable, "job.py", str(seconds), str(rate), str(JOBS)]},
        "objectives": [{"metric": "score", "direction": "maximize"}],
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 1},
        "scheduler": {"type": "asha", "min": 1, "max": 2**30, "eta": 2},
        "budget": {"trials": JOBS},
        "executor": {"type": "process"},
    }
    with tempfile.TemporaryDirectory() as place, valkey(DURABLE) as server:
        home = Path(place)
        (home / "job.py").write_text(PROGRAM)
        with fleet(server, home, agents=1, slots=JOBS) as it:
            study_id = it.submit(study, home)
            daemons = (it.agents[0], it.coordinator)
            before = [cpu_s(daemon.pid) for daemon in daemons]
            it.wait_ended(study_id, seconds + 240)
            agent_s, coordinator_s = (cpu_s(d.pid) - b for d, b in zip(daemons, before, strict=True))
            jobs = [json.loads(file.read_text()) for file in home.glob("figures-*")]
            assert len(jobs) == JOBS, it.told()
    waits = sorted(1000 * wait for job in jobs for wait in job["waits"])
    kept = sorted(1e6 * value for job in jobs for value in job["kept"])
    reports = sum(job["reports"] for job in jobs)
    return {
        "reports_per_s": reports / seconds,
        "agent_us_per_report": 1e6 * agent_s / reports,
        "coordinator_us_per_report": 1e6 * coordinator_s / reports,
        "verdict_p50_ms": statistics.median(waits),
        "verdict_p99_ms": waits[round(0.99 * (len(waits) - 1))],
        "verdicts": len(waits),
        "report_call_p50_us": statistics.median(kept),
        "report_call_p99_us": kept[round(0.99 * (len(kept) - 1))],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument(
        "--rate", type=float, default=None, help="reports per second and job; both kinds if absent"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = [62.5, 0.0] if options.rate is None else [options.rate]
    rows = {
        ("as fast as they can" if not rate else f"{rate * JOBS:g} reports/s"): measure(options.seconds, rate)
        for rate in rates
    }
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{JOBS} jobs, {name}: " + "  ".join(f"{key}={value:,.2f}" for key, value in row.items()))


if __name__ == "__main__":
    main()
