"""Departures: a caller that leaves while its call runs.

The call goes on, because the upstream works on it and will want its money: what it has cost is
read from its end. That has a bound, after which the call is given up and what was seen is charged.
"""

import asyncio

from gateway.proxy.body import Receive

# Most calls end sooner, and are never watched: a task for each would cost them more than this.
_WATCH_AFTER_S = 1.0
DRAIN_S = 30.0


class Departure:
    """Watches the caller of the running task until ``close``; cancels it ``drain_s`` too late.

    Nothing else may call ``receive`` meanwhile. ``is_over`` says that the cancellation was ours.
    """

    __slots__ = ("_call", "_drain_s", "_receive", "_timer", "_watch", "is_over")

    def __init__(
        self, receive: Receive, loop: asyncio.AbstractEventLoop, drain_s: float = DRAIN_S
    ) -> None:
        self.is_over = False
        self._receive = receive
        self._drain_s = drain_s
        self._call = asyncio.current_task(loop)
        self._watch: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self._begin)

    def close(self) -> None:
        """Stop watching."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _begin(self) -> None:
        self._watch = asyncio.create_task(self._wait(), name="departure")

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(self._drain_s)
        if self._call is not None:
            self.is_over = True
            self._call.cancel()
