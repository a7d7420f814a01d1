"""Connections for the tests of this room, to real servers, closed when the test ends."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import Script, Source

Connect = Callable[..., Awaitable[Connection]]


def script(name: str, body: str, flags: str = "") -> Script:
    """Return a script of one body in both forms."""
    texts = (f"#!lua flags={flags}\n{body}", f"\n{body}")
    return Script(name, *(Source(text, hashlib.sha1(text.encode()).hexdigest()) for text in texts))


ECHO = script("echo", "return {KEYS[1] or '', ARGV[1] or ''}", "no-writes")
ADD = script("add", "return {redis.call('HINCRBY', KEYS[1], 'n', ARGV[1])}")


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Yield a function that starts a connection and waits for its first attempt."""
    connections: list[Connection] = []

    async def connected(url: str, deadline_ms: int = 2_000, calls_max: int = 10_000) -> Connection:
        connection = Connection(read_address(url), (ECHO, ADD), deadline_ms, calls_max)
        connections.append(connection)
        await connection.start()
        await connection.tried()
        return connection

    yield connected
    for connection in connections:
        await connection.close()
