"""The wire between the gateways and Redis: a way for TCP that can be cut, slow, or half open."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Literal

_READ_BYTES = 65_536
Way = Literal["calls", "replies"]


class Wire:
    """Passes bytes on in both directions; what is set here is true of every connection.

    ``pause_s`` is how long each piece waits. ``cut_after`` tells each connection after how many
    bytes of its replies it is cut, None lets them live.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self.port = 0
        self.pause_s = 0.0
        self.cut_after: Callable[[], int] | None = None
        self._target = target
        self._flows: dict[Way, asyncio.Event] = {
            "calls": asyncio.Event(),
            "replies": asyncio.Event(),
        }
        for flow in self._flows.values():
            flow.set()
        self._connections: set[_Connection] = set()

    @property
    def connections(self) -> int:
        """How many there are now."""
        return len(self._connections)

    @property
    def url(self) -> str:
        """Where gateways find the Redis behind it."""
        return f"redis://127.0.0.1:{self.port}/0"

    def hold(self, way: Way) -> None:
        """Pass nothing on in one direction; nobody is told, and nothing is lost."""
        self._flows[way].clear()

    def flow(self, way: Way) -> None:
        """Pass on again, first what has come meanwhile."""
        self._flows[way].set()

    def lose(self) -> None:
        """Lose the other end of every connection there is: it stays open, and nothing answers."""
        for connection in self._connections:
            connection.is_lost = True

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until either end closes it, or it is cut."""
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target())
        except OSError:
            writer.close()
            return
        connection = _Connection()
        self._connections.add(connection)
        ways = [
            asyncio.create_task(self._pass_on("calls", connection, reader, far_writer)),
            asyncio.create_task(self._pass_on("replies", connection, far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            for way in ways:
                way.cancel()
            # Both before anything is waited for: the wait may be cancelled.
            writer.close()
            far_writer.close()
            await asyncio.gather(*ways, return_exceptions=True)
            with suppress(OSError):
                await writer.wait_closed()
                await far_writer.wait_closed()

    async def _pass_on(
        self,
        way: Way,
        connection: "_Connection",
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_READ_BYTES):
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                await self._flows[way].wait()
                if connection.is_lost:
                    continue
                left = connection.taken(len(data), self.cut_after) if way == "replies" else None
                writer.write(data[:left])
                await writer.drain()
                if left is not None:
                    return


class _Connection:
    """What one connection has before it."""

    def __init__(self) -> None:
        self.is_lost = False
        self._left: int | None = None

    def taken(self, count: int, cut_after: Callable[[], int] | None) -> int | None:
        """Return after how many of these bytes of replies it is to be cut, None where it lives."""
        if cut_after is None:
            self._left = None
            return None
        left = cut_after() if self._left is None else self._left
        self._left = left - count
        return left if left <= count else None


def cuts(chance: random.Random, bytes_max: int) -> Callable[[], int]:
    """Return how many bytes of replies each connection has, by chance."""
    return lambda: chance.randrange(bytes_max)


@asynccontextmanager
async def wire_to(target: Callable[[], int]) -> AsyncIterator[Wire]:
    """Listen on a free loopback port before the port that ``target`` tells."""
    wire, tasks = Wire(target), set[asyncio.Task[None]]()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(wire.converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    wire.port = server.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
