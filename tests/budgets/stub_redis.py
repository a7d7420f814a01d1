"""A server that speaks Redis's protocol and answers what a test wants it to answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import hiredis

# What a command is answered with; None closes the connection.
Answer = Callable[[list[bytes]], bytes | None]

MARKER = {"schema": "1", "epoch": "1", "windows": "day,total", "ready": "1"}


def packed(*words: object) -> bytes:
    """Return a list of strings as Redis's protocol writes it, a command or a reply."""
    texts = [str(word).encode() for word in words]
    return b"*%d\r\n" % len(texts) + b"".join(b"$%d\r\n%s\r\n" % (len(t), t) for t in texts)


def healthy(command: list[bytes]) -> bytes:
    """Answer as a ready node does, for every command that the connection itself sends."""
    if command[0] == b"ROLE":
        return packed("master")
    if command[0] == b"HGETALL":
        return packed(*(word for pair in MARKER.items() for word in pair))
    if command[0] == b"TIME":
        return packed(0, 0)
    return b"+OK\r\n"


class StubRedis:
    """What the test may look at: the connections that were made, and the commands on them."""

    def __init__(self, answer: Answer) -> None:
        self.url = ""
        self.answer = answer
        self.commands: list[list[bytes]] = []
        self.connections = 0
        self.closed = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one connection until it or the answer ends."""
        self.connections += 1
        parser = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    self.commands.append(command)
                    reply = self.answer(command)
                    if reply is None:
                        return
                    writer.write(reply)
        except ConnectionError:
            return
        finally:
            self.closed += 1
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def stub_redis(answer: Answer = healthy) -> AsyncIterator[StubRedis]:
    """Serve on a free loopback port while the block runs."""
    stub = StubRedis(answer)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(stub.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    stub.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield stub
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        # A socket that outlives its event loop would be a warning in some later test.
        await asyncio.gather(*tasks, return_exceptions=True)
