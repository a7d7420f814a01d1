"""One socket to Redis that all callers share.

Why: calls of one event-loop turn leave in one write and no caller waits for a connection from a
pool, which costs a tenth of the CPU. Replies match calls first in, first out, so a caller that
goes away only drops its future and nothing has to be cancelled on the socket.

Design: a call that is not answered by its deadline fails (OutcomeUnknown), and its reply, when it
comes, is counted off. While replies are overdue the wire is suspect: new calls fail at once
(StoreUnavailable), because they would queue behind. When all overdue replies have come, it is
trusted again; when they have not after a second, it is given up and its owner connects anew.
"""

import asyncio
from collections import deque
from typing import Any

import hiredis

from gateway.errors import OutcomeUnknown, StoreError, StoreUnavailable

Word = str | bytes | int
# A future, its deadline on the loop's clock, and for a script call its source and its words.
_Call = tuple["asyncio.Future[Any]", float, str | None, tuple[Word, ...]]

SUSPECT_S = 1.0
# uvloop runs timers before it reads sockets: after a long turn a reply may be there, unread.
_GRACE_S = 0.005
_UNSENT_BYTES_MAX = 4 * 2**20
# What Redis says when it is there and whole but takes no writes, or none at the moment.
_UNAVAILABLE = (
    "READONLY",
    "OOM",
    "LOADING",
    "MASTERDOWN",
    "NOREPLICAS",
    "MISCONF",
    "BUSY",
    "CLUSTERDOWN",
    "TRYAGAIN",
)


def fault_of(message: str) -> StoreError:
    """Return the error that an error reply stands for; its message is kept."""
    code = message.partition(" ")[0]
    if code in _UNAVAILABLE:
        return StoreUnavailable(message)
    # Before Redis 7 an error inside a script is wrapped, its own code follows a dash.
    if code == "ERR" and any(f"-{inner} " in message for inner in _UNAVAILABLE):
        return StoreUnavailable(message)
    return StoreError(message)


class Wire(asyncio.Protocol):
    """The protocol of one connection, from connect to loss; it never connects again.

    ``lost`` ends with the reason when the connection is gone.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline_s: float, calls_max: int) -> None:
        self.deadline_s = deadline_s
        self.lost: asyncio.Future[str] = loop.create_future()
        self.waiting: deque[_Call] = deque()
        self._loop = loop
        self._calls_max = calls_max
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._unsent: list[bytes] = []
        self._refusal = "Redis is not connected."
        self._reason = "Redis closed the connection."
        self._paused = False
        self._overdue = 0
        self._timer: asyncio.TimerHandle | None = None
        self._graced = False

    @property
    def trusted(self) -> bool:
        """Whether a call would be sent now."""
        return not self._refusal

    def send(self, words: tuple[Word, ...], source: str | None = None) -> "asyncio.Future[Any]":
        """Queue one command; it leaves at the end of this event-loop turn.

        ``source`` is the script that an EVALSHA names: where Redis does not have it, the call is
        sent again as EVAL on this connection, within the same deadline, behind the calls that
        were queued meanwhile. The future fails with StoreUnavailable (nothing was sent, or Redis
        takes no writes now), OutcomeUnknown (sent and not answered) or StoreError.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._refusal or len(self.waiting) >= self._calls_max:
            _fail(future, StoreUnavailable(self._refusal or "Too many calls wait for Redis."))
            return future
        self._queue((future, self._loop.time() + self.deadline_s, source, words))
        return future

    def lose(self, reason: str) -> None:
        """Give this connection up; calls that were sent fail with OutcomeUnknown."""
        self._refusal = self._reason = reason
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to accept calls."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=_UNSENT_BYTES_MAX)
        self._transport = transport
        self._refusal = ""

    def pause_writing(self) -> None:
        """Refuse calls while the socket does not take what was written."""
        self._paused = True
        self._judge()

    def resume_writing(self) -> None:
        """Accept calls again."""
        self._paused = False
        self._judge()

    def data_received(self, data: bytes) -> None:
        """Give each reply to the oldest call that waits."""
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                if self._overdue:
                    self._overdue -= 1
                    self._judge()
                elif self.waiting:
                    self._answer(self.waiting.popleft(), reply)
                else:
                    self.lose(f"Redis sent what nobody asked for: {reply}.")
                    return
        except hiredis.ProtocolError as error:
            self.lose(f"Redis sent what is not its protocol: {error}.")

    def connection_lost(self, error: Exception | None) -> None:
        """Fail every call that waits."""
        if not self._refusal or self._overdue:
            self._refusal = self._reason = f"{self._reason} {error or ''}".rstrip()
        sent = len(self.waiting) - len(self._unsent)
        for number, (future, *_) in enumerate(self.waiting):
            fault = OutcomeUnknown if number < sent else StoreUnavailable
            _fail(future, fault(self._reason))
        self.waiting.clear()
        self._unsent.clear()
        if self._timer is not None:
            self._timer.cancel()
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def _queue(self, call: _Call) -> None:
        self._unsent.append(hiredis.pack_command(call[3]))
        self.waiting.append(call)
        if len(self._unsent) == 1:
            self._loop.call_soon(self._flush)
        if self._timer is None:
            # One timer for the oldest call: a timer for each would cost as much as the call.
            self._timer = self._loop.call_at(call[1], self._look_at_clock)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _answer(self, call: _Call, reply: Any) -> None:
        future, deadline, source, words = call
        if future.done():
            return
        if not isinstance(reply, hiredis.ReplyError):
            future.set_result(reply)
            return
        message = str(reply)
        if source is not None and message.startswith("NOSCRIPT"):
            self._queue((future, deadline, None, ("EVAL", source, *words[2:])))
            # It stands behind younger calls, so the timer of the oldest comes too late for it.
            self._loop.call_at(deadline, _fail, future, _too_late())
            return
        _fail(future, fault_of(message))
        if message.startswith("READONLY"):
            # After a failover the name may lead to another server: connect anew.
            self.lose("Redis is a replica now.")

    def _look_at_clock(self) -> None:
        self._timer = None
        if not self.waiting:
            self._graced = False
            return
        now, deadline = self._loop.time(), self.waiting[0][1]
        if deadline <= now and not self._graced:
            deadline, self._graced = now + _GRACE_S, True
        else:
            self._graced = False
            while self.waiting and self.waiting[0][1] <= now:
                self._fail_oldest()
            if not self.waiting:
                return
            deadline = self.waiting[0][1]
        self._timer = self._loop.call_at(deadline, self._look_at_clock)
