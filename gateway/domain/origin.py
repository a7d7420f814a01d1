"""Origins: where an upstream is, read from its URL."""

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

_PORTS = {"http": 80, "https": 443}
# Servers differ in whether they decode before they resolve, and in what ends a segment.
DOT_SEGMENT = re.compile(rb"(?:/|\\|%2f|%5c)(?:\.|%2e){1,2}(?:$|/|\\|;|%2f|%5c|%3b)", re.IGNORECASE)
_NAME = re.compile(r"[0-9a-z_-]{1,63}(?:\.[0-9a-z_-]{1,63})*\.?")


class Site(NamedTuple):
    """What connections are shared by: the server, whatever the path."""

    host: str
    port: int
    is_tls: bool


class Origin(Struct, frozen=True):
    """An upstream: its site, what stands in Host, and the path that every path goes below."""

    site: Site
    authority: bytes
    base: bytes


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
    if DOT_SEGMENT.search(base):
        raise ValueError("upstream has a path with dot segments; expected a plain one.")
    return Origin(Site(host, port, parts.scheme == "https"), authority.encode("ascii"), base)


def _parts(url: str) -> SplitResult:
    # urlsplit drops line breaks silently, so look before it does.
    if not url.isprintable() or " " in url or "\\" in url:
        raise ValueError(
            "upstream holds a space, a backslash or a control character; expected a URL."
        )
    try:
        parts = urlsplit(url)
        valid = parts.scheme in _PORTS and parts.hostname and parts.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("upstream is not a URL; expected http:// or https://, a host and a path.")
    # A query or a fragment would end up in the middle of every path, also an empty one.
    if "?" in url or "#" in url or "@" in parts.netloc or not parts.path.isascii():
        raise ValueError("upstream is not plain; expected no credentials, no query, an ASCII path.")
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
