"""A way to Redis that notes each command that takes it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import hiredis

_READ_BYTES = 65_536
# What a connection asks by itself, twice a second, whether there are calls or not.
_LOOKS = ("HGETALL", "TIME")


class CountingProxy:
    """``commands`` are the names of those that were sent, without the looks of the connection."""

    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self.commands: list[str] = []
        self._upstream = (host, port)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on, in both directions."""
        to_reader, to_writer = await asyncio.open_connection(*self._upstream)
        back = asyncio.create_task(_pass_on(to_reader, writer))
        parser = hiredis.Reader()
        try:
            while data := await reader.read(_READ_BYTES):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    name = command[0].decode()
                    if name not in _LOOKS:
                        self.commands.append(name)
                to_writer.write(data)
                await to_writer.drain()
        finally:
            back.cancel()
            for end in (writer, to_writer):
                end.close()
                with suppress(ConnectionError):
                    await end.wait_closed()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_READ_BYTES):
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def counting_proxy(redis_url: str) -> AsyncIterator[CountingProxy]:
    """Serve on a free loopback port; leaving the block ends every connection."""
    parts = urlsplit(redis_url)
    proxy = CountingProxy(str(parts.hostname), int(parts.port or 0))
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(proxy.converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    proxy.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield proxy
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
