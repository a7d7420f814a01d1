"""One socket to Redis that all callers share.

Why: calls of one event-loop turn leave in one write and no caller waits for a connection from a
pool, which costs a tenth of the CPU. Replies match calls first in, first out, so a caller that
goes away only stops waiting and nothing has to be cancelled on the socket.

Design: a call that is not answered by its deadline fails (OutcomeUnknown), and its reply, when it
comes, is counted off. While replies are overdue the mux is suspect: new calls fail at once
(StoreUnavailable), because they would queue behind. When all overdue replies have come, it is
trusted again; when they have not after a second, it is given up and its owner connects anew.
"""

import asyncio
from collections import deque
from typing import Any, cast

from hiredis import ProtocolError, Reader, ReplyError

from gateway.budgets.frames import Word, pack
from gateway.budgets.scripts import Form
from gateway.budgets.waiter import Waiter, fail
from gateway.errors import OutcomeUnknown, StoreError, StoreUnavailable

# Who waits, its deadline on the loop's clock, for a script call its source, and what was sent.
_Call = tuple[Waiter, float, str | None, bytes]

_BY_SHA = b"$7\r\nEVALSHA\r\n$40\r\n"
_SHA_BYTES = 40
SUSPECT_S = 1.0
# uvloop runs timers before it reads sockets: after a long turn a reply may be there, unread.
_GRACE_S = 0.005
_UNSENT_BYTES_MAX = 4 * 2**20
_LATE = "Redis did not answer in time."
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


