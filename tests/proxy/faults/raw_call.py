"""A caller without a client library: it can stop in the middle, and leave."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.proxy import acme

_LINGER_NOT = struct.pack("ii", 1, 0)


class RawCall:
    """One request over a connection of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, path: str, length: int, body: bytes) -> None:
        """Send a head that promises a length, and as much of the body as is given."""
        head = (
            f"POST {path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {acme.KEY}\r\n"
            f"content-length: {length}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()

    async def read_until(self, word: bytes) -> bytes:
        """Return what has come when a word has."""
        return await self._reader.readuntil(word)

    async def read(self) -> bytes:
        """Return everything that comes until the gateway closes."""
        return await self._reader.read()

    def leave(self) -> None:
        """Be gone at once, as a process that was killed."""
        bound: socket.socket = self._writer.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self._writer.transport.abort()


@asynccontextmanager
async def raw_call(port: int) -> AsyncIterator[RawCall]:
    """Connect to a gateway; leaving the block closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield RawCall(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
