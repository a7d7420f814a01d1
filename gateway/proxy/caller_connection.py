"""One connection of a caller: uvicorn's protocol, bounded where it is not by itself.

What cannot be read at all is refused here, in the words of every other refusal.
"""

from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.errors import BadRequest
from gateway.proxy.alarm import Alarm
from gateway.proxy.cycle import KnownCycle, write_whole
from gateway.proxy.dialect import Tongue, render
from gateway.proxy.head import HEAD_BYTES_MAX
from gateway.proxy.ids import new_id
from gateway.proxy.invocation import ARRIVAL, Invocation, Target, read_arrival
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.outgoing import WHOLE
from gateway.proxy.problem import Problem
from gateway.proxy.runners import Runners

_WEBSOCKET = b"websocket"
_NO_HTTP = "This is not a request in HTTP/1.1."
_OFFER = (b"upgrade", b"http2-settings")


class CallerConnection(HttpToolsProtocol):
    """Reads requests; a head has at most HEAD_BYTES_MAX, give or take what is read at a time.

    An offer to upgrade to anything but WebSocket is declined by leaving it out, as RFC 9110 7.8
    allows. uvicorn would drop the body of such a request: Java's client makes the offer by itself.
    """

    # Whether the next byte begins a head.
    _at_head = True
    # What has begun with a head that is not known yet.
    _unknown = b""
    _in_head = True
    # Whether a message has ended in what is read now: what is behind it is not all of a head.
    _has_ended = False
    _has_offer = False
    _takes_more = True
    _head_bytes = 0
    # The cycle that runs while others wait behind it: uvicorn knows only the last one.
    _ahead: RequestResponseCycle | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Only an app that takes arrivals has both.
        self._known: KnownHeads[Target] | None = getattr(self.app, "known_heads", None)
        self._runners: Runners | None = getattr(self.app, "runners", None)
        # How much of a body the parser will not see.
        self._body_left = 0
        # The one before the last that was parsed, which that one waits for while it runs.
        self._previous: RequestResponseCycle | None = None
        # Rings when what must come next does not come in time: a head, or more of a body.
        self._alarm = Alarm(self.loop, self._ring)

    def on_message_begin(self) -> None:
        """Begin to count the head."""
        self._at_head = False
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the call, or read the head once more without its offer to upgrade."""
        self._in_head = False
        data, self._unknown = self._unknown, b""
        self._check_host()
        is_offer = self.parser.should_upgrade()
        if is_offer and self.parser.get_method() != b"CONNECT":
            self._has_offer = self._get_upgrade() != _WEBSOCKET
        if not self._has_offer:
            self._alarm.expect(self.timeout_keep_alive)
            self._previous = self.cycle
            super().on_headers_complete()
            if len(self.pipeline) == 1:
                self._ahead = self._previous
            cycle: Any = self.cycle
            if self.parser.get_http_version() == "1.0":
                cycle.send = partial(_send_unframed, cycle)
            elif self.expect_100_continue:
                cycle.send = partial(_send_unasked, cycle)
            # ASGI has no way to send an answer in one piece; uvicorn does not know of this one.
            extensions: dict[str, Any] = {WHOLE: partial(write_whole, self.cycle)}
            self.scope["extensions"] = extensions
            if self._known is None or (arrival := read_arrival(self.scope)) is None:
                return
            extensions[ARRIVAL] = arrival
            # What a head says of its connection no target says.
            if self.cycle.keep_alive and not (self.expect_100_continue or is_offer):
                self._known.learn(data, arrival.target, len(self.headers), arrival.body_length)

    def _check_host(self) -> None:
        # RFC 9112 3.2. Whoever stands before us may have read another of two.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() != "1.0"):
            raise BadRequest(f"Expected one Host header, found {hosts}.")

    def on_body(self, body: bytes) -> None:
        """Take a part of a body; the next one must come in time."""
        if not self.cycle.response_complete:
            self._alarm.expect(self.timeout_keep_alive)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self._has_ended = self._at_head = True
        if not self._has_offer:
            if not self.cycle.response_complete:
                self._alarm.rest()
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Begin the next request where one waits; else let the connection be idle for a while."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._ahead = cycle if self.pipeline else None
            self._start_asgi_task(cycle, app)
        else:
            self._alarm.expect(self.timeout_keep_alive)

    def connection_made(self, transport: Any) -> None:
        """Wait for the first head as long as for a further one."""
        super().connection_made(transport)
        self._alarm.expect(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """End with the connection."""
        self._alarm.close()
        super().connection_lost(exc)
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not ahead.response_complete:
            ahead.disconnected = True
            ahead.message_event.set()

    def _ring(self) -> None:
        if self.flow.read_paused:
            # It is for us to read on: the upstream takes no more, or another call runs.
            self._alarm.expect(self.timeout_keep_alive)
        elif self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self._end_with(Problem("bad_request", "The rest of the request did not come in time."))

    def data_received(self, data: bytes) -> None:
        """Read on: the body of a known head, a known head, or what must be parsed."""
        if self._body_left:
            self._read_body(data)
        elif not (self._at_head and self._begins_known(data)):
            self._parse(data)

    def _begins_known(self, data: bytes) -> bool:
        """Start a call whose head came before; say whether this is one."""
        # Behind a call that still runs uvicorn queues what its parser has read.
        if self.cycle is not None and not self.cycle.response_complete:
            return False
        if self._known is None or self._runners is None:
            return False
        found = self._known.find(data)
        if found is None:
            return False
        target, body_length, body = found
        is_whole = len(body) == body_length
        self._alarm.rest()
        cycle = self.cycle = KnownCycle(self, target.method, more_body=not is_whole)
        call = Invocation(new_id(), target, body_length, body if is_whole else None)
        self._runners.start(cycle, call, self.tasks)
        if not is_whole:
            self._alarm.expect(self.timeout_keep_alive)
            self._at_head, self._body_left = False, body_length
            self._read_body(body)
        return True

    def _read_body(self, data: bytes) -> None:
        """Take what belongs to the body of a known head; what follows begins another."""
        part, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(part)
        if part:
            self.on_body(part)
        if not self._body_left:
            self.on_message_complete()
        if rest:
            self.data_received(rest)

    def _parse(self, data: bytes) -> None:
        """Read on, and refuse what is no HTTP or a head that has grown too long."""
        if not self._takes_more:
            return
        self._unknown, self._at_head = (data if self._at_head else b""), False
        self._has_ended = False
        unread = self._read(data)
        while unread:
            unread = self._read(unread)
        if self._in_head and not self._has_ended:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                detail = f"A head must be below {HEAD_BYTES_MAX} bytes."
                self._end_with(Problem("headers_too_large", detail))

    def _read(self, data: bytes) -> bytes:
        """Read on; return what must be read once more."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            # What a callback has raised is its context.
            said = error.__context__
            detail = str(said) if isinstance(said, BadRequest) else _NO_HTTP
            self._end_with(Problem("bad_request", detail))
        except httptools.HttpParserUpgrade as offer:
            if self._has_offer:
                return self._without_offer() + data[offer.args[0] :]
            # The app refuses it; what may follow is no HTTP.
            self.cycle.keep_alive = False
        return b""

    def _without_offer(self) -> bytes:
        """Return the head that was just read without its offer, for a new parser."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] not in _OFFER]
        self._has_offer = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    def _end_with(self, problem: Problem) -> None:
        """Refuse what is not taken, after the answers to all that came whole; read no more."""
        if self.pipeline and self.cycle.more_body and self._previous is not None:
            # It is the last in the queue, and will never be whole.
            self.pipeline.popleft()
            self.cycle = self._previous
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self._refuse(problem)
        else:
            self.cycle.keep_alive, self._takes_more = False, False

    def _refuse(self, problem: Problem) -> None:
        # In the middle of an answer that is on its way it would be read as a part of it.
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            headers, body = render(problem, Tongue(), new_id())
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            status = b"HTTP/1.1 %d Refused\r\n" % problem.status
            self.transport.write(status + lines + b"connection: close\r\n\r\n" + body)
        self.transport.close()


async def _send_unasked(cycle: RequestResponseCycle, message: Any) -> None:
    """Send to a caller that waits to be asked for its body, and may keep it where it is not.

    RFC 9110 10.1.1: then nobody could tell what comes next from that body.
    """
    if cycle.waiting_for_100_continue and cycle.more_body:
        cycle.keep_alive = False
    await RequestResponseCycle.send(cycle, message)


async def _send_unframed(cycle: RequestResponseCycle, message: Any) -> None:
    """Send to a caller of HTTP/1.0, who knows no chunks: without a length the close is the end."""
    if message["type"] == "http.response.start":
        if all(name != b"content-length" for name, _ in message["headers"]):
            cycle.chunked_encoding = False
            cycle.expected_content_length = -1
    elif cycle.expected_content_length < 0:
        body = message.get("body", b"")
        cycle.expected_content_length = len(body)
        await RequestResponseCycle.send(cycle, message)
        cycle.expected_content_length = -1
        return
    await RequestResponseCycle.send(cycle, message)
