"""Bare uvicorn: the fixed answer from a raw ASGI callable, with nothing before or behind it.

    uvicorn bench.peers.bare:app

The ceiling of whatever is built on uvicorn: no budget, no Redis, no upstream.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from bench.answers import exchange_for

Message = MutableMapping[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Read the whole request and answer it."""
    assert scope["type"] == "http", scope["type"]
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    exchange = exchange_for(body)
    headers = [(b"content-type", exchange.content_type)]
    if len(exchange.parts) == 1:
        headers.append((b"content-length", b"%d" % exchange.answer_bytes))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in exchange.parts[:-1]:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": exchange.parts[-1]})
