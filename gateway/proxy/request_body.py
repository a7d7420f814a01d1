"""The body of a request: whole or as it comes, framed the way its head says."""

from collections.abc import AsyncIterator

from gateway.errors import BadRequest
from gateway.proxy.lengths import DIGITS
from gateway.proxy.origin import UpstreamHead

# A length of zero is worth saying only where a body is expected (RFC 9110 8.6).
_EXPECT_BODY = (b"POST", b"PUT", b"PATCH")
_LAST_CHUNK = b"0\r\n\r\n"


async def begun(body: AsyncIterator[bytes]) -> tuple[bytes, AsyncIterator[bytes] | None]:
    """Wait for the first part of a body; return it and what gives the rest, None if it was all.

    What the iterator raises before its first part is raised here.
    """
    async for part in body:
        if part:
            return part, body
    return b"", None


def opening(head: UpstreamHead, first: bytes, *, is_all: bool) -> bytes:
    """Return the head and the first part of the body as they go over the wire.

    Raises:
        BadRequest: the body is not as long as its head says. More bytes would be read as another
            request, fewer would let the upstream wait for ever.
    """
    length = head.length
    if length is None:
        last = _LAST_CHUNK if is_all else b""
        return b"%btransfer-encoding: chunked\r\n\r\n%b%b" % (head.start, _chunk(first), last)
    if len(first) != length and (is_all or len(first) > length):
        raise _other_length(length)
    if length or head.method in _EXPECT_BODY:
        digits = DIGITS.get(length) or b"%d" % length
        return b"%bcontent-length: %b\r\n\r\n%b" % (head.start, digits, first)
    return head.start + b"\r\n"


async def remainder(
    head: UpstreamHead, first: bytes, rest: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    """Yield what follows the opening, as it goes over the wire; raises like ``opening``."""
    length = len(first)
    async for part in rest:
        length += len(part)
        if head.length is not None and length > head.length:
            raise _other_length(head.length)
        yield part if head.length is not None else _chunk(part)
    if head.length is None:
        yield _LAST_CHUNK
    elif length < head.length:
        raise _other_length(head.length)


def _chunk(part: bytes) -> bytes:
    # A chunk of no bytes would be the last one.
    return b"%x\r\n%b\r\n" % (len(part), part) if part else b""


def _other_length(length: int) -> BadRequest:
    return BadRequest(f"The body is not as long as its content-length, {length}.")
