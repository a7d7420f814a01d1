"""Runners: tasks that serve one call after another.

To make a task and to forget it takes about 9,000 instructions, more than to know a head again:
before Python 3.12 asyncio keeps a weak set of all tasks, in Python.
"""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from gateway.proxy.cycle import KnownCycle
from gateway.proxy.invocation import Invocation
from gateway.proxy.outgoing import Outgoing

Serve = Callable[[Invocation, Callable[[], Awaitable[Any]], Outgoing], Awaitable[None]]
_Start = tuple[KnownCycle, Invocation, "set[asyncio.Task[Any]]"]

# What more of them end with their call.
_IDLE_MAX = 256


class Runners:
    """Serves calls with ``serve``, each in a task of its own for as long as it runs."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self._idle: list[tuple[asyncio.Future[_Start], asyncio.Task[None]]] = []

    def start(self, cycle: KnownCycle, call: Invocation, running: "set[asyncio.Task[Any]]") -> None:
        """Serve a call from the next turn of the event loop on.

        Its task is in ``running`` until it has ended. Whoever cancels that ends this call only.
        """
        if self._idle:
            turn, task = self._idle.pop()
            turn.set_result((cycle, call, running))
        else:
            task = asyncio.create_task(self._run((cycle, call, running)), name="runner")
            # Of a task that is cancelled before its first step nothing runs, no ``finally`` either.
            task.add_done_callback(partial(_never_began, weakref.ref(cycle), running))
        running.add(task)

    async def _run(self, start: _Start) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        assert task is not None
        while True:
            cycle, call, running = start
            try:
                await self._serve(call, cycle.receive, cycle)
            finally:
                running.discard(task)
                cycle.finish()
            # A task that was cancelled once is not like new: timeouts count that.
            if task.cancelling() or len(self._idle) >= _IDLE_MAX:
                return
            turn: asyncio.Future[_Start] = loop.create_future()
            self._idle.append((turn, task))
            # An idle runner must not keep its last call alive.
            del cycle, call, start
            try:
                start = await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    # It was cancelled between being given a call and beginning with it.
                    cycle, _, running = turn.result()
                    running.discard(task)
                    cycle.finish()
                raise


def _never_began(
    first: "weakref.ref[KnownCycle]", running: "set[asyncio.Task[Any]]", task: "asyncio.Task[None]"
) -> None:
    """Break off the first call of a task that has ended without it; any other has ended too."""
    running.discard(task)
    cycle = first()
    if cycle is not None:
        cycle.finish()
