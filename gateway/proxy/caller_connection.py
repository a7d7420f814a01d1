"""One connection of a caller: uvicorn's protocol, bounded where it is not by itself.

What cannot be read at all is refused here, in the words of every other refusal.
"""

import httptools
from ulid import ULID
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.proxy.dialect import Tongue, render
from gateway.proxy.head import HEAD_BYTES_MAX
from gateway.proxy.problem import Problem

_WEBSOCKET = b"websocket"
_OFFER = (b"upgrade", b"http2-settings")


class CallerConnection(HttpToolsProtocol):
    """Reads requests; a head has at most HEAD_BYTES_MAX, give or take what is read at a time.

    An offer to upgrade to anything but WebSocket is declined by leaving it out, as RFC 9110 7.8
    allows. uvicorn would drop the body of such a request: Java's client makes the offer by itself.
    """

    _in_head = True
    _in_body = False
    _has_offer = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        """Begin to count the head."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the call, or read the head once more without its offer to upgrade."""
        self._in_head, self._in_body = False, True
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._has_offer = self._get_upgrade() != _WEBSOCKET
        if not self._has_offer:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note the end of the body."""
        self._in_body = False
        if not self._has_offer:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Read on, and refuse what is no HTTP or a head that has grown too long."""
        self._unset_keepalive_if_required()
        # Where a head begins behind a body in one piece, the body is not counted.
        is_head = not self._in_body
        unread = self._read(data)
        while unread:
            unread = self._read(unread)
        if self._in_head and is_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
                detail = f"A head must be below {HEAD_BYTES_MAX} bytes."
                self._refuse(Problem("headers_too_large", detail))

    def _read(self, data: bytes) -> bytes:
        """Read on; return what must be read once more."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self._refuse(Problem("bad_request", "This is not a request in HTTP/1.1."))
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
        self._has_offer = self._in_body = False
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    def _refuse(self, problem: Problem) -> None:
        # In the middle of an answer that is on its way it would be read as a part of it.
        if self.cycle is None or self.cycle.response_complete:
            headers, body = render(problem, Tongue(), str(ULID()))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            status = b"HTTP/1.1 %d Refused\r\n" % problem.status
            self.transport.write(status + lines + b"connection: close\r\n\r\n" + body)
        self.transport.close()
