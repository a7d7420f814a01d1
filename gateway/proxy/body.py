"""Bodies: what a caller sends, read whole or passed on as it comes."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# More is not read before the key was checked.
UNCHECKED_BYTES_MAX = 64 * 1024


class CallerLeft(Exception):
    """The caller closed the connection before its request was complete; nobody can be told."""


class BodyTooLarge(Exception):
    """The body is longer than ``GATEWAY_MAX_BODY_BYTES``."""


async def read_body(receive: Receive, bytes_max: int) -> bytes:
    """Return the whole body.

    Raises:
        BodyTooLarge: more than ``bytes_max`` came; the rest was not read.
        CallerLeft: it will never be complete.
    """
    chunks, size, more = [], 0, True
    while more:
        message = await receive()
        chunk, more = _part(message)
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def stream_body(receive: Receive, bytes_max: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes; raises like ``read_body``."""
    size, more = 0, True
    while more:
        chunk, more = _part(await receive())
        size += len(chunk)
        if size > bytes_max:
            raise BodyTooLarge
        if chunk:
            yield chunk


def _part(message: Message) -> tuple[bytes, bool]:
    if message["type"] != "http.request":
        raise CallerLeft
    return message.get("body", b""), message.get("more_body", False)
