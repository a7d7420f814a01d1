"""A caller that writes its bytes itself, for what no client library would send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.proxy import acme

_WAIT_S = 10.0


class Wire:
    """One connection to a gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    @property
    def is_sent(self) -> bool:
        """Whether the other side has got all that was written."""
        return not self._writer.transport.get_write_buffer_size()

    async def until(self, end: bytes) -> bytes:
        """Read until these bytes have come; return all that came up to and with them."""
        async with asyncio.timeout(_WAIT_S):
            return await self._reader.readuntil(end)

    async def exactly(self, size: int) -> bytes:
        """Read so many bytes."""
        async with asyncio.timeout(_WAIT_S):
            return await self._reader.readexactly(size)

    async def rest(self) -> bytes:
        """Read until the gateway closes the connection."""
        async with asyncio.timeout(_WAIT_S):
            return await self._reader.read()


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """Connect to a gateway; leaving closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**22)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        # A socket that outlives its event loop would be a warning in some later test.
        with suppress(ConnectionError):
            await writer.wait_closed()


def request(
    path: str = "/agents/researcher/invoke",
    *headers: str,
    method: str = "POST",
    key: str = acme.KEY,
) -> bytes:
    """Return the head of a request; ``headers`` are lines, its body is for the caller to add."""
    lines = [f"{method} {path} HTTP/1.1", "Host: gateway", *headers]
    if key:
        lines.insert(2, f"Authorization: Bearer {key}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