class Mux(asyncio.Protocol):
    """The protocol of one connection, from connect to loss; it never connects again.

    ``refusal`` is empty while calls are sent, or else the reason why they fail at once. ``lost``
    ends with the reason when the connection is gone. ``form`` is that of the scripts which its
    owner has loaded.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, deadline_s: float, calls_max: int) -> None:
        self.lost: asyncio.Future[str] = loop.create_future()
        self.waiting: deque[_Call] = deque()
        self.form: Form = 1
        self._loop = loop
        self._deadline_s = deadline_s
        self._calls_max = calls_max
        self._transport: asyncio.Transport | None = None
        self._reader = Reader()
        self._unsent: list[bytes] = []
        # The deadline of the calls of this turn, on the loop's clock.
        self._due_s = 0.0
        self.refusal = "Redis is not connected."
        self._reason = ""
        self._paused = False
        self._overdue = 0
        self._timer: asyncio.TimerHandle | None = None
        self._graced = False
        self._suspicion: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None

    def send(self, words: tuple[Word, ...], source: str | None = None) -> "asyncio.Future[Any]":
        """Queue one command; like ``transmit``, for the future that is returned."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.transmit(future, pack(words), source)
        return future

    def transmit(self, waiter: Waiter, packed: bytes, source: str | None = None) -> None:
        """Queue one packed command; it leaves at the end of this event-loop turn.

        ``source`` is the script that an EVALSHA names: where Redis does not have it, the call is
        sent again as EVAL on this connection, within the same deadline, behind the calls that
        were queued meanwhile. The waiter is told the reply, or fails with StoreUnavailable
        (nothing was sent, or Redis takes no writes now; it may be told so at once),
        OutcomeUnknown (sent and not answered) or StoreError.
        """
        if self.refusal or len(self.waiting) >= self._calls_max:
            fail(waiter, StoreUnavailable(self.refusal or "Too many calls wait for Redis."))
            return
        if not self._unsent:
            self._begin_turn()
        self._unsent.append(packed)
        self.waiting.append((waiter, self._due_s, source, packed))

    def set_deadline(self, deadline_s: float) -> None:
        """Give the calls from now on another deadline."""
        self._deadline_s = deadline_s
        if self._timer is not None and not self.waiting:
            # It was set for calls that were answered, with the deadline of those.
            self._timer.cancel()
            self._timer = None
        if self._unsent:
            # The rest of this turn is from now on, too.
            self._begin_turn()

    def lose(self, reason: str) -> None:
        """Give this connection up; calls that were sent fail with OutcomeUnknown."""
        self._reason = self._reason or reason
        self._judge()
        if self._transport is not None:
            self._transport.abort()

    async def drain(self, timeout_s: float) -> None:
        """Wait until no call waits for its reply, at most for a while."""
        if self.waiting:
            self._drained = self._loop.create_future()
            ends = (self._drained, self.lost)
            await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)

    async def end(self, reason: str) -> None:
        """Give this connection up and wait until its socket is closed."""
        self.lose(reason)
        if self._transport is not None:
            await self.lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to accept calls."""
        # A cast, because uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_UNSENT_BYTES_MAX)
        self.refusal = ""

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
        gets, waiting = self._reader.gets, self.waiting
        self._reader.feed(data)
        try:
            while self._overdue and gets() is not False:
                self._overdue -= 1
                self._judge()
            while (reply := gets()) is not False:
                if not waiting:
                    self.lose(f"Redis sent what nobody asked for: {reply}.")
                    return
                call = waiting.popleft()
                if isinstance(reply, ReplyError):
                    self._complain(call, str(reply))
                    continue
                try:
                    call[0].set_result(reply)
                except asyncio.InvalidStateError:
                    # It went away. Nearly all still wait, so it is not worth asking each.
                    continue
        except (ProtocolError, TypeError, ValueError, MemoryError) as error:
            # The parser raises the last three at what it cannot build, such as a set of lists.
            self.lose(f"Redis sent what is not its protocol: {error}.")
        if self._drained is not None and not waiting:
            self._drained.set_result(None)
            self._drained = None

    def connection_lost(self, error: Exception | None) -> None:
        """Fail every call that waits."""
        broken = f"The connection to Redis broke: {error}." if error else ""
        self._reason = self._reason or broken or "Redis closed the connection."
        self._judge()
        sent = len(self.waiting) - len(self._unsent)
        for number, (waiter, *_) in enumerate(self.waiting):
            fault = OutcomeUnknown if number < sent else StoreUnavailable
            fail(waiter, fault(self._reason))
        self.waiting.clear()
        self._unsent.clear()
        for timer in (self._timer, self._suspicion):
            if timer is not None:
                timer.cancel()
        if not self.lost.done():
            self.lost.set_result(self._reason)

    def _begin_turn(self) -> None:
        """Do for all calls of this turn of the event loop what they need once: leave, and when."""
        self._loop.call_soon(self._flush)
        self._due_s = self._loop.time() + self._deadline_s
        if self._timer is None:
            # One timer for the oldest call: a timer for each would cost as much as the call.
            self._timer = self._loop.call_at(self._due_s, self._look_at_clock)

    def _flush(self) -> None:
        if self._unsent and self._transport is not None and not self._reason:
            self._transport.write(b"".join(self._unsent))
            self._unsent.clear()

    def _complain(self, call: _Call, message: str) -> None:
        waiter, deadline, source, packed = call
        if waiter.done():
            return
        if source is not None and message.startswith("NOSCRIPT"):
            if not self._unsent:
                self._begin_turn()
            again = _by_source(packed, source)
            self._unsent.append(again)
            self.waiting.append((waiter, deadline, None, again))
            # It stands behind younger calls, so the timer of the oldest comes too late for it.
            self._loop.call_at(deadline, fail, waiter, OutcomeUnknown(_LATE))
            return
        fault = fault_of(message)
        fail(waiter, fault)
        if fault.transient and "READONLY" in message:
            # After a failover the name may lead to another server: connect anew.
            self.lose("Redis is a replica now.")

    def _look_at_clock(self) -> None:
        self._timer = None
        now = self._loop.time()
        if self._graced:
            while self.waiting and self.waiting[0][1] <= now:
                fail(self.waiting.popleft()[0], OutcomeUnknown(_LATE))
                self._overdue += 1
            self._judge()
        self._graced = bool(self.waiting) and self.waiting[0][1] <= now
        if self.waiting:
            again = now + _GRACE_S if self._graced else self.waiting[0][1]
            self._timer = self._loop.call_at(again, self._look_at_clock)

    def _judge(self) -> None:
        """Decide whether calls are sent, after anything that bears on it has changed."""
        late = _LATE if self._overdue else ""
        full = "Redis does not read what was sent." if self._paused else ""
        self.refusal = self._reason or late or full
        if self._overdue and self._suspicion is None:
            self._suspicion = self._loop.call_later(SUSPECT_S, self.lose, _LATE)
        elif not self._overdue and self._suspicion is not None:
            self._suspicion.cancel()
            self._suspicion = None


def _by_source(packed: bytes, source: str) -> bytes:
    """Return an EVALSHA as the EVAL that has the same arguments."""
    count, _, words = packed.partition(b"\r\n")
    arguments = words.removeprefix(_BY_SHA)[_SHA_BYTES:]
    named = pack(("EVAL", source)).partition(b"\r\n")[2]
    return count + b"\r\n" + named.removesuffix(b"\r\n") + arguments
