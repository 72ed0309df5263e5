"""The launcher child: `python -m sweepd_agent.launch --supervisor PYTHON`.

It imports nemo_run once, and then forks itself for every attempt, so that an experiment starts
in tens of milliseconds. NeMo Run and users' recipes run in the forks only; this process keeps
no threads, no experiments and no user's code, and may die at any time without a job noticing.

JSON lines. The first it prints: {"ready": true, "nemo_run": VERSION} or {"ready": false,
"error": TEXT}. Then for each {"id": N, "op": "launch", "attempt": PATH of attempt.json} one
{"id": N, "ok": true} once the attempt's supervisor holds its lock, or {"id": N, "ok": false,
"class": "launch_error", "error": TEXT}; for {"id": N, "op": "ping"} {"id": N, "ok": true}. It
ends at the end of its input.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweepd.job import nemo
from sweepd.job.result import BadConfig


def main(arguments: list[str]) -> int:
    supervisor = arguments[arguments.index("--supervisor") + 1]
    answers = os.dup(1)
    os.dup2(2, 1)  # What anybody prints must not mix with the answers.
    try:
        version = nemo.import_nemo_run()
    except BadConfig as error:
        _say(answers, {"ready": False, "error": str(error)})
        return 1
    from sweepd_agent.launch import forks

    # The forks share what is here now, and so must not write to it, as a collection would.
    gc.collect()
    gc.freeze()
    # Nobody waits for the forks: they answer through a pipe, or by its end.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    _say(answers, {"ready": True, "nemo_run": version})
    _serve(answers, lambda attempt: forks.launch(str(Path(attempt).parent), supervisor))
    return 0


def _serve(answers: int, launch: Callable[[str], int]) -> None:
    """Fork for each request and pass on what the forks say, until the input ends."""
    selector = selectors.DefaultSelector()
    selector.register(0, selectors.EVENT_READ, None)
    requests = b""
    said: dict[int, bytes] = {}
    while True:
        for key, _ in selector.select():
            data = os.read(key.fd, 65536)
            if key.fd != 0:
                said[key.fd] = said.get(key.fd, b"") + data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _say(answers, {"id": key.data, **_outcome(said.pop(key.fd))})
                continue
            if not data:
                return
            *lines, requests = (requests + data).split(b"\n")
            for line in lines:
                request = json.loads(line)
                if request["op"] == "ping":
                    _say(answers, {"id": request["id"], "ok": True})
                else:
                    selector.register(launch(request["attempt"]), selectors.EVENT_READ, request["id"])


def _outcome(said: bytes) -> dict[str, Any]:
    if said == b"ok\n":
        return {"ok": True}
    error = said.decode(errors="replace").strip() or "the process that was to launch the attempt died"
    return {"ok": False, "class": "launch_error", "error": error}


def _say(answers: int, message: dict[str, Any]) -> None:
    os.write(answers, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
