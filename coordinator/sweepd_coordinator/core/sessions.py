"""What agents say, and what follows from it."""

from __future__ import annotations

from typing import Any

import msgspec

from sweepd import space
from sweepd.errors import SpecError
from sweepd.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    AgentBatch,
    AgentMessage,
    Decide,
    Decline,
    Finished,
    Hello,
    Leave,
    Offer,
    Point,
    Refuse,
    Renew,
    Reports,
    Revoke,
    Started,
    Suggested,
    SuggestParameter,
    Welcome,
    decode_number,
    encode_number,
)
from sweepd.records import AgentRecord, CurvePoint
from sweepd.states import AttemptOutcome, Verdict
from sweepd_coordinator.core.agents import Agent, Hearing
from sweepd_coordinator.core.changes import AskOne, OneSuggestion
from sweepd_coordinator.core.leases import Lease
from sweepd_coordinator.core.ledger import Ledger
from sweepd_coordinator.core.study import Study
from sweepd_coordinator.core.trial import Trial


def hear(ledger: Ledger, batch: AgentBatch) -> None:
    """Handle one batch of an agent's messages."""
    opening = batch.messages[0] if batch.messages else None
    agent = ledger.agents.get(batch.agent)
    if isinstance(opening, Hello) and (agent is None or agent.record.session != batch.session):
        agent = _open_session(ledger, agent, batch, opening)
        if agent is None:
            return
    if agent is None:
        agent = _stranger(ledger, batch)
        ledger.send(agent, Refuse("the coordinator does not know this session: start the agent again"))
        return
    hearing, fresh = agent.hear(batch)
    if hearing is Hearing.STALE:
        # The agent that replaced it owns the outbox; the old one sees the new session's Welcome there.
        ledger.superseded += 1
        ledger.event("message.superseded", agent=batch.agent, type="session")
        return
    agent.seen_s = ledger.now_s
    agent.record.last_seen_at = ledger.wall_s
    if batch.outbox_seen > agent.record.outbox_seen:
        agent.saw(batch.outbox_seen)
        ledger.changes.outbox_seen[batch.agent] = batch.outbox_seen
    if agent.record.state == "lost":
        agent.record.state = "connected"
        ledger.event("agent.connected", agent=batch.agent)
    ledger.entry(agent)  # the acknowledgement
    if hearing is Hearing.GAP:
        ledger.ask_again(agent, agent.record.last_seq + 1)
    for message in fresh:
        _handle(ledger, agent, message)


def _open_session(ledger: Ledger, agent: Agent | None, batch: AgentBatch, hello: Hello) -> Agent | None:
    """Open a session; the newest of an agent's sessions wins. None if it must be refused."""
    if agent is None:
        agent = _stranger(ledger, batch)
    record = agent.record
    record.session = batch.session
    record.last_seq = batch.first_seq - 1
    if hello.protocol_max < PROTOCOL_MIN or hello.protocol_min > PROTOCOL_MAX:
        # The Refuse goes to the new session; its messages stay unread.
        ledger.send(
            agent,
            Refuse(
                f"this coordinator speaks protocol {PROTOCOL_MIN} to {PROTOCOL_MAX}, the agent "
                f"{hello.protocol_min} to {hello.protocol_max}: install matching versions of sweepd"
            ),
        )
        record.state = "left"
        record.offer = None
        return None
    record.host, record.boot_id, record.version = hello.host, hello.boot_id, hello.version
    record.slots, record.devices, record.labels = hello.slots, hello.devices, hello.labels
    record.offer, record.state = None, "connected"
    agent.in_flight = {}
    running = {attempt.token for attempt in hello.running}
    kept: list[str] = []
    for lease in ledger.leases.of_agent(batch.agent):
        if lease.token in running:
            ledger.leases.renew(lease, ledger.now_s)
            kept.append(lease.token)
        else:
            lose(ledger, lease, "its agent came back without it")
    ledger.send(agent, Welcome(protocol=PROTOCOL_MAX, run=sorted(kept), lease_ttl_s=ledger.leases.ttl_s))
    for token in sorted(kept):
        _remind(ledger, agent, token)
    ledger.event("agent.connected", agent=batch.agent)
    return agent


