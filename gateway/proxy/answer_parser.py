"""The parser of one answer: llhttp's callbacks, collected until somebody takes them."""

import re

import httptools

from gateway.errors import UpstreamBroken

Header = tuple[bytes, bytes]

# For a head, and also for what brings no body: trailers, chunk extensions, 1xx answers.
HEAD_BYTES_MAX = 64 * 1024
_FINAL = range(200, 600)
_INFORMATIONAL = range(100, 200)
_SWITCHING_PROTOCOLS = 101
_FAULTS = (
    httptools.HttpParserError,
    httptools.HttpParserCallbackError,
    httptools.HttpParserUpgrade,
)
_TIMEOUT = re.compile(rb"timeout\s*=\s*(\d{1,6})")


class AnswerParser:
    """What has been read of one answer.

    ``pieces`` are those of its body, the reader takes them. When it is ``complete``,
    ``reusable`` says whether its connection may carry another request.
    """

    def __init__(self, method: bytes) -> None:
        self._llhttp = httptools.HttpResponseParser(self)
        self.begin(method)

    def begin(self, method: bytes) -> None:
        """Forget the last answer, which was ``reusable``, and wait for one to this method."""
        self.status = 0
        self.headers: list[Header] = []
        self.pieces: list[bytes] = []
        self.has_head = False
        self.complete = False
        self.reusable = False
        self.method = method
        self._barren_bytes = 0

    def feed(self, data: bytes) -> None:
        """Read what has arrived.

        Raises:
            UpstreamBroken: it is not an answer to this request in HTTP/1.1.
        """
        self._barren_bytes += len(data)
        try:
            self._llhttp.feed_data(data)
        except _FAULTS as error:
            if not self.complete:
                reason = error.__context__ or error
                raise UpstreamBroken(f"The upstream's answer is not valid: {reason}.") from error
            # The answer was whole; what follows it is nobody's answer.
            self.reusable = False
        if self._barren_bytes > HEAD_BYTES_MAX and not self.complete:
            raise UpstreamBroken(f"The upstream sent a head above {HEAD_BYTES_MAX} bytes.")

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the end of the connection says that the body is complete."""
        framing = (b"content-length", b"transfer-encoding")
        return self.has_head and not any(name in framing for name, _ in self.headers)

    @property
    def keepalive_s(self) -> float:
        """How long the upstream says that it keeps an idle connection; infinite if it is silent."""
        value = dict(self.headers).get(b"keep-alive", b"")
        found = _TIMEOUT.search(value.lower())
        return float(found[1]) if found else float("inf")

    def on_message_begin(self) -> None:
        """Stop where something follows a complete answer."""
        if self.complete:
            raise ValueError("something follows it")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; one that comes after the body is a trailer and is dropped."""
        if not self.has_head:
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """Judge the head; that of an interim answer is dropped."""
        status = self._llhttp.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING_PROTOCOLS:
            self.headers = []
            return
        if status not in _FINAL:
            raise ValueError(f"it has the status {status}")
        if self._barren_bytes > HEAD_BYTES_MAX:
            size = sum(len(name) + len(value) for name, value in self.headers)
            if size > HEAD_BYTES_MAX:
                raise ValueError(f"its head is above {HEAD_BYTES_MAX} bytes")
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        # We asked for no other, and one that is passed on without its name cannot be read.
        if codings and [value.lower() for value in codings] != [b"chunked"]:
            raise ValueError(f"it has the transfer codings {codings}")
        self.status = status
        self.has_head = True
        self.reusable = self._llhttp.should_keep_alive()
        self._barren_bytes = 0
        # llhttp does not know what was asked and would wait for the body that a GET has.
        self.complete = self.method == b"HEAD"

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        if self.complete:
            raise ValueError("a body follows an answer that has none")
        self._barren_bytes = 0
        self.pieces.append(piece)

    def on_message_complete(self) -> None:
        """Note the end; that of an interim answer is not the end."""
        self.complete = self.has_head
