"""Origins: where an upstream is, and the head of a request to it."""

import re
from functools import lru_cache

from msgspec import Struct

from gateway.domain.origin import DOT_SEGMENT, Origin, Site, origin_of
from gateway.errors import BadRequest

__all__ = ["Origin", "Site", "UpstreamHead", "origin_of", "request_start"]

# Most calls name one of a few paths; longer ones would fill the memory.
_KNOWN_PATH_BYTES_MAX = 256
_VIA = b"via: 1.1 budget-gateway\r\n"
_PATH = re.compile(rb"/[^\x00-\x20\x7f#]*")


class UpstreamHead(Struct, frozen=True, gc=False):
    """The head of a request: its ``request_start``, and how long its body is; None is chunked."""

    method: bytes
    start: bytes
    length: int | None


def request_start(origin: Origin, method: bytes, raw_path: bytes, lines: bytes) -> bytes:
    """Return a head without its end: a request to ``raw_path`` (with its query) below the origin.

    ``lines`` are its headers as ``head.header_lines`` gives them, without those that say how it
    is framed.

    Raises:
        BadRequest: the path has dot segments or would break the framing.
    """
    path = raw_path if raw_path.startswith(b"/") else b"/" + raw_path
    if not (_is_known_path(path) if len(path) <= _KNOWN_PATH_BYTES_MAX else _is_path(path)):
        raise BadRequest("The path holds dot segments or characters that must be encoded.")
    if method == b"CONNECT":
        raise BadRequest("CONNECT asks for a tunnel, which this gateway does not open.")
    place = method + b" " + origin.base + path + b" HTTP/1.1\r\nhost: " + origin.authority
    return place + b"\r\n" + lines + _VIA


def _is_path(path: bytes) -> bool:
    return bool(_PATH.fullmatch(path)) and not DOT_SEGMENT.search(path.partition(b"?")[0])


@lru_cache(maxsize=4096)
def _is_known_path(path: bytes) -> bool:
    return _is_path(path)
