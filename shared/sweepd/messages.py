"""What agents, clients and the coordinator say to each other.

Every message is a frozen struct whose tag (`type`) is its class's name in snake case. Structs
of the wire are tolerant of unknown fields, so that an older reader understands a newer writer;
what users write (`spec.py`) is strict.

JSON has no NaN: a number on the wire that is not finite is the string `nan`, `inf` or `-inf`
(:func:`encode_number`, :func:`decode_number`).
"""

from __future__ import annotations

import math
from typing import Any, Union

import msgspec

from sweepd.states import AttemptOutcome, FailureClass, Verdict

PROTOCOL_MIN = 1
PROTOCOL_MAX = 1

MESSAGE_LIMIT_BYTES = 256 * 1024  #: an inbox entry larger than this is refused by its sender
UNACKNOWLEDGED_MESSAGES = 1_000  #: what one agent may have in Redis without an acknowledgement
UNACKNOWLEDGED_BYTES = 1024 * 1024

Number = Union[float, str]


def encode_number(value: float) -> Number:
    """Return *value*, or its name if JSON cannot carry it."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


def decode_number(value: Number) -> float:
    """Return the float that :func:`encode_number` was given; raises ValueError on other text."""
    return float(value)


def _tag(name: str) -> str:
    return "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")


class _Message(msgspec.Struct, frozen=True, tag=_tag, tag_field="type", omit_defaults=True):
    """The base of all tagged messages."""


# --- what both sides describe -------------------------------------------------------------


class Device(msgspec.Struct, frozen=True, omit_defaults=True):
    """A GPU as its driver names it."""

    uuid: str
    name: str = ""
    memory_mib: int = 0


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One report of a job: its ordinal in the attempt (from 1), its step, its metrics."""

    ordinal: int
    step: int
    metrics: dict[str, Number]


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an attempt used, as the kernel counted it for the job and its descendants."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_mib: float = 0.0


