"""`submit` and `cancel`: requests to a coordinator that runs somewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from sweepd.cli import options, screen
from sweepd.cli.connect import Where, live
from sweepd.cli.service import resting_service
from sweepd.study_file import load


def submit(
    file: options.File,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    new: options.New = False,
    as_json: options.Json = False,
) -> None:
    """Submit a study, or go on with the one of that name, and return."""
    spec = load(file)
    with live(Where(redis, namespace, state)) as client:
        study = client.submit(spec, new=new)
        reached = study.state
    answer = {
        "id": study.id,
        "name": study.name,
        "state": reached.value,
        "created": study.created,
        "resumed": study.resumed,
    }
    if screen.object_or(answer, as_json):
        return
    did = "submitted" if study.created else "resumed" if study.resumed else f"is {reached.value}"
    print(f"{study.name} {did} ({study.id}): follow it with `sweepd watch {study.name}`")


def cancel(
    study: options.StudyName,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Recorded with the study.")] = "",
    as_json: options.Json = False,
) -> None:
    """End a study: its waiting and its running trials are cancelled."""
    where = Where(redis, namespace, state)
    with resting_service(where) as url:
        rests = Where(url, namespace, state) if url else where
        with live(rests) as client:
            found = client.study(study)
            found.cancel(reason)
            answer = {"id": found.id, "name": found.name, "state": found.state.value}
    if not screen.object_or(answer, as_json):
        print(f"{found.name} ({found.id}) is {answer['state']}")
