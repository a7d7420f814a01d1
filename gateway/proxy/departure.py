"""Departures: a caller that leaves while its call runs.

The call goes on, because the upstream works on it and will want its money: what it has cost is
read from its end. That has a bound, after which the call is given up and what was seen is charged.
"""

import asyncio
from typing import Any

from msgspec import Struct

from gateway.proxy.body import Receive

# Most calls end sooner, and are never watched: a task for each would cost them more than this.
_WATCH_AFTER_S = 1.0
DRAIN_S = 30.0


class Departure(Struct, eq=False):
    """The caller of one call; ``is_over`` says that the call was cancelled because it has left.

    ``is_heard`` is false while its body is still read, which has the ear of the connection.
    ``is_due`` says that at the next look the call has run for so long that it is watched.
    """

    receive: Receive
    call: "asyncio.Task[Any] | None"
    is_heard: bool
    is_due: bool
    is_over: bool = False
    watching: "asyncio.Task[None] | None" = None

    def watch(self, drain_s: float) -> None:
        """Begin to wait until the caller leaves, and ``drain_s`` longer; may be repeated."""
        if self.watching is None:
            self.watching = asyncio.create_task(self._wait(drain_s), name="departure")

    async def _wait(self, drain_s: float) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        await asyncio.sleep(drain_s)
        if self.call is not None:
            self.is_over = True
            self.call.cancel()


class Departures:
    """Watches the callers of the calls that run: one look a second for all of them.

    A timer for each call would cost every short one its share.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, drain_s: float = DRAIN_S) -> None:
        self._loop = loop
        self._drain_s = drain_s
        self._running: set[Departure] = set()
        self._is_looking = False

    def begin(self, receive: Receive, *, is_heard: bool = True) -> Departure:
        """Watch the caller of the running task until ``end``, after which it has left too long.

        Nothing else may call ``receive`` meanwhile.
        """
        # The first look comes as long after it as a call must run to be watched; where looks go on,
        # it comes sooner, and the one behind it is meant.
        is_due = not self._is_looking
        departure = Departure(receive, asyncio.current_task(self._loop), is_heard, is_due)
        self._running.add(departure)
        if is_due:
            self._is_looking = True
            self._loop.call_later(_WATCH_AFTER_S, self._look)
        return departure

    def end(self, departure: Departure) -> None:
        """Stop watching a caller whose call has ended."""
        self._running.discard(departure)
        if departure.watching is not None:
            departure.watching.cancel()

    def _look(self) -> None:
        self._is_looking = bool(self._running)
        if self._running:
            for departure in self._running:
                if departure.is_due and departure.is_heard:
                    departure.watch(self._drain_s)
                departure.is_due = True
            self._loop.call_later(_WATCH_AFTER_S, self._look)