def _remind(ledger: Ledger, agent: Agent, token: str) -> None:
    """Give an attempt its standing order again: the new session reads no outbox entry of the old one."""
    found = ledger.lease_of(token)
    assert found is not None
    study, trial, _ = found
    record = trial.record
    if trial.attempt.revoked is not None:
        ledger.send(agent, Revoke(token, trial.attempt.revoked, study.record.reason))
    elif record.stop:
        ledger.send(agent, Decide(token, Verdict.STOP, record.reports, record.reason))


def _stranger(ledger: Ledger, batch: AgentBatch) -> Agent:
    agent = Agent(AgentRecord(id=batch.agent, host="", session=batch.session, state="left"), ledger.now_s)
    # An outbox of an earlier record may exist: entries must go on after what was seen there.
    agent.record.outbox = batch.outbox_seen
    ledger.agents[batch.agent] = agent
    return agent


def _handle(ledger: Ledger, agent: Agent, message: AgentMessage) -> None:
    match message:
        case Hello():
            return  # it opened the session
        case Offer():
            free = ledger.leases.free_devices(agent.record.host, message.devices)
            agent.offered(message, free)
        case Renew():
            _renew(ledger, agent, message)
        case Leave():
            agent.record.state = "left"
            agent.record.offer = None
            for lease in ledger.leases.of_agent(agent.record.id):
                end_given_back(ledger, lease, AttemptOutcome.PREEMPTED, message.reason or "its agent left")
            ledger.event("agent.left", agent=agent.record.id, reason=message.reason)
        case Started() | Reports() | SuggestParameter() | Decline() | Finished():  # pragma: no branch
            _of_attempt(ledger, agent, message)


def _renew(ledger: Ledger, agent: Agent, message: Renew) -> None:
    for token in message.tokens:
        lease = ledger.leases.get(token)
        if lease is not None and lease.agent == agent.record.id:
            ledger.leases.renew(lease, ledger.now_s)
        else:
            _supersede(ledger, agent, token, "renew")


def _supersede(ledger: Ledger, agent: Agent, token: str, what: str) -> None:
    ledger.superseded += 1
    ledger.event("message.superseded", agent=agent.record.id, type=what)
    ledger.send(agent, Revoke(token, AttemptOutcome.SUPERSEDED, "the attempt holds no lease"))


def _of_attempt(
    ledger: Ledger, agent: Agent, message: Started | Reports | SuggestParameter | Decline | Finished
) -> None:
    found = ledger.lease_of(message.token)
    if found is None or found[2].agent != agent.record.id:
        _supersede(ledger, agent, message.token, type(message).__name__.lower())
        return
    study, trial, lease = found
    ledger.leases.renew(lease, ledger.now_s)  # whoever speaks for an attempt has it
    match message:
        case Started():
            attempt = trial.attempt
            attempt.started_at, attempt.log = ledger.wall_s, message.log
            ledger.touch(study, trial)
            ledger.event(
                "trial.started", lease.study, lease.trial, attempt=attempt.attempt, agent=lease.agent
            )
        case Reports():
            _reports(ledger, agent, study, trial, message.points)
        case SuggestParameter():
            _suggest(ledger, agent, study, trial, message)
        case Decline():
            agent.record.offer = None  # it knows better: wait for its next offer
            end_given_back(ledger, lease, AttemptOutcome.PREEMPTED, f"declined: {message.reason}")
        case Finished():  # pragma: no branch
            ledger.end_attempt(lease, message)


def _reports(ledger: Ledger, agent: Agent, study: Study, trial: Trial, points: list[Point]) -> None:
    """Take reports in the order of the job; the feed hears of the newest of them only."""
    accepted: list[CurvePoint] = []
    for point in points:
        fresh = trial.accept(point, study.objective)
        if fresh is not None:
            accepted.append(fresh)
            _judge(ledger, agent, study, trial, point, fresh)
    if not accepted:
        return
    key = (study.record.id, trial.record.number)
    ledger.changes.points.setdefault(key, []).extend(accepted)
    newest = accepted[-1]
    ledger.event(
        "trial.reported",
        *key,
        attempt=newest.attempt,
        step=newest.step,
        metrics=newest.metrics,
        count=len(accepted),
    )


