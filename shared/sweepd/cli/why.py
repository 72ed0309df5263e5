"""`why`: where a trial is, and how it came there."""

from __future__ import annotations

import time

from sweepd import explain
from sweepd.cli import options, screen
from sweepd.cli.connect import Where, reading


def why(
    study: options.StudyName,
    trial: options.TrialNumber,
    redis: options.Redis = None,
    namespace: options.Namespace = "sweepd",
    state: options.State = None,
    as_json: options.Json = False,
) -> None:
    """Tell why a trial is where it is."""
    with reading(Where(redis, namespace, state)) as client:
        found = client.study(study)
        record, facts = found.record(), client.facts(found.id)
        told = client.trial(found.id, trial)
    sentences = explain.why(told, record, facts, time.time())
    answer = {
        "study": record.id,
        "number": told.number,
        "state": told.state.value,
        "reason": told.reason,
        "sentences": sentences,
    }
    if not screen.object_or(answer, as_json):
        screen.plain_lines(sentences)
