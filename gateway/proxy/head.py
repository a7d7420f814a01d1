"""Heads: which headers cross the gateway, and which are its own, in both directions."""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

from gateway.domain.money import cents_from_microcents
from gateway.domain.reservation import Held
from gateway.proxy.problem import instant

Header = tuple[bytes, bytes]
Headers = list[Header]

HEAD_BYTES_MAX = 64 * 1024
_KEY_PREFIX = b"bgk_"
_TAGS_MAX = 512
_AUTH = frozenset((b"authorization", b"x-api-key"))
_OURS = re.compile(rb"^(?:budget-|x-litellm-)", re.MULTILINE)
# RFC 9110 7.6.1: these belong to one connection, not to the answer.
_ONE_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class RequestHead(NamedTuple):
    """What the gateway reads in a request's headers, and the ones that go to the upstream.

    ``key_text`` is the caller's key of this gateway, empty for none; it is never in ``forwarded``.
    ``body_length`` is None where only the end of the body will tell.
    """

    forwarded: Headers
    key_text: str
    body_length: int | None
    is_json: bool
    idempotency_key: bytes
    max_cost_cents: str
    tags: str
    is_websocket: bool
    is_coded: bool
    is_too_large: bool


def read_request_head(headers: Sequence[Header]) -> RequestHead:
    """Sort the headers of a request: ours are taken out, all others keep values and order."""
    found = dict(headers)
    forwarded = list(headers)
    # One search for all names, because hardly any call has a header of ours.
    if _OURS.search(b"\n".join(found)):
        forwarded, found = _without_ours(headers)
    withheld = [header for header in forwarded if header[0] in _AUTH and _key_in(*header)]
    key = found.get(b"budget-key")
    # Where it is there the caller said which header is ours, so all others are for the upstream.
    if key is None and withheld:
        forwarded = [header for header in forwarded if header not in withheld]
        key = _key_in(*min(withheld))
    coding = found.get(b"transfer-encoding", b"").lower()
    return RequestHead(
        forwarded,
        key.decode("latin-1").strip() if key is not None else "",
        None if coding else int(found.get(b"content-length", b"0")),
        b"json" in found.get(b"content-type", b"").lower(),
        found.get(b"idempotency-key", b""),
        found.get(b"budget-max-cost", b"").decode("latin-1"),
        found.get(b"budget-tags", b"")[:_TAGS_MAX].decode("latin-1"),
        found.get(b"upgrade", b"").lower() == b"websocket",
        coding not in (b"", b"chunked"),
        sum(map(len, chain.from_iterable(headers))) > HEAD_BYTES_MAX,
    )


def _without_ours(headers: Sequence[Header]) -> tuple[Headers, dict[bytes, bytes]]:
    """Return what goes on, and everything by name; of our own headers the first of a name."""
    forwarded: Headers = []
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name.startswith(b"budget-"):
            found.setdefault(name, value)
        # A caller must not forge what an upstream says it has cost.
        elif not name.startswith(b"x-litellm-") or b"cost" not in name:
            found[name] = value
            forwarded.append((name, value))
    return forwarded, found


def _key_in(name: bytes, value: bytes) -> bytes:
    """Return the key of this gateway in a header, or nothing where it carries another secret."""
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return b""
    value = value.strip()
    return value if value.startswith(_KEY_PREFIX) else b""


def read_answer_head(headers: Sequence[Header], status: int) -> tuple[Headers, dict[bytes, bytes]]:
    """Return the headers of an answer that pass to the caller, and all of them by name.

    Of the upstream's own ``Budget-*`` headers none passes; the meter reads them from the second.
    """
    by_name = dict(headers)
    dropped = _ONE_HOP
    if b"connection" in by_name:
        named = b",".join(value.lower() for name, value in headers if name == b"connection")
        dropped = _ONE_HOP.union(token.strip() for token in named.split(b","))
    if status in (204, 304):
        # There is no body that it could describe, and the server would wait for one.
        dropped = dropped | {b"content-length"}
    return [
        header
        for header in headers
        if header[0] not in dropped and not header[0].startswith(b"budget-")
    ], by_name


def budget_headers(request_id: str, org: str, held: Held, *, visible: bool) -> Headers:
    """Return what an admitted answer says of its reservation.

    ``visible`` is false where the caller may not see what is left of this budget.
    """
    headers = [
        (b"budget-request-id", request_id.encode()),
        (b"budget-source", b"upstream"),
    ]
    if held.budget:
        headers.append((b"budget-id", f"{org}:{held.budget}".encode()))
        if visible:
            headers.append((b"budget-remaining", cents_bytes(held.available_microcents)))
        if held.resets_ms:
            headers.append((b"budget-reset", _instant(held.resets_ms)))
    if held.warnings:
        warned = ", ".join(f"{org}:{budget}" for budget in held.warnings)
        headers.append((b"budget-warning", warned.encode()))
    return headers


def cents_bytes(amount_microcents: int) -> bytes:
    """Return an amount as a header says it: plain decimal cents."""
    return cents_from_microcents(amount_microcents).encode()


def server_timing(total_s: float, store_s: float, upstream_s: float) -> Header:
    """Return where the time went, in milliseconds; ``gw`` is what the gateway itself took."""
    own_s = total_s - store_s - upstream_s
    text = b"gw;dur=%.3f, redis;dur=%.3f, upstream;dur=%.3f"
    return (b"server-timing", text % (own_s * 1e3, store_s * 1e3, upstream_s * 1e3))


@lru_cache(maxsize=256)
def _instant(epoch_ms: int) -> bytes:
    return instant(epoch_ms).encode()
