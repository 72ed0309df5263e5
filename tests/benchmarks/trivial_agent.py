"""Agents that run nothing: they take trials from a real coordinator through a real Redis.

Seven messages a trial, each report an inbox entry of its own, as a real agent sends them whose
jobs report one after the other: Started, four Reports, Finished and the next Offer.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import redis.asyncio as aioredis

from sweepd import messages as m
from sweepd.keys import Keys
from sweepd.states import AttemptOutcome

REPORTS = 4


class TrivialAgent:
    """One agent with one slot (*slots* at once)."""

    def __init__(self, url: str, name: str, slots: int, keys: Keys) -> None:
        self._redis = aioredis.Redis.from_url(url, protocol=2)
        self._blocking = aioredis.Redis.from_url(url, socket_timeout=None, protocol=2)
        self._name, self._slots, self._keys = name, slots, keys
        self._session = f"session-{name}"
        self._seq = 0
        self._seen = 0
        self._offers = 0
        self._free = slots

    def _envelope(self, *said: m.AgentMessage) -> bytes:
        batch = m.AgentBatch(self._name, self._session, self._seq + 1, self._seen, list(said))
        self._seq += len(said)
        return m.encode(batch)

    def _offer(self) -> m.Offer:
        self._offers += 1
        return m.Offer(self._offers, self._free)

    def _run(self, assign: m.Assign) -> list[bytes]:
        key = (assign.study, assign.trial, assign.attempt, assign.token)
        x = float(next(iter(assign.params.values())))
        sent = [self._envelope(m.Started(*key))]
        for step in range(1, REPORTS + 1):
            sent.append(self._envelope(m.Reports(*key, [m.Point(step, step, {"loss": x / step})])))
        finished = m.Finished(*key, AttemptOutcome.FINISHED, values={"loss": x})
        sent.append(self._envelope(finished, self._offer()))
        return sent

    async def _send(self, entries: list[bytes]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for entry in entries:
            pipeline.xadd(self._keys.inbox, {"e": entry})
        await pipeline.execute()

    async def run(self) -> None:
        """Serve until cancelled."""
        hello = m.Hello(1, 1, self._name, "boot", self._slots)
        await self._send([self._envelope(hello), self._envelope(self._offer())])
        outbox, last = self._keys.outbox(self._name), "0-0"
        try:
            while True:
                place: dict[Any, Any] = {outbox: last}
                found: Any = await self._blocking.xread(place, count=100, block=1000)
                work: list[bytes] = []
                for entry_id, fields in found[0][1] if found else []:
                    last = entry_id.decode()
                    entry = m.decode_outbox(fields[b"e"])
                    self._seen = entry.number
                    for message in entry.messages:
                        if isinstance(message, m.Assign):
                            work += self._run(message)
                if work:
                    await self._send(work)
        finally:
            await self._redis.aclose()
            await self._blocking.aclose()


async def serve(url: str, names: list[str], slots: int) -> None:
    """Run agents of these names in this process until it is ended."""
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(TrivialAgent(url, name, slots, Keys()).run())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--names", required=True, help="separated by commas")
    parser.add_argument("--slots", type=int, default=1)
    options = parser.parse_args()
    asyncio.run(serve(options.url, options.names.split(","), options.slots))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(0)
