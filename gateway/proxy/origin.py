"""Origins: where an upstream is, and the head of a request to it."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from gateway.domain.origin import DOT_SEGMENT, Origin, Site, origin_of
from gateway.errors import BadRequest

__all__ = ["Origin", "Site", "UpstreamHead", "origin_of", "request_head"]

Header = tuple[bytes, bytes]

# Most calls name one of a few paths; longer ones would fill the memory.
_KNOWN_PATH_BYTES_MAX = 256
# RFC 9110 7.6.1: these belong to one connection. Framing, Host and Expect are made anew: what the
# caller said of its own connection to us must not decide where this request ends.
_ONE_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
        b"expect",
        b"host",
    )
)
_PERSISTENCE = (b"keep-alive", b"close")
_VIA = b"via: 1.1 budget-gateway"
# A length of zero is worth saying only where a body is expected (RFC 9110 8.6).
_EXPECT_BODY = (b"POST", b"PUT", b"PATCH")
_PATH = re.compile(rb"/[^\x00-\x20\x7f#]*")


class UpstreamHead(NamedTuple):
    """The head of a request as it goes over the wire; ``length`` None is a chunked body."""

    method: bytes
    text: bytes
    length: int | None


def request_head(
    origin: Origin,
    method: bytes,
    raw_path: bytes,
    headers: Sequence[Header],
    body_length: int | None,
    added: Sequence[Header] = (),
) -> UpstreamHead:
    """Return the head of a request to ``raw_path`` (with its query) below the origin's path.

    Values, order and duplicates of ``headers`` stay; what belongs to the caller's connection is
    dropped, also what its Connection header names. ``added`` are the operator's: nothing the
    caller names can drop them. ``body_length`` None makes the body chunked.

    Raises:
        BadRequest: the path has dot segments, or path or headers would break the framing.
    """
    path = raw_path if raw_path.startswith(b"/") else b"/" + raw_path
    if not (_is_known_path(path) if len(path) <= _KNOWN_PATH_BYTES_MAX else _is_path(path)):
        raise BadRequest("The path holds dot segments or characters that must be encoded.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT asks for a tunnel, which this gateway does not open.")
    dropped = _dropped(headers)
    lines = [b"%b %b%b HTTP/1.1" % (method, origin.base, path), b"host: " + origin.authority]
    lines += [b"%b: %b" % header for header in headers if header[0] not in dropped]
    lines += [b"%b: %b" % header for header in added]
    lines.append(_VIA)
    if body_length is None:
        lines.append(b"transfer-encoding: chunked")
    elif body_length or method in _EXPECT_BODY:
        lines.append(b"content-length: %d" % body_length)
    text = b"\r\n".join(lines) + b"\r\n\r\n"
    # Whatever let a line break or NUL through, it must not become a request of its own.
    ends = len(lines) + 1
    if text.count(b"\n") != ends or text.count(b"\r") != ends or b"\0" in text:
        raise BadRequest("A header holds a line break or NUL.")
    return UpstreamHead(method, text, body_length)


def _is_path(path: bytes) -> bool:
    return bool(_PATH.fullmatch(path)) and not DOT_SEGMENT.search(path.partition(b"?")[0])


@lru_cache(maxsize=4096)
def _is_known_path(path: bytes) -> bool:
    return _is_path(path)


def _dropped(headers: Sequence[Header]) -> frozenset[bytes]:
    dropped = _ONE_HOP
    for name, value in headers:
        if name == b"connection" and (named := value.lower()) not in _PERSISTENCE:
            dropped |= {token.strip() for token in named.split(b",")}
    return dropped
