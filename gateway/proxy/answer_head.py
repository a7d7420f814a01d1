"""The head of an answer: what of it passes to the caller, and how its body must be read."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from gateway.proxy.head import ONE_HOP, Header, Headers, header_lines

_BODILESS = frozenset((*range(100, 200), 204, 304))


class AnswerHead(Struct, frozen=True, eq=False):
    """A head as it was read, once for all answers that have the same.

    ``headers`` pass to the caller; ``by_name`` are all that came, the last of each name.
    ``lines`` are the headers as they go over the wire, None where they must not be written as
    they are: a line break or NUL, a length that is none, or no body that it could describe.
    ``length`` is what they state, None where they state none.
    """

    status: int
    headers: Headers
    by_name: Mapping[bytes, bytes]
    lines: bytes | None
    length: int | None
    is_events: bool
    is_json: bool


def read_answer_head(status: int, received: Sequence[Header]) -> AnswerHead:
    """Return the head of an upstream's answer; names are in lower case.

    Of its own ``Budget-*`` headers none passes; only the meter reads them.
    """
    by_name = dict(received)
    dropped = ONE_HOP
    if b"connection" in by_name:
        named = b",".join(value.lower() for name, value in received if name == b"connection")
        dropped = ONE_HOP.union(token.strip() for token in named.split(b","))
    if status in (204, 304):
        # There is no body that it could describe, and the server would wait for one.
        dropped = dropped | {b"content-length"}
    passed = [
        header
        for header in received
        if header[0] not in dropped and not header[0].startswith(b"budget-")
    ]
    return _head_of(status, passed, by_name)


def resized(head: AnswerHead, length: int) -> AnswerHead:
    """Return the head of an answer that differs in the length of its body alone."""
    if head.length == length:
        return head
    stated = b"content-length", b"%d" % length
    headers = [stated if header[0] == stated[0] else header for header in head.headers]
    return _head_of(head.status, headers, {**head.by_name, stated[0]: stated[1]})


def own_answer_head(status: int, headers: Headers) -> AnswerHead:
    """Return the head of an answer that the gateway makes itself."""
    return _head_of(status, headers, dict(headers))


def _head_of(status: int, headers: Headers, by_name: Mapping[bytes, bytes]) -> AnswerHead:
    lines = header_lines(headers)
    stated = [value for name, value in headers if name == b"content-length"]
    is_plain = lines.count(b"\n") == len(headers) and b"\0" not in lines
    is_framed = not stated or (len(stated) == 1 and stated[0].isdigit())
    return AnswerHead(
        status,
        headers,
        by_name,
        lines if is_plain and is_framed and status not in _BODILESS else None,
        int(stated[0]) if stated and is_framed else None,
        *_kind(by_name.get(b"content-type", b"")),
    )


@lru_cache(maxsize=256)
def _kind(content_type: bytes) -> tuple[bool, bool]:
    """Return whether an answer is a stream of events, and whether it is JSON."""
    media_type = content_type.partition(b";")[0].strip().lower()
    is_json = media_type == b"application/json" or media_type.endswith(b"+json")
    return media_type == b"text/event-stream", is_json
