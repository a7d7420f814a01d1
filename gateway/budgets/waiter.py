"""Waiters: who is told what Redis answered to a call."""

import asyncio
from typing import Any, Protocol

from gateway.errors import StoreError


class Waiter(Protocol):
    """What a call needs of whoever waits for it; every future has it.

    ``set_result`` and ``set_exception`` run inside the reading of the socket that all calls share,
    so neither may raise while ``done`` is false. Afterwards ``set_result`` changes nothing and may
    raise what a future raises then, an InvalidStateError.
    """

    def done(self) -> bool:
        """Say whether it waits no more: it was told, or has gone away."""

    def set_result(self, result: Any, /) -> None:
        """Take the reply; strings in it are bytes."""

    def set_exception(self, exception: StoreError, /) -> None:
        """Take the reason why there is no reply."""


def fail(waiter: Waiter, fault: StoreError) -> None:
    """Fail a call whose waiter may be ignored; one that waits no more stays as it is."""
    if not waiter.done():
        waiter.set_exception(fault)
        if isinstance(waiter, asyncio.Future):
            # Asking marks it as seen: a caller may ignore the future, asyncio would log that.
            waiter.exception()
