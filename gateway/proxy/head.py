"""Heads: which headers cross the gateway, and which are its own, in both directions."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain

from msgspec import Struct

from gateway.domain.key import KeyText, read_key
from gateway.domain.money import cents_from_microcents
from gateway.domain.reservation import Held
from gateway.proxy.problem import Problem, instant

Header = tuple[bytes, bytes]
Headers = list[Header]

HEAD_BYTES_MAX = 64 * 1024
IDEMPOTENCY_KEY_MAX = 255
_KEY_PREFIX = b"bgk_"
_TAGS_MAX = 512
_AUTH = frozenset((b"authorization", b"x-api-key"))
# RFC 9110 7.6.1: these belong to one connection, not to the message.
ONE_HOP = frozenset(
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
# Framing, Host and Expect are made anew: what the caller said of its own connection to us must
# not decide where this request ends.
_CALLER_HOP = ONE_HOP | {b"proxy-authorization", b"content-length", b"expect", b"host"}
_PERSISTENCE = (b"keep-alive", b"close")


class RequestHead(Struct, frozen=True):
    """What the gateway reads in a request's headers, and the ones that go to the upstream.

    ``key`` is the caller's key of this gateway, None where none was shown in the right form; it
    is never in ``forwarded``, nor is what belongs to the caller's connection. ``lines`` are the
    forwarded headers as they go over the wire, ``uncoded_lines`` the same without
    Accept-Encoding; ``names`` are their names. ``unfit`` is why no such request is served.
    """

    forwarded: Headers
    names: frozenset[bytes]
    lines: bytes
    uncoded_lines: bytes
    key: KeyText | None
    is_chunked: bool
    idempotency_key: bytes
    max_cost_cents: str
    tags: str
    unfit: Problem | None


def read_request_head(headers: Sequence[Header]) -> RequestHead:
    """Sort the headers of a request: ours are taken out, all others keep values and order."""
    forwarded, found = _without_ours(headers)
    if b"transfer-encoding" in found:
        codings = [value for name, value in headers if name == b"transfer-encoding"]
        found[b"transfer-encoding"] = b", ".join(codings).strip()
    key_text = found.get(b"budget-key")
    if key_text is None:
        forwarded, key_text = _without_key(forwarded)
    forwarded = _without_hops(forwarded)
    lines = header_lines(forwarded)
    return RequestHead(
        forwarded,
        frozenset(name for name, _ in forwarded),
        lines,
        header_lines([header for header in forwarded if header[0] != b"accept-encoding"]),
        read_key(key_text.decode("latin-1").strip()),
        bool(found.get(b"transfer-encoding")),
        found.get(b"idempotency-key", b""),
        found.get(b"budget-max-cost", b"").decode("latin-1"),
        found.get(b"budget-tags", b"")[:_TAGS_MAX].decode("latin-1"),
        _unbroken(lines, len(forwarded)) or _unfit(found, _size(headers)),
    )


def header_lines(headers: Iterable[Header]) -> bytes:
    """Return headers as they go over the wire."""
    return b"".join([name + b": " + value + b"\r\n" for name, value in headers])


def _size(headers: Iterable[Header]) -> int:
    return sum(map(len, chain.from_iterable(headers)))


def _unbroken(lines: bytes, count: int) -> Problem | None:
    # Whatever let a line break or NUL through, it must not become a request of its own.
    if lines.count(b"\n") == lines.count(b"\r") == count and b"\0" not in lines:
        return None
    return Problem("bad_request", "A header holds a line break or NUL.")


def _unfit(found: Mapping[bytes, bytes], size: int) -> Problem | None:
    if size > HEAD_BYTES_MAX:
        return Problem("headers_too_large", f"Headers must be below {HEAD_BYTES_MAX} bytes.")
    if found.get(b"upgrade", b"").lower() == b"websocket":
        return Problem("not_supported", "WebSocket upgrades are not supported.")
    if found.get(b"transfer-encoding", b"").lower() not in (b"", b"chunked"):
        return Problem("not_supported", "Of transfer codings only chunked is supported.")
    if len(found.get(b"idempotency-key", b"")) > IDEMPOTENCY_KEY_MAX:
        detail = f"Idempotency-Key is too long; expected at most {IDEMPOTENCY_KEY_MAX} bytes."
        return Problem("bad_request", detail)
    return None


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


def _without_key(headers: Headers) -> tuple[Headers, bytes]:
    """Return what goes on, and the key of this gateway, or nothing where there is none."""
    # Where a Budget-Key is there the caller said which header is ours: all others pass.
    withheld = [header for header in headers if header[0] in _AUTH and _key_in(*header)]
    if not withheld:
        return headers, b""
    return [header for header in headers if header not in withheld], _key_in(*min(withheld))


def _without_hops(headers: Headers) -> Headers:
    """Return what does not belong to the caller's connection, nor is named by its Connection."""
    dropped = _CALLER_HOP
    for name, value in headers:
        if name == b"connection" and (named := value.lower()) not in _PERSISTENCE:
            dropped |= {token.strip() for token in named.split(b",")}
    return [header for header in headers if header[0] not in dropped]


def _key_in(name: bytes, value: bytes) -> bytes:
    """Return the key of this gateway in a header, or nothing where it carries another secret."""
    if name == b"authorization":
        scheme, _, value = value.partition(b" ")
        if scheme.lower() != b"bearer":
            return b""
    value = value.strip()
    return value if value.startswith(_KEY_PREFIX) else b""


def budget_lines(request_id: str, org: str, held: Held, *, visible: bool) -> bytes:
    """Return what an admitted answer says of its reservation, as it goes over the wire.

    ``visible`` is false where the caller may not see what is left of this budget.
    """
    lines = f"budget-request-id: {request_id}\r\nbudget-source: upstream\r\n"
    if held.budget:
        left = held.available_microcents
        remaining = f"budget-remaining: {cents_from_microcents(left)}\r\n" if visible else ""
        reset = _reset_line(held.resets_ms) if held.resets_ms else ""
        lines = f"{lines}budget-id: {org}:{held.budget}\r\n{remaining}{reset}"
    if held.warnings:
        warned = ", ".join([f"{org}:{budget}" for budget in held.warnings])
        lines = f"{lines}budget-warning: {warned}\r\n"
    return lines.encode()


def cost_lines(
    cost_microcents: int | None, total_s: float, store_s: float, upstream_s: float
) -> bytes:
    """Return what a call has cost, in cents where it is known, and where its time went.

    The times are milliseconds; ``gw`` is what the gateway itself took.
    """
    cost = b""
    if cost_microcents is not None:
        cost = f"budget-cost: {cents_from_microcents(cost_microcents)}\r\n".encode()
    own_s = total_s - store_s - upstream_s
    text = b"%bserver-timing: gw;dur=%.3f, redis;dur=%.3f, upstream;dur=%.3f\r\n"
    return text % (cost, own_s * 1e3, store_s * 1e3, upstream_s * 1e3)


def headers_in(lines: bytes) -> Headers:
    """Return the headers that these lines of ours are made of."""
    pairs = [line.partition(b": ") for line in lines.split(b"\r\n")[:-1]]
    return [(name, value) for name, _, value in pairs]


# Budgets reset at few instants, and each is written on very many answers.
@lru_cache(maxsize=256)
def _reset_line(resets_ms: int) -> str:
    return f"budget-reset: {instant(resets_ms)}\r\n"
