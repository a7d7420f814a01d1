"""Origins: where an upstream is, and the head of a request to it."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from gateway.errors import BadRequest

Header = tuple[bytes, bytes]

_PORTS = {"http": 80, "https": 443}
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
# Servers differ in whether they decode before they resolve, and in what ends a segment.
_DOT_SEGMENT = re.compile(
    rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:$|/|\\|;|%2f|%5c|%3b)", re.IGNORECASE
)
_NAME = re.compile(r"[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*\.?")


class Site(NamedTuple):
    """What connections are shared by: the server, whatever the path."""

    host: str
    port: int
    is_tls: bool


class Origin(NamedTuple):
    """An upstream: its site, what stands in Host, and the path that every path goes below."""

    site: Site
    authority: bytes
    base: bytes


class UpstreamHead(NamedTuple):
    """The head of a request as it goes over the wire; ``length`` None is a chunked body."""

    method: bytes
    text: bytes
    length: int | None


@lru_cache(maxsize=1024)
def origin_of(url: str) -> Origin:
    """Return the origin that an upstream URL names.

    Raises:
        ValueError: it is not ``http(s)://host[:port][/path]``; the message never repeats more
            than the host, because what is wrong may be a secret.
    """
    parts = _parts(url)
    host, is_ipv6 = _host(parts)
    port = parts.port or _PORTS[parts.scheme]
    authority = f"[{host}]" if is_ipv6 else host
    if port != _PORTS[parts.scheme]:
        authority += f":{port}"
    base = parts.path.rstrip("/").encode("ascii")
    if _DOT_SEGMENT.search(base):
        raise ValueError("upstream has a path with dot segments; expected a plain one.")
    return Origin(Site(host, port, parts.scheme == "https"), authority.encode("ascii"), base)


def _parts(url: str) -> SplitResult:
    # urlsplit drops line breaks silently, so look before it does.
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError("upstream holds a space, a backslash or a control character.")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("upstream is not a URL; expected http:// or https://, a host and a path.")
    if parts.query or parts.fragment or "@" in parts.netloc or not parts.path.isascii():
        raise ValueError("upstream must have no credentials, no query and an ASCII path.")
    return parts


def _host(parts: SplitResult) -> tuple[str, bool]:
    host = (parts.hostname or "").lower()
    try:
        if "[" in parts.netloc:
            return IPv6Address(host).compressed, True
        ascii_host = host.encode("idna").decode("ascii")
    except ValueError:
        ascii_host = ""
    if not _NAME.fullmatch(ascii_host):
        raise ValueError(f"upstream has the host {host!r}; expected a name or an IP address.")
    return ascii_host, False


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
    if not _PATH.fullmatch(path) or _DOT_SEGMENT.search(path.partition(b"?")[0]):
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


def _dropped(headers: Sequence[Header]) -> frozenset[bytes]:
    dropped = _ONE_HOP
    for name, value in headers:
        if name == b"connection" and (named := value.lower()) not in _PERSISTENCE:
            dropped |= {token.strip() for token in named.split(b",")}
    return dropped
