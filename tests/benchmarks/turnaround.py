"""Turn-around: from the end of one job to the user's code of the next on the same slot.

    python tests/benchmarks/turnaround.py [--trials 40] [--executors local,process]

One slot, jobs that do nothing but write down when their code began and ended. What lies between
is the end of the interpreter, the report of the end, the decision, the launch (a real nemo_run
experiment for `local`) and the start of the next interpreter with its imports: for `objective`
tasks that includes `import optuna`. Beside it: the same two programs started one after the
other by a bare loop, which is what the interpreter alone costs.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from integration.fleet import fleet  # noqa: E402
from servers import DURABLE, valkey  # noqa: E402

PROGRAMS = {
    "command": """
import time
began = time.time()
import sweepd
sweepd.report({"score": 1.0}, step=1)
with open("diary", "a") as diary:
    diary.write(f"{began} {time.time()}\\n")
""",
    "objective": """
import time
def objective(trial):
    began = time.time()
    trial.suggest_float("x", 0, 1)
    with open("diary", "a") as diary:
        diary.write(f"{began} {time.time()}\\n")
    return 1.0
""",
}


def study(kind: str, executor: str, trials: int) -> dict[str, object]:
    task = (
        {"command": [sys.executable, "command.py"]}
        if kind == "command"
        else {"objective": "objective.py:objective"}
    )
    return {
        "name": f"turnaround-{kind}-{executor}",
        "task": task,
        "objectives": [{"metric": "score", "direction": "maximize"}],
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "sampler": {"type": "random", "seed": 1},
        "budget": {"trials": trials},
        "executor": {"type": executor},
    }


def gaps_ms(diary: Path) -> list[float]:
    """Milliseconds between the end of each job and the beginning of the next; the first is warm-up."""
    times = sorted(tuple(map(float, line.split())) for line in diary.read_text().splitlines())
    return [1000 * (after[0] - before[1]) for before, after in itertools.pairwise(times[1:])]


def bare_ms(home: Path, kind: str, count: int) -> list[float]:
    """The same programs in a bare loop of processes: no service at all."""
    (home / "diary").unlink(missing_ok=True)
    code = f"import optuna, {kind}; t = optuna.create_study().ask(); {kind}.objective(t)"
    command = [sys.executable, "command.py"] if kind == "command" else [sys.executable, "-c", code]
    for _ in range(count):
        subprocess.run(command, cwd=home, check=True, capture_output=True, env=dict(os.environ))
    return gaps_ms(home / "diary")


def figures(gaps: list[float]) -> dict[str, float]:
    ordered = sorted(gaps)
    return {
        "median_ms": statistics.median(ordered),
        "p99_ms": ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
        "n": len(ordered),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--executors", default="local,process")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place, valkey(DURABLE) as server:
        home = Path(place)
        for kind, program in PROGRAMS.items():
            (home / f"{kind}.py").write_text(program)
        with fleet(server, home, agents=1, slots=1) as it:
            for kind in PROGRAMS:
                for executor in options.executors.split(","):
                    (home / "diary").unlink(missing_ok=True)
                    it.wait_ended(it.submit(study(kind, executor, options.trials), home), 600)
                    time.sleep(0.5)
                    rows[f"{kind}, executor {executor}"] = figures(gaps_ms(home / "diary"))
        for kind in PROGRAMS:
            rows[f"{kind}, bare loop of processes"] = figures(
                bare_ms(home, kind, max(10, options.trials // 2))
            )
    if options.json:
        print(json.dumps(rows))
        return
    for name, row in rows.items():
        print(f"{name:36} median {row['median_ms']:7.1f} ms   p99 {row['p99_ms']:7.1f} ms   n={row['n']:.0f}")


if __name__ == "__main__":
    main()
