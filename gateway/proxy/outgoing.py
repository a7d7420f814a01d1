"""The way to the caller: what was sent is remembered, and a whole answer leaves in one piece."""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from gateway.proxy.answer_head import AnswerHead
from gateway.proxy.body import Message, Send
from gateway.proxy.head import headers_in

# Where a connection offers it, in ``extensions`` of the ASGI scope.
WHOLE = "budget.whole"
Whole = Callable[[AnswerHead, bytes, bytes], bool]


class Outgoing:
    """The way to a caller: ``send`` takes messages of ASGI, ``write`` may write a whole answer.

    ``started`` is whether an answer has begun. ``lines`` are headers of our own, as they go over
    the wire, beside those of a head.
    """

    started = False

    def __init__(self, send: Callable[[Any], Awaitable[None]], write: Whole | None) -> None:
        self.send = send
        self.write = write

    async def __call__(self, message: Message) -> None:
        """Send one message of ASGI."""
        self.started = True
        await self.send(message)

    async def begin(self, head: AnswerHead, lines: bytes) -> None:
        """Send the head of an answer."""
        headers = [*head.headers, *headers_in(lines)]
        await self({"type": "http.response.start", "status": head.status, "headers": headers})

    def leaves(self, _head: AnswerHead, _lines: bytes, _body: bytes) -> bool:
        """Let an answer leave that is complete, behind all that waits for this event loop to turn.

        Say whether it does; else it takes ``whole``, which waits for that turn.
        """
        return False

    async def whole(self, head: AnswerHead, lines: bytes, body: bytes) -> None:
        """Send an answer that is complete, behind all that waits for this event loop to turn.

        Who is cancelled in that moment sends it still: it is paid for, and its call is over.
        """
        if self.leaves(head, lines, body):
            return
        self.started = True
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        if self.write is None or not self.write(head, lines, body):
            await self.begin(head, lines)
            await self.send({"type": "http.response.body", "body": body})


def outgoing_in(scope: MutableMapping[str, Any], send: Send) -> Outgoing:
    """Return the way to the caller of an ASGI scope."""
    # Taken out, because it knows the scope that it stands in: a circle for each call.
    return Outgoing(send, scope.get("extensions", {}).pop(WHOLE, None))
