"""Leadership: stand by until it is free, keep it, give it back.

What keeps two coordinators from writing is the fence in the store, which every commit proves.
The term is only about who tries: a leader whose term ran out while nobody took it goes on.
"""

from __future__ import annotations

import logging
import random
import secrets

import anyio

from sweepd.errors import Fenced, StoreUnreachable
from sweepd.store import Fence, Store
from sweepd_coordinator.backoff import Backoff

log = logging.getLogger("sweepd.coordinator")

#: Renewals per term: two may fail.
RENEWALS = 3
#: How long a leader that leaves tries to say so. Without it the next one waits for the term's end.
RESIGN_S = 2.0


async def stand_by(store: Store, ttl_s: float, backoff: Backoff) -> Fence:
    """Wait until this coordinator leads; return the proof. Each call makes a token of its own."""
    token = secrets.token_hex(16)
    told = reachable = True
    while True:
        try:
            fence = await store.lead(token, ttl_s)
        except StoreUnreachable as error:
            if reachable:
                log.warning("store.unreachable error=%s", error)
            reachable = False
            await anyio.sleep(backoff.next_s())
            continue
        if not reachable:
            log.info("store.back")
        reachable = True
        backoff.reset()
        if fence is not None:
            return fence
        if told:
            log.info("coordinator.standing_by")
            told = False
        # Apart from each other, so that of several that stand by not all ask at once.
        await anyio.sleep(ttl_s / RENEWALS * random.uniform(0.5, 1.0))


async def keep(store: Store, fence: Fence, ttl_s: float) -> None:
    """Renew the term until it is lost; then raise Fenced. A store that is away is no loss."""
    while True:
        await anyio.sleep(ttl_s / RENEWALS)
        try:
            kept = await store.renew(fence, ttl_s)
        except StoreUnreachable as error:
            log.debug("leader.not_renewed error=%s", error)
            continue
        if not kept:
            raise Fenced


async def resign(store: Store, fence: Fence) -> None:
    """Give the leadership back, also while being cancelled; gives up after RESIGN_S."""
    with anyio.move_on_after(RESIGN_S, shield=True):
        try:
            await store.resign(fence)
        except StoreUnreachable as error:
            log.debug("leader.not_resigned error=%s", error)
