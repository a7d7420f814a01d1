"""Cycles: a request on a caller's connection and its answer, as uvicorn runs them."""

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.proxy.answer_head import AnswerHead
from gateway.proxy.outgoing import Outgoing

# What waits for more of a body; most come with their head, and nobody ever waits.
_MADE_WHEN_NEEDED = {"body": bytearray, "message_event": asyncio.Event}


class KnownCycle(RequestResponseCycle):
    """The cycle of a request whose head was known: only what differs from one to the next is set.

    All else has the value that uvicorn gives it for HTTP/1.1 without Expect.
    """

    access_log = False
    disconnected = False
    keep_alive = True
    waiting_for_100_continue = False
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0

    def __init__(self, connection: Any, method: str, *, more_body: bool) -> None:
        self.scope: Any = {"method": method}
        self.transport = connection.transport
        self.flow = connection.flow
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self.more_body = more_body

    def __getattr__(self, name: str) -> Any:
        """Make what has been missing until somebody needs it."""
        if name not in _MADE_WHEN_NEEDED:
            raise AttributeError(name)
        made = self.__dict__[name] = _MADE_WHEN_NEEDED[name]()
        return made

    def outgoing(self) -> Outgoing:
        """Return the way to the caller."""
        return Outgoing(self.send, partial(write_whole, self))

    def finish(self) -> None:
        """Break off an answer that its app has left incomplete, as uvicorn does."""
        if not (self.response_complete or self.disconnected):
            self.transport.close()


def write_whole(cycle: RequestResponseCycle, head: AnswerHead, lines: bytes, body: bytes) -> bool:
    """Write an answer in one piece, as uvicorn would in two; return whether that was possible.

    What it is not for takes the ordinary way. A head that must not be written as it is and a
    length of another body do too, and are refused there.
    """
    if not cycle.keep_alive or cycle.disconnected or cycle.flow.write_paused:
        return False
    if head.lines is None or cycle.scope["method"] == "HEAD":
        return False
    if head.length is None:
        framing = b"content-length: %d\r\n\r\n" % len(body)
    elif head.length == len(body):
        framing = b"\r\n"
    else:
        return False
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"".join((STATUS_LINE[head.status], head.lines, lines, framing, body)))
    waited_for = cycle.__dict__.get("message_event")
    if waited_for is not None:
        waited_for.set()
    cycle.on_response()
    return True
