"""Cycles: a request on a caller's connection and its answer, as uvicorn runs them."""

import asyncio
from functools import cached_property
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.proxy.answer_head import AnswerHead
from gateway.proxy.outgoing import Outgoing

_CLOSES = b"\r\nconnection: close\r\n"


class KnownCycle(RequestResponseCycle, Outgoing):
    """The cycle of a request whose head was known: only what most calls need is set.

    All has the value that uvicorn gives it for HTTP/1.1 without Expect. It is itself the way to
    its caller.
    """

    # What hardly any call reads or changes; what an instance has itself is found faster.
    access_log = False
    response_started = False
    chunked_encoding = None
    expected_content_length = 0
    write = None
    # What is for who waits for more of a body; most come with their head, and nobody ever does.
    body: Any = cached_property(lambda _cycle: bytearray())
    message_event: Any = cached_property(lambda cycle: cycle.begin_to_wait())

    def __init__(self, connection: Any, method: str, *, more_body: bool) -> None:
        self.scope: Any = {"method": method}
        self.loop = connection.loop
        self.transport = connection.transport
        self.flow = connection.flow
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.more_body = more_body
        self.disconnected = self.response_complete = self.waiting_for_100_continue = False
        self.keep_alive = True
        # Whether a whole answer waits for the event loop to turn, and somebody for more of a body.
        self._is_leaving = self._is_awaited = False

    def begin_to_wait(self) -> asyncio.Event:
        """Return what rings when more of a body has come, or nothing more will."""
        self._is_awaited = True
        return asyncio.Event()

    def leaves(self, head: AnswerHead, lines: bytes, body: bytes) -> bool:
        """Let it leave, unless it takes the ordinary way."""
        text = _text(self, head, lines, body)
        if text is None:
            return False
        # To come back only to write would cost more than to write.
        self.started = self._is_leaving = True
        self.loop.call_soon(self._leave, text)
        return True

    def finish(self) -> None:
        """Break off an answer that its app has left incomplete, as uvicorn does."""
        if not (self._is_leaving or self.response_complete or self.disconnected):
            self.transport.close()

    def _leave(self, text: bytes) -> None:
        if self.disconnected:
            return
        if not self.keep_alive:
            # So it has been decided since the answer was put together, and its caller must know.
            text = text.replace(b"\r\n", _CLOSES, 1)
        if self._is_awaited:
            self.message_event.set()
        _complete(self, text)


def write_whole(cycle: RequestResponseCycle, head: AnswerHead, lines: bytes, body: bytes) -> bool:
    """Write an answer in one piece, as uvicorn would in two; return whether that was possible."""
    text = _text(cycle, head, lines, body)
    if text is None:
        return False
    cycle.message_event.set()
    _complete(cycle, text)
    return True


def _text(cycle: RequestResponseCycle, head: AnswerHead, lines: bytes, body: bytes) -> bytes | None:
    """Return an answer as it goes over the wire, or None where it takes the ordinary way.

    A head that must not be written as it is and a length of another body do, and are refused
    there.
    """
    if not cycle.keep_alive or cycle.disconnected or cycle.flow.write_paused:
        return None
    if head.lines is None or cycle.scope["method"] == "HEAD" or cycle.waiting_for_100_continue:
        return None
    if head.length is None:
        framing = b"content-length: %d\r\n\r\n" % len(body)
    elif head.length == len(body):
        framing = b"\r\n"
    else:
        return None
    return b"".join((STATUS_LINE[head.status], head.lines, lines, framing, body))


def _complete(cycle: RequestResponseCycle, text: bytes) -> None:
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(text)
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
