"""The one place of the tests that waits: for a predicate, never for a duration."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

_POLL_S = 0.005


async def until(
    predicate: Callable[[], object | Awaitable[object]], reason: str, timeout_s: float = 10.0
) -> None:
    """Return as soon as the predicate is true; fail with the reason when it stays false.

    The predicate may be a coroutine function.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while True:
        answer = predicate()
        if inspect.isawaitable(answer):
            answer = await answer
        if answer:
            return
        if loop.time() > end:
            raise AssertionError(f"Waited {timeout_s:g} s for {reason}.")
        await asyncio.sleep(_POLL_S)
