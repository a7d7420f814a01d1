"""Settling: a settle on its way, of whose end somebody is told though nobody waits for it.

Two futures, one for the reply and one for the end, cost more than all the rest of a settle here;
this is one small object, which is told the reply while the socket is read.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from gateway.budgets import replies
from gateway.budgets.changes import Settlement
from gateway.budgets.records import windows_token
from gateway.budgets.replies import Reply
from gateway.budgets.waiter import Waiter
from gateway.domain.reservation import Settled
from gateway.errors import StoreError

# Answers after which a settle has not ended.
_NO_ENDS = frozenset((b"WINDOWS", b"BADARG"))
# A record names its windows once; who names others again and again is no server of ours.
_TRIES = 3
# Queues a settlement in the windows of a token, for a waiter.
Send = Callable[[Settlement, str, Waiter], None]


class Told(Protocol):
    """Who wants to know the end of a settlement: one of the two is called, once."""

    def ended(self, settlement: Settlement, end: Settled, seq: int, /) -> None:
        """Take what Redis has made of it, and the number of that write."""

    def failed(self, settlement: Settlement, fault: StoreError, /) -> None:
        """Take why that is not known."""


class Settling(Struct, eq=False):
    """One settle from its call to its end, which ``told`` hears once.

    An answer that names other windows sends it again, with those. It never raises: a bug in what
    is told must not end the connection of all.
    """

    settlement: Settlement
    send: Send
    told: Told
    is_told: bool = False
    tries_left: int = _TRIES

    def done(self) -> bool:
        """Say whether the end was told."""
        return self.is_told

    def set_result(self, reply: Reply, /) -> None:
        """Tell what Redis has made of it, or send it again."""
        if self.is_told:
            return
        try:
            if reply[0] in _NO_ENDS:
                self._go_on(reply)
                return
            end = replies.settled(reply)
        except replies.UNREADABLE as error:
            self.set_exception(replies.unreadable(error))
            return
        self.is_told = True
        try:
            self.told.ended(self.settlement, end, reply[3])
        except Exception as error:
            _report(error)

    def set_exception(self, error: StoreError, /) -> None:
        """Tell why Redis has not answered."""
        self.is_told = True
        try:
            self.told.failed(self.settlement, error)
        except Exception as bug:
            _report(bug)

    def _go_on(self, reply: Reply) -> None:
        """Send it again in the windows of its record, or tell the fault that it was refused for."""
        self.tries_left -= 1
        if reply[0] == b"WINDOWS" and self.tries_left:
            self.send(self.settlement, windows_token(*map(replies.text, reply[1:3])), self)
        elif reply[0] == b"WINDOWS":
            self.set_exception(replies.unreadable(LookupError("other windows at every try")))
        else:
            self.set_exception(StoreError(f"settle refused {replies.text(reply[1])}."))


def _report(bug: Exception) -> None:
    says = {"message": "The end of a settle could not be told.", "exception": bug}
    asyncio.get_running_loop().call_exception_handler(says)
