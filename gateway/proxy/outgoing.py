"""The way to the caller: what was sent is remembered, and a whole answer leaves in one piece."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.proxy.body import Message, Send
from gateway.proxy.head import Header

# Where a connection offers it, in ``extensions`` of the ASGI scope.
WHOLE = "budget.whole"
Whole = Callable[[int, Sequence[Header], bytes], bool]


class Outgoing:
    """Where answers go; ``started`` is whether one has begun."""

    __slots__ = ("_send", "_whole", "started")

    def __init__(self, scope: Mapping[str, Any], send: Send) -> None:
        self.started = False
        self._send = send
        self._whole: Whole | None = scope.get("extensions", {}).get(WHOLE)

    async def __call__(self, message: Message) -> None:
        """Send one message of ASGI."""
        self.started = True
        await self._send(message)

    async def whole(self, status: int, headers: Sequence[Header], body: bytes) -> None:
        """Send an answer that is complete; the connection writes it at once if it can."""
        self.started = True
        if self._whole is not None and self._whole(status, headers, body):
            return
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
