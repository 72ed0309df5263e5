"""Wait for a condition, not for a while; a wait that fails prints what it saw."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")

POLL_S = 0.01


class WaitFailed(AssertionError):
    """The condition did not come true in time."""


def _failure(condition: Callable[[], Any], timeout_s: float, last: object, seen: object) -> WaitFailed:
    name = getattr(condition, "__qualname__", repr(condition))
    told = "" if seen is None else f"; saw: {seen}"
    return WaitFailed(f"not true within {timeout_s:g} s: {name} (last: {last!r}){told}")


def wait_until(
    condition: Callable[[], T | None],
    timeout_s: float = 10.0,
    describe: Callable[[], object] | None = None,
) -> T:
    """Call *condition* until it returns something true, and return that.

    Raises :class:`WaitFailed` after *timeout_s* with the last result and what *describe*
    returns then. An exception of *condition* is raised at once: conditions say False, not boom.
    """
    deadline = time.monotonic() + timeout_s
    while not (last := condition()):
        if time.monotonic() >= deadline:
            raise _failure(condition, timeout_s, last, describe() if describe else None)
        time.sleep(POLL_S)
    return last


async def wait_until_async(
    condition: Callable[[], T | Awaitable[T | None] | None],
    timeout_s: float = 10.0,
    describe: Callable[[], object | Awaitable[object]] | None = None,
) -> T:
    """As :func:`wait_until`, inside an event loop; *condition* and *describe* may be coroutines."""
    deadline = time.monotonic() + timeout_s
    while not (last := await _settled(condition())):
        if time.monotonic() >= deadline:
            seen = await _settled(describe()) if describe else None
            raise _failure(condition, timeout_s, last, seen)
        await asyncio.sleep(POLL_S)
    return last


async def _settled(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
