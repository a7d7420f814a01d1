"""The upstream of the bench: a fixed answer for next to nothing.

    python -m bench.upstream --port 9000

Whatever it costs is taken from the core that it shares with the load and with Redis, so it parses
only where a request ends, and answers with bytes that were put together before.
"""

import argparse
import asyncio
from typing import cast

import httptools
import uvloop

from bench.answers import EXCHANGES, Exchange, exchange_for


def _wire_parts(exchange: Exchange) -> tuple[bytes, ...]:
    """Return what is written for an answer: one piece, or a head and one piece per event."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n" % exchange.content_type
    if len(exchange.parts) == 1:
        return (b"%scontent-length: %d\r\n\r\n%s" % (head, exchange.answer_bytes, *exchange.parts),)
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in exchange.parts]
    return (head + b"transfer-encoding: chunked\r\n\r\n", *chunks[:-1], chunks[-1] + b"0\r\n\r\n")


class Upstream(asyncio.Protocol):
    """One connection. A stream leaves event by event, each in its own turn of the event loop."""

    def __init__(self, wire: dict[Exchange, tuple[bytes, ...]]) -> None:
        self._wire = wire
        self._body = b""
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Read on; the callbacks do the rest."""
        self._parser.feed_data(data)

    def on_body(self, chunk: bytes) -> None:
        """Collect what decides on the answer."""
        self._body += chunk

    def on_message_complete(self) -> None:
        """Answer."""
        parts = self._wire[exchange_for(self._body)]
        self._body = b""
        self._write(parts, 0)

    def _write(self, parts: tuple[bytes, ...], number: int) -> None:
        self._transport.write(parts[number])
        if number + 1 < len(parts) and not self._transport.is_closing():
            self._loop.call_soon(self._write, parts, number + 1)


async def serve(port: int) -> None:
    """Answer on loopback until the process is ended."""
    wire = {exchange: _wire_parts(exchange) for exchange in EXCHANGES.values()}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(wire), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(serve(parser.parse_args().port))