class Job(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an agent needs to start an attempt; `kind` is objective, nemo or command."""

    kind: str
    target: str | list[str]
    args: dict[str, Any] = {}
    python: str | None = None  #: the interpreter of the job; the agent's own if None
    workdir: str = "."
    env: dict[str, str] = {}
    executor: str = "local"  #: local: a nemo_run experiment; process: a plain process
    objectives: list[list[str]] = []  #: [metric, direction] in the spec's order
    time_limit_s: float | None = None


class Resources(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one attempt takes of a node while it runs. A slot is always taken as well."""

    gpus: int = 0
    cpus: float = 0
    memory_mib: int = 0
    gpu_memory_mib: int = 0  #: a device smaller than this is not given to the trial
    labels: dict[str, str] = {}


class RunningAttempt(msgspec.Struct, frozen=True):
    """An attempt as an agent knows it."""

    study: str
    trial: int
    attempt: int
    token: str


# --- agent -> coordinator -------------------------------------------------------------------


class Hello(_Message, frozen=True):
    """The first message of a session. `running`: what the agent runs, or has an end for."""

    protocol_min: int
    protocol_max: int
    host: str
    boot_id: str
    slots: int
    devices: list[Device] = []
    labels: dict[str, str] = {}
    running: list[RunningAttempt] = []
    version: str = ""


class Offer(_Message, frozen=True):
    """The free capacity of an agent: absolute, replacing the offer before."""

    number: int
    slots: int
    devices: list[str] = []  #: UUIDs whose last job is dead and whose memory is back
    cpus: float = 0
    memory_mib: int = 0


class Renew(_Message, frozen=True):
    """These attempts still run."""

    tokens: list[str]


class Started(_Message, frozen=True):
    """The job's process exists."""

    study: str
    trial: int
    attempt: int
    token: str
    pid: int = 0
    log: str = ""  #: the path of the attempt's output on the agent's host


class Reports(_Message, frozen=True):
    """Points of one attempt, in the order of the job."""

    study: str
    trial: int
    attempt: int
    token: str
    points: list[Point]


class SuggestParameter(_Message, frozen=True):
    """A job asks for the value of a parameter that the study's space does not declare.

    `distribution` has the shape of a parameter in a spec: {"type": "float", "low": ...}.
    """

    study: str
    trial: int
    attempt: int
    token: str
    name: str
    distribution: dict[str, Any]


class Decline(_Message, frozen=True):
    """The agent does not start this attempt; the trial goes back to wait."""

    study: str
    trial: int
    attempt: int
    token: str
    reason: str


class Finished(_Message, frozen=True):
    """The attempt ended and its process tree is dead. It does not give its devices back: an Offer does.

    `values`: what the job returned, by metric; absent for jobs that only report.
    """

    study: str
    trial: int
    attempt: int
    token: str
    outcome: AttemptOutcome
    failure: FailureClass | None = None
    message: str = ""  #: the last lines of a failure: traceback, signal, limit
    values: dict[str, Number] | None = None
    attributes: dict[str, Any] = {}  #: user attributes that the job set
    usage: Usage = Usage()


class Leave(_Message, frozen=True):
    """The agent goes; nothing of it runs any more."""

    reason: str = ""


AgentMessage = Union[Hello, Offer, Renew, Started, Reports, SuggestParameter, Decline, Finished, Leave]


# --- client -> coordinator -------------------------------------------------------------------


class SubmitStudy(_Message, frozen=True):
    """Create a study, or go on with the one of that name. `spec`: as `sweepd.spec.to_builtins`."""

    spec: dict[str, Any]
    new: bool = False  #: create another study although the name is taken


class PauseStudy(_Message, frozen=True):
    """Lease nothing more; running attempts give their slots back (outcome preempted)."""

    study: str
    reason: str = ""


class ResumeStudy(_Message, frozen=True):
    """Go on with a paused study."""

    study: str


class CancelStudy(_Message, frozen=True):
    """End the study and its running attempts; its waiting trials are cancelled."""

    study: str
    reason: str = ""


ClientMessage = Union[SubmitStudy, PauseStudy, ResumeStudy, CancelStudy]


# --- envelopes of the inbox ------------------------------------------------------------------


class AgentBatch(_Message, frozen=True):
    """Messages of one agent's session, numbered first_seq, first_seq + 1, ...

    A batch that starts with Hello opens a session; its Hello has the number 1.
    `outbox_seen`: the number of the last outbox entry that the agent has processed.
    """

    agent: str
    session: str
    first_seq: int
    outbox_seen: int
    messages: list[AgentMessage]
    version: int = 1


class ClientRequest(_Message, frozen=True):
    """A request; its answer is stored under the request's id, which also makes it idempotent."""

    request_id: str
    request: ClientMessage
    version: int = 1


Envelope = Union[AgentBatch, ClientRequest]


# --- coordinator -> agent --------------------------------------------------------------------


class Welcome(_Message, frozen=True):
    """The answer to Hello. Every attempt that is not in `run` must be stopped."""

    protocol: int
    run: list[str]  #: tokens
    lease_ttl_s: float


class Refuse(_Message, frozen=True):
    """This session cannot be served; the agent ends with the reason."""

    reason: str


class Assign(_Message, frozen=True):
    """Start this attempt."""

    offer: int
    study: str
    study_name: str
    trial: int
    attempt: int
    token: str
    params: dict[str, Any]
    job: Job
    resources: Resources
    devices: list[str] = []
    declared: bool = True  #: False: the study has no space, the job suggests as it goes


class Decide(_Message, frozen=True):
    """The scheduler's verdict on a trial after `reports` reports."""

    token: str
    verdict: Verdict
    reports: int
    reason: str = ""


class Revoke(_Message, frozen=True):
    """Stop this attempt; its end is `outcome` (superseded, cancelled or preempted)."""

    token: str
    outcome: AttemptOutcome
    reason: str = ""


class Suggested(_Message, frozen=True):
    """The answer to SuggestParameter."""

    token: str
    name: str
    value: Any = None
    error: str = ""


CoordinatorMessage = Union[Welcome, Refuse, Assign, Decide, Revoke, Suggested]


class OutboxEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one commit says to one agent.

    `acknowledged`: every message of `session` up to this number is durable and done with.
    `resend_from`: a gap was seen; send again from this number.
    """

    number: int
    session: str
    acknowledged: int
    messages: list[CoordinatorMessage] = []
    resend_from: int | None = None
    version: int = 1


class Reply(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a ClientRequest. `error` is empty when it was done."""

    request_id: str
    study: str = ""
    name: str = ""
    created: bool = False
    resumed: bool = False
    state: str = ""
    error: str = ""


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the feed: what happened. `kind` is dotted: trial.leased, trial.reported, ..."""

    kind: str
    study: str = ""
    trial: int | None = None
    attempt: int | None = None
    agent: str = ""
    data: dict[str, Any] = {}


class FeedEntry(msgspec.Struct, frozen=True):
    """What one commit did, in order."""

    commit: int
    at: float  #: seconds since 1970, of the coordinator's clock
    events: list[Event]


_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(Envelope)
_outbox_decoder = msgspec.json.Decoder(OutboxEntry)
_reply_decoder = msgspec.json.Decoder(Reply)
_feed_decoder = msgspec.json.Decoder(FeedEntry)


def encode(value: msgspec.Struct) -> bytes:
    """Return *value* as JSON."""
    return _encoder.encode(value)


def decode_envelope(data: bytes) -> Envelope:
    """Decode an entry of the inbox; raises msgspec.ValidationError or msgspec.DecodeError."""
    return _envelope_decoder.decode(data)


def decode_outbox(data: bytes) -> OutboxEntry:
    """Decode an entry of an outbox."""
    return _outbox_decoder.decode(data)


def decode_reply(data: bytes) -> Reply:
    """Decode the answer to a request."""
    return _reply_decoder.decode(data)


def decode_feed(data: bytes) -> FeedEntry:
    """Decode an entry of the feed."""
    return _feed_decoder.decode(data)
