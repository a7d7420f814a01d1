"""One connection to an upstream: one request at a time, its bytes passed on as they come.

Design: what the parser has collected is handed over once per read. So an answer that came in one
piece is complete when its head is given out, and its connection is free again before the caller
runs.
"""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Callable
from typing import cast

from gateway.domain.agent import Timeouts
from gateway.errors import UpstreamBroken, UpstreamError, UpstreamTimeout
from gateway.proxy.alarm import Alarm
from gateway.proxy.answer import Answer, StreamedAnswer
from gateway.proxy.answer_head import AnswerHead, read_answer_head, resized
from gateway.proxy.answer_parser import AnswerParser
from gateway.proxy.known_heads import KnownHeads

# Networks forget connections that are silent while a model thinks.
_PROBE_AFTER_S = 45
# An upstream that says how long it keeps idle connections is believed, less its way to us.
_HINT_MARGIN_S = 1.0


class UpstreamConnection(asyncio.Protocol):
    """A connection from before its making to its loss; its pool is told when it is free or lost.

    ``is_made`` says whether it was connected once; it may be closed by now. ``reused`` says whether
    an answer was completed on it before, ``heard`` whether a byte of the last one has come.
    ``closed`` is set when the socket is.
    """

    def __init__(
        self,
        on_free: Callable[["UpstreamConnection"], None],
        on_lost: Callable[["UpstreamConnection"], None],
        keepalive_s: float,
        known_heads: KnownHeads[AnswerHead],
    ) -> None:
        self.is_made = False
        self.reused = False
        self.heard = False
        self.closed = asyncio.Event()
        self._on_free = on_free
        self._on_lost = on_lost
        self._keepalive_s = keepalive_s
        self._known_heads = known_heads
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport  # Once it is made.
        self._poll = select.poll()
        # Of the call that is on.
        self._method: bytes | None = None
        # Of answers with an unknown head. Making one takes as long as reading a small answer.
        self._parser: AnswerParser | None = None
        self._timeouts = Timeouts()
        self._answered: asyncio.Future[Answer] = self._loop.create_future()
        self._answer: StreamedAnswer | None = None
        self._sender: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._alarm = Alarm(self._loop, self._ring)

    @property
    def is_closing(self) -> bool:
        """Whether it is closed after it was made, or about to be."""
        return self._transport.is_closing()

    def is_usable(self) -> bool:
        """Whether the peer has neither closed nor said anything since its last answer.

        The socket itself is asked: what the event loop has not read yet would otherwise be found
        out after a request was sent, and that request may not be repeated.
        """
        return not self._transport.is_closing() and not self._poll.poll(0)

    def ask(
        self,
        method: bytes,
        opening: bytes,
        parts: AsyncIterator[bytes] | None,
        timeouts: Timeouts,
    ) -> "asyncio.Future[Answer]":
        """Send a request; its answer comes with its head. Who stops waiting must ``leave`` it.

        The connection must have been found usable, or made, in this turn of the event loop.
        ``parts`` follow the opening, meanwhile and, where the upstream answers early, on until
        the answer is complete. What they raise, UpstreamBroken, or UpstreamTimeout where no head
        comes in ``read_s`` takes the place of the answer, or is raised by its chunks.
        """
        self.heard = False
        self._method = method
        self._timeouts = timeouts
        self._answered = answered = self._loop.create_future()
        try:
            self._transport.write(opening)
            if parts is None:
                self._alarm.expect(timeouts.read_s)
            else:
                self._alarm.rest()
                self._sender = self._loop.create_task(self._send(parts))
                self._sender.add_done_callback(self._sent)
        except BaseException:
            self.abort()
            raise
        return answered

    def leave(self, answered: "asyncio.Future[Answer]") -> None:
        """Close the socket where the call that waits for this is on.

        When its answer came just before its caller was cancelled, another call may be on: never
        with the same future.
        """
        if self._method is not None and self._answered is answered:
            self.abort()

    def abort(self) -> None:
        """Close the socket now; whatever was going on is over, and nobody is told but the pool."""
        self._method = self._answer = None
        self._alarm.rest()
        if self._sender is not None:
            self._sender.cancel()
        if self.is_made:
            self._transport.abort()

    def fail(self, fault: Exception) -> None:
        """Close the socket now; what was going on, if anything was, fails with this."""
        method, answer = self._method, self._answer
        self.abort()
        if answer is not None:
            answer.fail(fault)
        elif method is not None and not self._answered.done():
            self._answered.set_exception(fault)

    def read_on(self) -> None:
        """Go on reading after an answer was full."""
        if self._paused:
            self._paused = False
            self._transport.resume_reading()

    def expect(self, seconds: float) -> None:
        """Fail when nothing comes in this time; where nothing was asked, close."""
        self._alarm.expect(seconds)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the socket."""
        # A cast, because uvloop's transports are no subclasses.
        self._transport = cast(asyncio.Transport, transport)
        self.is_made = True
        bound = transport.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER_S)
        self._poll.register(bound.fileno(), select.POLLIN)

    def pause_writing(self) -> None:
        """Hold back the rest of the body while the upstream does not take it."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """Go on sending."""
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Read what has come and hand it over; what nobody asked for closes the connection."""
        method = self._method
        if method is None:
            self.abort()
            return
        parser = self._parser if self.heard else None
        if parser is None:
            self.heard = True
            # What a connection says of itself is read in its first answer; HEAD has no body.
            if self.reused and self._sender is None and method != b"HEAD" and self._is_known(data):
                return
            parser = self._parser = self._parser or AnswerParser(method)
            parser.begin(method)
        try:
            parser.feed(data)
        except UpstreamError as fault:
            self.fail(fault)
            return
        if parser.complete:
            self._complete(parser, data)
        elif parser.has_head:
            self._hand_over(parser)

    def eof_received(self) -> None:
        """Take the end of what the peer sends for the end of the connection."""
        self._end(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what was going on and tell the pool."""
        self._end(error)
        self._alarm.close()
        self.closed.set()
        self._on_lost(self)

    def _end(self, error: Exception | None) -> None:
        parser = self._parser if self.heard and self._method is not None else None
        if parser is not None and parser.ends_with_connection and error is None:
            self._complete(parser)
        elif self._method is not None:
            self.fail(UpstreamBroken(f"The upstream closed the connection: {error or 'no more'}."))
        self.abort()

    def _hand_over(self, parser: AnswerParser) -> None:
        """Give what has come to the caller; from here on it says when it waits for more."""
        self._alarm.rest()
        pieces, parser.pieces = parser.pieces, []
        if self._answer is None:
            head = read_answer_head(parser.status, parser.headers)
            self._answer = StreamedAnswer(head, None, self, self._timeouts.idle_s)
            self._give(self._answer)
        self._answer.push(pieces)
        if self._answer.is_full:
            self._paused = True
            self._transport.pause_reading()

    def _is_known(self, data: bytes) -> bool:
        """Take an answer that came whole and has a known head; say whether this is one."""
        found = self._known_heads.find(data)
        if found is None:
            return False
        head, length, body = found
        if len(body) != length:
            return False
        self._method = None
        # Known is all of a head but the length that it states.
        self._give(Answer(head if head.length == length else resized(head, length), body))
        # It can carry another request as before, and what came whole has paused nothing.
        self._alarm.expect(self._keepalive_s)
        self._on_free(self)
        return True

    def _complete(self, parser: AnswerParser, data: bytes = b"") -> None:
        """Give the rest to the caller; ``data`` came last, and may be all of the answer."""
        answer, self._method, self._answer = self._answer, None, None
        if parser.method == b"HEAD":
            # After the answer to it llhttp still waits for a body.
            self._parser = None
        if answer is None:
            head = read_answer_head(parser.status, parser.headers)
            # An interim answer before it would be taken for its head.
            if parser.reusable and data[9:12] == b"%d" % head.status:
                self._known_heads.learn(data, head, len(parser.headers), head.length)
            self._give(Answer(head, b"".join(parser.pieces)))
        else:
            answer.push(parser.pieces)
            answer.finish()
        if not self.reused:
            self._keepalive_s = min(self._keepalive_s, parser.keepalive_s - _HINT_MARGIN_S)
        self._retire(reusable=parser.reusable and self._sender is None)

    def _give(self, answer: Answer) -> None:
        if not self._answered.done():
            self._answered.set_result(answer)

    def _retire(self, *, reusable: bool) -> None:
        """Give this connection back, if it can carry another request."""
        if not reusable or self._keepalive_s <= 0:
            self.abort()
            return
        self.reused = True
        self.read_on()
        self._alarm.expect(self._keepalive_s)
        self._on_free(self)

    async def _send(self, parts: AsyncIterator[bytes]) -> None:
        """Send a body as it comes; only an upstream that takes nothing is short of time."""
        async for part in parts:
            self._transport.write(part)
            if self._writable.is_set():
                continue
            if self._answer is None:
                self._alarm.expect(self._timeouts.idle_s)
            await self._writable.wait()
            if self._answer is None:
                self._alarm.rest()

    def _sent(self, task: asyncio.Task[None]) -> None:
        if self._sender is task:
            self._sender = None
        if task.cancelled():
            return
        fault = task.exception()
        if isinstance(fault, Exception):
            self.fail(fault)
        elif self._method is not None and self._answer is None:
            self._alarm.expect(self._timeouts.read_s)

    def _ring(self) -> None:
        if self._method is None:
            self.abort()
        else:
            self.fail(UpstreamTimeout("The upstream did not answer, or go on, in time."))
