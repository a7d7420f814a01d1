"""Alarms: one timer per connection, moved only when it would ring too late.

A timer for each request, set and cancelled, would cost more than parsing the request.
"""

import asyncio
from collections.abc import Callable

_NEVER = float("inf")


class Alarm:
    """Calls ``on_due`` once where what is expected has not come in time."""

    __slots__ = ("_due_s", "_loop", "_now_s", "_on_due", "_rings_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_due: Callable[[], None]) -> None:
        self._loop = loop
        self._now_s = loop.time
        self._on_due = on_due
        self._due_s = self._rings_s = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, seconds: float) -> None:
        """Expect something within this time; what was expected before counts no more."""
        self._due_s = due_s = self._now_s() + seconds
        if due_s < self._rings_s:
            self._ring_at(due_s)

    def rest(self) -> None:
        """Expect nothing."""
        self._due_s = _NEVER

    def close(self) -> None:
        """Drop the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def _ring_at(self, due_s: float) -> None:
        self.close()
        self._rings_s = due_s
        self._timer = self._loop.call_at(due_s, self._ring)

    def _ring(self) -> None:
        self._timer, self._rings_s = None, _NEVER
        if self._due_s <= self._now_s():
            self._on_due()
        elif self._due_s < _NEVER:
            self._ring_at(self._due_s)