def _judge(
    ledger: Ledger, agent: Agent, study: Study, trial: Trial, point: Point, accepted: CurvePoint
) -> None:
    """Ask the scheduler about a report, unless the trial has its order already."""
    record = trial.record
    metric = study.spec.scheduler.metric or study.objective.metric
    if record.stop or metric not in accepted.metrics:
        return
    resource = _resource(study.spec.scheduler.resource, trial, point)
    if resource is None:
        return
    decision = study.scheduler.report(record.number, resource, decode_number(accepted.metrics[metric]))
    if decision.rung is not None and decision.value is not None:
        record.rung = decision.rung
        record.rungs[decision.rung] = encode_number(decision.value)
    if decision.verdict is Verdict.STOP:
        record.stop = decision.ending
        record.reason = decision.reason
    elif decision.rung is not None:
        record.reason = decision.reason
    if decision.reason:
        ledger.touch(study, trial)
        ledger.send(agent, Decide(trial.attempt.token, decision.verdict, point.ordinal, decision.reason))
        ledger.event(
            "trial.decided",
            study.record.id,
            record.number,
            attempt=accepted.attempt,
            verdict=decision.verdict.value,
            reason=decision.reason,
            reports=record.reports,
        )


def _resource(kind: str, trial: Trial, point: Point) -> float | None:
    """How much of the scheduler's resource the trial has spent; None if the report does not say."""
    if kind == "reports":
        return trial.record.reports
    if kind == "step":
        return point.step
    value = point.metrics.get(kind)
    return None if value is None else decode_number(value)


def _suggest(ledger: Ledger, agent: Agent, study: Study, trial: Trial, message: SuggestParameter) -> None:
    record, name = trial.record, message.name
    if name in record.params:
        ledger.send(agent, Suggested(message.token, name, record.params[name]))
        return
    if name in trial.asking:
        return
    try:
        distribution = space.from_distribution(message.distribution, name)
    except SpecError as error:
        ledger.send(agent, Suggested(message.token, name, error="; ".join(error.problems)))
        return
    trial.asking.add(name)
    ledger.note(AskOne(study.record.id, record.number, ledger.next_commit, message.token, name, distribution))


def suggested(ledger: Ledger, answer: OneSuggestion) -> None:
    """A parameter that a job asked for is there: record it, then answer.

    The trial may have ended meanwhile, or been leased again: then the parameter is kept for the
    new attempt, which asks for it under its own token.
    """
    ask = answer.ask
    study = ledger.studies.get(ask.study)
    trial = study.trials.get(ask.number) if study is not None else None
    if study is None or trial is None or ask.name not in trial.asking:
        return
    trial.asking.discard(ask.name)
    record = trial.record
    if not answer.error:
        record.params[ask.name] = answer.value
        record.distributions[ask.name] = msgspec.to_builtins(ask.distribution)
        record.cuts[ask.name] = ask.cut
        trial.distributions[ask.name] = ask.distribution
        ledger.touch(study, trial)
        ledger.pend(study, trial)
        ledger.event("trial.suggested", ask.study, ask.number, name=ask.name, value=answer.value)
    lease = ledger.leases.get(record.attempts[-1].token)
    if lease is not None:
        reply: dict[str, Any] = {"error": answer.error} if answer.error else {"value": answer.value}
        ledger.send(ledger.agents[lease.agent], Suggested(lease.token, ask.name, **reply))


def end_given_back(ledger: Ledger, lease: Lease, outcome: AttemptOutcome, reason: str) -> None:
    """End an attempt that nobody will report an end of."""
    trial = ledger.studies[lease.study].trials[lease.trial]
    ledger.end_attempt(
        lease,
        Finished(lease.study, lease.trial, trial.attempt.attempt, lease.token, outcome, message=reason),
    )


def lose(ledger: Ledger, lease: Lease, reason: str) -> None:
    """The attempt is gone without an end: its trial is tried again."""
    end_given_back(ledger, lease, AttemptOutcome.LOST, reason)
