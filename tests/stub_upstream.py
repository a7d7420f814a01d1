"""The upstream of the tests: a scripted HTTP/1.1 server that can also misbehave.

    async with stub_upstream() as upstream:
        upstream.answers(json_answer({"usage": {...}}), sse_answer(*openai_chat_events(), DIE))
        ... call upstream.url ...
        assert upstream.executions == 2
        assert upstream.requests[0].path == b"/v1/chat/completions"

The answers are given in their order, the last one again and again. What they are made of is in
``tests/upstream_answers.py``.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import httptools

from tests.upstream_answers import CLOSE, DIE, HANG, Answering, Ending, json_answer

_READ_BYTES = 65_536
_LINGER_NOT = struct.pack("ii", 1, 0)

Choice = Answering | Callable[["Received"], Answering]


class Received(NamedTuple):
    """One request as it came over the wire; header names are in lower case."""

    method: bytes
    path: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> bytes | None:
        """Return the last value of a header, None where it was not sent."""
        return dict(self.headers).get(name)


class StubUpstream:
    """What a test scripts and looks at.

    ``requests`` are those that were received whole, which is when an upstream would run them;
    ``connections`` were ever accepted, ``open`` are there now.
    """

    def __init__(self, scheme: str, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        self.requests: list[Received] = []
        self.connections = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._busy: set[asyncio.StreamWriter] = set()
        self._script: list[Choice] = [json_answer({"ok": True})]
        self._given = 0

    @property
    def executions(self) -> int:
        """How many requests an upstream would have run."""
        return len(self.requests)

    @property
    def open(self) -> int:
        """How many connections are open."""
        return len(self._open)

    @property
    def busy(self) -> int:
        """How many connections wait for their answer or the rest of it."""
        return len(self._busy)

    def answers(self, *script: Choice) -> None:
        """Set what the next requests are answered with; a function is given the request."""
        self._script, self._given = list(script), 0

    def drop(self) -> None:
        """Close every connection, as a server does with idle ones."""
        for writer in self._open:
            writer.close()

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self.connections += 1
        self._open.add(writer)
        try:
            with suppress(ConnectionError, ssl.SSLError, httptools.HttpParserError):
                while await self._exchange(reader, writer):
                    self._busy.discard(writer)
        finally:
            self._busy.discard(writer)
            self._open.discard(writer)
            writer.close()
            # A socket that outlives its event loop would be a warning in some later test.
            with suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Receive and answer one request; return whether another may follow."""
        intake = _Intake()
        if not await _receive(reader, intake, until_head=True):
            return False
        self._busy.add(writer)
        choice = self._script[min(self._given, len(self._script) - 1)]
        self._given += 1
        if isinstance(choice, Answering) and choice.early:
            goes_on = await _play(choice, intake.received(), reader, writer)
            return goes_on and await _receive(reader, intake)
        if not await _receive(reader, intake):
            return False
        received = intake.received()
        self.requests.append(received)
        answering = choice if isinstance(choice, Answering) else choice(received)
        return await _play(answering, received, reader, writer)


class _Intake:
    """What the parser has read of one request."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.has_head = False
        self.complete = False
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""

    def received(self) -> Received:
        return Received(self.parser.get_method(), self._url, self._headers, self._body)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, chunk: bytes) -> None:
        self._body += chunk

    def on_message_complete(self) -> None:
        self.complete = True


async def _receive(
    reader: asyncio.StreamReader, intake: _Intake, *, until_head: bool = False
) -> bool:
    """Read a request, or only its head; return False where the peer left instead."""
    while not (intake.has_head if until_head else intake.complete):
        data = await reader.read(_READ_BYTES)
        if not data:
            return False
        with suppress(httptools.HttpParserUpgrade):
            intake.parser.feed_data(data)
    return True


async def _play(
    answering: Answering,
    received: Received,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    """Take the steps of one answer; return whether the connection is still of use."""
    for step in answering.steps:
        if isinstance(step, bytes):
            if received.method == b"HEAD":
                step = step.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
            writer.write(step)
            await writer.drain()
        elif isinstance(step, asyncio.Event):
            await step.wait()
        else:
            await _end(step, reader, writer)
            return False
    return answering.reusable


async def _end(step: Ending, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if step is HANG:
        # Until the peer leaves; what it may send meanwhile is of no interest.
        while await reader.read(_READ_BYTES):
            pass
    elif step is DIE:
        bound: Any = writer.get_extra_info("socket")
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        writer.transport.abort()
    elif step is CLOSE:
        writer.close()


@asynccontextmanager
async def stub_upstream(
    host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[StubUpstream]:
    """Run an upstream on a free port; leaving ends every connection of it."""
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    )
    scheme = "https" if tls else "http"
    upstream = StubUpstream(scheme, host, listening.getsockname()[1])
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(upstream.converse(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, sock=listening, ssl=tls)
    try:
        yield upstream
    finally:
        server.close()
        upstream.drop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
