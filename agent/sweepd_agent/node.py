"""What runs on this machine: every attempt from its Assign to the acknowledgement of its end.

The link, the channel and the clock bring events; the state machine of the attempt answers with
actions; the actions are carried out here, and what takes time among them becomes a task that
comes back with the next event. Everything runs in the event loop; what blocks goes to threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from sweepd import __version__, processes
from sweepd.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    AgentMessage,
    Assign,
    CoordinatorMessage,
    Decide,
    Decline,
    Finished,
    Hello,
    Job,
    Leave,
    Renew,
    Reports,
    Resources,
    Revoke,
    Suggested,
    Welcome,
)
from sweepd.states import AttemptOutcome, FailureClass, Verdict
from sweepd_agent import machine
from sweepd_agent.channel import Channel
from sweepd_agent.core.attempt import (
    Action,
    AttemptEvent,
    Decided,
    Gone,
    KillTree,
    Launch,
    Overdue,
    Patience,
    Prepared,
    Refused,
    Revoked,
    Settle,
    Stage,
    StopSupervisor,
    Supervised,
    TellJob,
)
from sweepd_agent.core.ends import Evidence, finished, judge_end
from sweepd_agent.core.slots import Slots
from sweepd_agent.directory import AttemptDirectory
from sweepd_agent.gpus import Gpus
from sweepd_agent.interpreters import Interpreters
from sweepd_agent.launch.client import LaunchError
from sweepd_agent.metrics import Metrics
from sweepd_agent.run import Run
from sweepd_agent.spool import Debt, Spool

RENEWALS_PER_LEASE = 3
POLL_S = 2.0  #: how often reports are looked for without being told of them
HEARING_S = 2.0  #: how long a supervisor that has started may take to connect
KILL_LOOK_S = 5.0  #: how long one look at what will not die takes
MEMORY_PATIENCE_S = 30.0  #: how long the memory of a device may take to come back before it is said
MEMORY_POLL_S = (0.05, 10.0)  #: how often it is looked at, at first and at most
DISTRIBUTION_LIMIT_BYTES = 128 * 1024  #: of a suggested parameter: it must fit into one message

log = logging.getLogger("sweepd.agent")


class Starter(Protocol):
    """Starts the supervisor of an attempt, by its executor; raises LaunchError."""

    async def __call__(self, executor: str, directory: Path) -> None: ...


class Node:
    """See the module. *tasks*: where its tasks live; *wake*: called when there is something to say."""

    def __init__(
        self,
        *,
        state: Path,
        slots: Slots,
        labels: dict[str, str],
        patience: Patience,
        spool: Spool,
        gpus: Gpus,
        channel: Channel,
        metrics: Metrics,
        start: Starter,
        tasks: anyio.abc.TaskGroup,
        wake: Callable[[], None],
    ) -> None:
        self.slots = slots
        self._state, self._labels, self._patience = state, labels, patience
        self._spool, self._gpus, self._channel, self._metrics = spool, gpus, channel, metrics
        self._start_supervisor, self._tasks, self._wake = start, tasks, wake
        self._interpreters = Interpreters(state)
        self._runs: dict[str, Run] = {}
        self._dirty: dict[str, Run] = {}  #: those that may have something to say, longest waiting first
        self._offer_wanted = self._renewal_due = self._leave_wanted = False
        self._renewals = 0  #: sent and not acknowledged
        self._renewed_at = 0.0
        self._lease_ttl_s = 30.0
        self._settled = anyio.Event()
        self.left = anyio.Event()  #: the coordinator has acknowledged our Leave

    # --- the life of the node ---------------------------------------------------------------------

    def recover(self) -> None:
        """Take over what an earlier agent on this state directory owes: stop what runs, send the ends."""
        for debt in self._spool.owed:
            self._recover(debt)

    async def tick(self) -> None:
        """Renew leases in time and look for reports of jobs whose channel is gone, until cancelled."""
        now_s = anyio.current_time
        while True:
            await anyio.sleep(min(POLL_S, self._lease_ttl_s / RENEWALS_PER_LEASE))
            for run in self._runs.values():
                if run.tail.behind:
                    self._touch(run)
            since_s = now_s() - self._renewed_at
            # One renewal on its way is enough: a coordinator that is away must not come back to a
            # heap of them. A lost one is found by the gap that the next one leaves.
            patience_s = self._lease_ttl_s if self._renewals else self._lease_ttl_s / RENEWALS_PER_LEASE
            if since_s >= patience_s - POLL_S / 2:
                self._renewal_due = True
                self._wake()

    def leave(self, outcome: AttemptOutcome, reason: str) -> None:
        """Take nothing more, and end what runs."""
        self.slots.close()
        self._offer_wanted = True
        for run in self._runs.values():
            if run.live:
                self._feed(run, Revoked(outcome, reason))
        self._wake()

    async def all_settled(self) -> None:
        """Wait until every attempt has ended and its end is durable."""
        while any(run.ending is None for run in self._runs.values()):
            await self._settled.wait()

    def say_goodbye(self) -> None:
        """Say Leave after everything else."""
        self._leave_wanted = True
        self._wake()

    def hurry(self) -> None:
        """Have the supervisors kill everything without grace, and let nothing start any more."""
        for run in self._runs.values():
            if run.live and run.heard.is_set():
                self._do(run, StopSupervisor(0.0))
            elif run.live:
                self._spawn(self._kill, run)

    def kill_all(self) -> None:
        """Kill everything ourselves."""
        for run in self._runs.values():
            if run.live:
                self._spawn(self._kill, run)

    @property
    def running(self) -> int:
        """Attempts whose end is not durable yet."""
        return sum(run.ending is None for run in self._runs.values())

    # --- the link's side --------------------------------------------------------------------------

    def hello(self) -> Hello:
        self.slots.begin_session()
        self._offer_wanted = self._renewal_due = False
        self._renewals = 0
        for run in self._runs.values():
            run.begin_session()
            self._touch(run)
        return Hello(
            PROTOCOL_MIN,
            PROTOCOL_MAX,
            host=machine.host(),
            boot_id=processes.boot_id(),
            slots=self.slots.total,
            devices=list(self.slots.devices.values()),
            labels=self._labels,
            running=[run.as_running for run in self._runs.values()],
            version=__version__,
        )

    def next_message(self) -> AgentMessage | None:
        if self._renewal_due:
            # Before all else: jobs that report without a pause must not cost their own leases.
            self._renewal_due = False
            self._renewals += 1
            self._renewed_at = anyio.current_time()
            return Renew([run.token for run in self._runs.values() if not run.ending_said])
        # Nor the slots that are free; but the ends that an offer gives back come before it.
        if self._offer_wanted and not any(run.ending_due for run in self._runs.values()):
            self._offer_wanted = False
            return self.slots.offer()
        while self._dirty:
            token = next(iter(self._dirty))
            run = self._dirty.pop(token)
            message = run.next_message()
            if message is not None:
                self._dirty[token] = run  # behind the others
                if isinstance(message, Reports):
                    self._metrics.reports.inc(len(message.points))
                return message
        if self._leave_wanted:
            self._leave_wanted = False
            return Leave("the agent was stopped")
        return None

    def received(self, message: CoordinatorMessage) -> None:
        match message:
            case Welcome():
                self._welcome(message)
            case Assign():
                self._assign(message)
            case Decide(token, verdict, reports, reason):
                if run := self._live(token):
                    self._feed(run, Decided(verdict, reports, reason))
            case Revoke(token, outcome, reason):
                if run := self._live(token):
                    self._feed(run, Revoked(outcome, reason))
            case Suggested(token, name, value, error):
                if run := self._runs.get(token):
                    run.answered(name)
                    self._channel.answer(token, name, value, error)
            case _:
                raise AssertionError(f"the link handles {message}")

    def acknowledged(self, message: AgentMessage) -> None:
        match message:
            case Finished(token=token) | Decline(token=token):
                self._runs.pop(token, None)
                self._spool.forget(token)
            case Renew():
                self._renewals -= 1
                # Who should have answered a question may have died after it took it.
                for run in self._runs.values():
                    if run.asking:
                        run.ask_again()
                        self._touch(run)
            case Leave():
                self.left.set()
            case _:
                pass

    def _welcome(self, welcome: Welcome) -> None:
        self._lease_ttl_s = welcome.lease_ttl_s
        self._offer_wanted = self._renewal_due = True
        wanted = set(welcome.run)
        for run in self._runs.values():
            if run.token not in wanted and run.live:
                self._feed(run, Revoked(AttemptOutcome.SUPERSEDED, "the coordinator gave the trial away"))

    def _assign(self, assign: Assign) -> None:
        if assign.token in self._runs:
            return
        directory = AttemptDirectory.under(self._state, assign)
        run = Run.of(assign, directory, self._patience, anyio.current_time())
        self._runs[assign.token] = run
        refusal = self.slots.hold(assign.token, assign.resources, assign.devices)
        if refusal is not None:
            log.warning("attempt.declined %s reason=%s", run, refusal)
            self._metrics.declined.inc()
            run.declined = True
            self._spawn(self._decline, run, refusal)
            return
        log.info("attempt.assigned %s executor=%s devices=%s", run, assign.job.executor, assign.devices)
        self._spawn(self._prepare, run)

    # --- the channel's side -------------------------------------------------------------------------

    def supervisor_connected(self, token: str, job_pid: int) -> None:
        run = self._runs.get(token)
        if run is None or not run.live or run.machine.stage is Stage.ASSIGNED:
            # Nobody waits for it: its launch was given up, or an earlier agent's state is gone.
            log.warning("supervisor.unknown token=%s", token)
            self._channel.stop(token, self._patience.kill_s)
            return
        self._supervised(run, job_pid)

    def reported(self, token: str) -> None:
        if run := self._runs.get(token):
            self._touch(run)

    def asked(self, token: str, name: str, distribution: dict[str, Any]) -> None:
        run = self._live(token)
        if run is None:
            self._channel.answer(token, name, None, "this attempt holds no lease any more")
        elif len(msgspec.json.encode([name, distribution])) > DISTRIBUTION_LIMIT_BYTES:
            limit = f"name and distribution may have {DISTRIBUTION_LIMIT_BYTES} bytes"
            self._channel.answer(token, name, None, f"{name[:100]} is too large to be suggested: {limit}")
        else:
            run.asking[name] = distribution
            self._touch(run)

    # --- events in, actions out ---------------------------------------------------------------------

    def _live(self, token: str) -> Run | None:
        run = self._runs.get(token)
        return run if run is not None and run.live else None

    def _touch(self, run: Run) -> None:
        self._dirty[run.token] = run
        self._wake()

    def _spawn(self, function: Callable[..., Any], run: Run, *arguments: Any) -> None:
        self._tasks.start_soon(function, run, *arguments, name=f"{function.__name__.strip('_')} {run}")

    def _feed(self, run: Run, event: AttemptEvent) -> None:
        before = run.machine.stage
        actions = run.machine.handle(event, anyio.current_time())
        if run.machine.stage is not before:
            log.debug("attempt.moved %s stage=%s event=%s", run, run.machine.stage.value, event)
        for action in actions:
            self._do(run, action)
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if run.machine.deadline_s is not None:
            run.timer = asyncio.get_running_loop().call_at(run.machine.deadline_s, self._feed, run, Overdue())

    def _do(self, run: Run, action: Action) -> None:
        match action:
            case Launch():
                self._spawn(self._launch, run)
                self._spawn(self._watch, run)
            case TellJob(verdict, reports, reason):
                self._channel.tell(run.token, verdict, reports, reason)
            case StopSupervisor(grace_s):
                log.info("attempt.stopping %s reason=%s", run, run.machine.orders.reason)
                if not self._channel.stop(run.token, grace_s) and (supervisor := run.directory.supervisor()):
                    processes.signal_process(supervisor, signal.SIGTERM)
            case KillTree():
                self._spawn(self._kill, run)
            case Settle():
                self._spawn(self._settle, run)

    def _supervised(self, run: Run, job_pid: int) -> None:
        if not run.heard.is_set():
            run.heard.set()
            run.job_pid = job_pid
            self._metrics.launch_s.observe(anyio.current_time() - run.since_s)
            log.info("attempt.started %s pid=%d", run, job_pid)
            self._touch(run)
        self._feed(run, Supervised())

    # --- what takes time ------------------------------------------------------------------------------

    async def _decline(self, run: Run, reason: str) -> None:
        assign = run.assign
        decline = Decline(assign.study, assign.trial, assign.attempt, assign.token, reason)
        await self._owe(run, decline)
        self._offer_wanted = True  # the coordinator thought otherwise

    async def _prepare(self, run: Run) -> None:
        try:
            await anyio.to_thread.run_sync(self._write, run)
        except OSError as error:
            self._feed(
                run, Refused(FailureClass.LAUNCH_ERROR, f"cannot prepare {run.directory.path}: {error}")
            )
        else:
            self._feed(run, Prepared())
        finally:
            run.prepared.set()

    def _write(self, run: Run) -> None:
        run.device_memory_mib = {uuid: self._gpus.memory_used_mib(uuid) for uuid in run.assign.devices}
        run.oom_kills = machine.oom_kills()
        run.directory.write(
            run.assign,
            channel=self._channel.path,
            stop_grace_s=self._patience.stop_s,
            kill_grace_s=self._patience.kill_s,
            sweepd_path=self._interpreters.sweepd_path(run.assign.job),
            device_memory_mib=run.device_memory_mib,
        )
        self._spool.take(run.token, run.directory.path)

    async def _launch(self, run: Run) -> None:
        try:
            await self._start_supervisor(run.assign.job.executor, run.directory.path)
        except LaunchError as error:
            log.warning("attempt.refused %s class=%s error=%s", run, error.failure.value, error)
            self._feed(run, Refused(error.failure, str(error)))

    async def _watch(self, run: Run) -> None:
        """Wait for the supervisor to start and then for its death."""
        pause_s = 0.01
        while not run.directory.used:
            if run.machine.stage is Stage.ENDED:
                return
            with anyio.move_on_after(pause_s):
                await run.heard.wait()
            pause_s = min(2 * pause_s, 0.25)
            if run.heard.is_set():
                break
        if supervisor := run.directory.supervisor():
            with anyio.move_on_after(HEARING_S):
                await run.heard.wait()
            if not run.heard.is_set():
                log.warning("supervisor.unheard %s pid=%d", run, supervisor.pid)
                self._supervised(run, 0)
            await _death(supervisor)
        if run.directory.ended:
            self._feed(run, Gone())
        elif run.machine.stage not in (Stage.KILLING, Stage.ENDED):
            log.warning("supervisor.killed %s", run)
            await self._kill(run)

    async def _kill(self, run: Run) -> None:
        """Kill what is left until nothing is. The state machine asks again while this fails."""
        if await anyio.to_thread.run_sync(run.directory.kill, KILL_LOOK_S):
            self._feed(run, Gone())
        else:
            log.error("attempt.undead %s directory=%s", run, run.directory.path)

    async def _settle(self, run: Run) -> None:
        """Judge the end, make it durable, and give back what the attempt held."""
        await run.prepared.wait()
        attempt = run.machine
        evidence = await anyio.to_thread.run_sync(self._evidence, run)
        end = judge_end(run.assign.job.kind, evidence, attempt.orders)
        self._metrics.ended(end.outcome)
        log.info(
            "attempt.ended %s outcome=%s failure=%s message=%s",
            run, end.outcome.value, end.failure and end.failure.value, end.message.strip()[-200:],
        )  # fmt: skip
        back = [uuid for uuid in run.assign.devices if await self._memory_is_back(run, uuid)]
        await self._owe(run, finished(run.assign, end, evidence))
        # Nothing waits from here on: the offer follows the end, in the same batch if there is room.
        for uuid in self.slots.release(run.token):
            if uuid in back:
                self.slots.give_back(uuid)
            else:
                self._spawn(self._look_after, run, uuid)
        self._offer_wanted = True

    def _evidence(self, run: Run) -> Evidence:
        return run.directory.evidence(
            out_of_memory=machine.oom_kills() > run.oom_kills, refusal=run.machine.refusal
        )

    async def _owe(self, run: Run, message: Finished | Decline) -> None:
        try:
            await anyio.to_thread.run_sync(self._spool.put, message, run.directory.path)
        except OSError as error:
            # The end is worth more than its durability: it is sent, and kept in memory until then.
            log.error("spool.failed %s error=%s", run, error)
        self._channel.forget(run.token)
        run.ending = message
        self._settled.set()
        self._settled = anyio.Event()
        self._touch(run)

    async def _memory_is_back(self, run: Run, uuid: str) -> bool:
        before_mib = run.device_memory_mib.get(uuid)
        return await anyio.to_thread.run_sync(self._gpus.memory_is_back, uuid, before_mib)

    async def _look_after(self, run: Run, uuid: str) -> None:
        """Wait for the memory of a device to come back; until then it is not offered."""
        pause_s, longest_s = MEMORY_POLL_S
        deadline_s, said = anyio.current_time() + MEMORY_PATIENCE_S, False
        while not await self._memory_is_back(run, uuid):
            if not said and anyio.current_time() >= deadline_s:
                said = True
                log.error(
                    "device.withheld uuid=%s used_mib=%s before_mib=%s last=%s",
                    uuid, self._gpus.memory_used_mib(uuid), run.device_memory_mib.get(uuid), run,
                )  # fmt: skip
            await anyio.sleep(pause_s)
            pause_s = min(2 * pause_s, longest_s)
        if said:
            log.info("device.back uuid=%s", uuid)
        self.slots.give_back(uuid)
        self._offer_wanted = True
        self._wake()

    # --- after a restart ------------------------------------------------------------------------------

    def _recover(self, debt: Debt) -> None:
        directory = AttemptDirectory(Path(debt.directory))
        written = directory.written()
        if debt.message is not None:
            self._recover_end(debt.message, directory)
        elif written is None:
            log.error("attempt.forgotten token=%s directory=%s", debt.token, debt.directory)
            self._spool.forget(debt.token)
        else:
            self._recover_attempt(*written, directory)

    def _recover_end(self, message: Finished | Decline, directory: AttemptDirectory) -> None:
        assign = Assign(
            0, message.study, "", message.trial, message.attempt, message.token, {}, Job("", ""), Resources()
        )
        run = Run.of(assign, directory, self._patience, anyio.current_time())
        run.machine.handle(Revoked(AttemptOutcome.PREEMPTED, ""), run.since_s)  # it has ended
        run.ending = message
        self._runs[run.token] = run

    def _recover_attempt(
        self, assign: Assign, device_memory_mib: dict[str, int | None], directory: AttemptDirectory
    ) -> None:
        run = Run.of(assign, directory, self._patience, anyio.current_time())
        run.device_memory_mib, run.oom_kills = device_memory_mib, machine.oom_kills()
        run.prepared.set()
        run.heard.set()
        self._runs[run.token] = run
        self.slots.adopt(run.token, assign.resources, assign.devices)
        # Up to here it went without us; what that asks for has been done.
        run.machine.handle(Prepared(), run.since_s)
        run.machine.handle(Supervised(), run.since_s)
        if directory.stop_seen:
            run.machine.handle(Decided(Verdict.STOP, 0, "the scheduler stopped it"), run.since_s)
        if directory.ended and directory.supervisor() is None:
            self._feed(run, Gone())
            return
        log.info("attempt.recovered %s directory=%s", run, directory.path)
        self._feed(run, Revoked(AttemptOutcome.PREEMPTED, "the agent was restarted"))
        self._spawn(self._watch if directory.used else self._kill, run)


async def _death(process: processes.Process) -> None:
    """Wait until *process* is dead, and reap it if it became our child."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if processes.is_alive(process):  # and so the handle is its own
            await anyio.wait_readable(handle)
    finally:
        os.close(handle)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)  # noqa: ASYNC222  it does not wait
