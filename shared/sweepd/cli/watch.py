"""`watch`: a study's progress, from any machine that reaches the store."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from sweepd.cli import options, screen
from sweepd.cli.connect import Where, live
from sweepd.cli.progress import at_rest, watching
from sweepd.cli.summary import print_result
from sweepd.client import Client
from sweepd.follow import Follower


def watch(
    study: options.StudyName,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
    events: Annotated[
        bool, typer.Option("--events", help="Print each event of the study as a line of JSON.")
    ] = False,
) -> None:
    """Follow a study until it rests. Ctrl-C leaves it alone."""
    with live(Where(redis, namespace, state)) as client:
        found = client.study(study)
        if events:
            _print_events(client, found.id)
            return
        follower = Follower(client, found.id)
        with watching(screen.stderr()) as view:
            view.show(follower, list(follower.trials.values()))
            while not at_rest(follower.record):
                view.show(follower, follower.update(block_s=0.25))
        if as_json:
            screen.print_json(found.show())
        else:
            print_result(follower)


def _print_events(client: Client, study: str) -> None:
    after = client.feed_end()
    resting = False
    while not resting:
        # Looked at before the feed is read: the last events come after the last change of state.
        resting = at_rest(client.record(study))
        for entry_id, entry in client.feed(after, block_s=0.0 if resting else 1.0):
            after = entry_id
            for event in entry.events:
                if event.study == study:
                    print(msgspec.json.encode(event).decode(), flush=True)
