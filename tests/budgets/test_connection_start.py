"""The connection while it is being made: what it waits for, refuses and says."""

import time

import pytest
from redis.asyncio import Redis

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.node import Node, write_marker
from gateway.errors import StoreUnavailable
from tests.budgets.conftest import ECHO, Connect
from tests.budgets.stub_redis import healthy, stub_redis
from tests.servers import Servers
from tests.until import until


async def test_connection_starts_before_its_server(connect: Connect, servers: Servers) -> None:
    """A gateway may start first; it connects when the server comes."""
    server = servers.own_redis(appendfsync="always")
    async with Redis.from_url(server.url) as redis:
        await write_marker(redis, Node(1, "1", ("total",)))
    server.kill()

    connection = await connect(server.url)
    problem = connection.problem
    server.start()

    assert str(server.port) in problem
    await until(lambda: connection.ready, "the first connection", timeout_s=3.0)


async def test_connection_does_not_use_a_replica(connect: Connect, servers: Servers) -> None:
    """A server that is a replica from the start is never connected."""
    replica = servers.own_redis(replicaof=f"127.0.0.1 {servers.redis().port}")

    connection = await connect(replica.url)

    assert not connection.connected
    assert "replica" in connection.problem


async def test_connection_keeps_the_flags_when_loading_fails_for_now(connect: Connect) -> None:
    """Only a syntax error makes it load scripts without flags; any other fault is tried again."""

    def busy(command: list[bytes]) -> bytes | None:
        return b"-BUSY Redis is busy.\r\n" if command[0] == b"SCRIPT" else healthy(command)

    async with stub_redis(busy) as stub:
        connection = await connect(stub.url)
        stub.answer = healthy
        await until(lambda: connection.ready, "the scripts to be loaded")
        await connection.submit(ECHO, ["k"], [])

    assert stub.commands[-1][1] == ECHO.flagged.sha.encode()
    assert all(ECHO.plain.text.encode() not in command for command in stub.commands)


async def test_connection_waits_until_redis_has_loaded(connect: Connect) -> None:
    """A server that still loads its data is not connected, and the problem says so."""
    async with stub_redis(lambda _: b"-LOADING Redis is loading the dataset in memory\r\n") as stub:
        connection = await connect(stub.url)
        problem = connection.problem
        stub.answer = healthy
        await until(lambda: connection.ready, "the end of loading")

    assert "LOADING" in problem


async def test_connection_pauses_between_attempts(connect: Connect) -> None:
    """A server that accepts and closes is not called in a tight loop."""
    async with stub_redis(lambda _: None) as stub:
        connection = await connect(stub.url)
        began = time.monotonic()
        await until(lambda: stub.connections >= 5, "five attempts")

    assert time.monotonic() - began > 0.3
    assert not connection.connected
    assert "closed the connection" in connection.problem


async def test_connection_pauses_when_each_success_is_short(connect: Connect) -> None:
    """A server that breaks off right after a good start is paused for too."""

    def greeting_only(command: list[bytes]) -> bytes | None:
        return None if command[0] == b"EVALSHA" else healthy(command)

    async with stub_redis(greeting_only) as stub:
        connection = await connect(stub.url)
        began = time.monotonic()
        while stub.connections < 5:
            await until(lambda: connection.connected, "a connection")
            with pytest.raises(StoreUnavailable):
                await connection.submit(ECHO, ["k"], [])

    assert time.monotonic() - began > 0.3


async def test_connection_gives_up_what_is_not_redis(connect: Connect) -> None:
    """A server of another kind is named as a problem and never connected."""
    async with stub_redis(lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n") as stub:
        connection = await connect(stub.url)

    assert not connection.connected
    assert "protocol" in connection.problem


async def test_connection_does_not_wait_forever_for_a_greeting(connect: Connect) -> None:
    """A server that accepts and says nothing ends the first attempt within its time limit."""
    async with stub_redis(lambda _: b"") as stub:
        connection = await connect(stub.url)

    assert not connection.connected
    assert "cannot be used" in connection.problem


async def test_greeting_waits_for_one_answer_only(connect: Connect) -> None:
    """A way that is so slow that it takes a second for each answer is still fast enough."""
    async with stub_redis(lambda _: b"") as stub:
        await connect(stub.url)

    said = [command[0] for command in stub.commands]
    assert said == [b"CLIENT", b"ROLE", b"INFO", b"SCRIPT", b"SCRIPT"]


async def test_connection_tells_of_a_missing_permission(connect: Connect, servers: Servers) -> None:
    """A user who may not load scripts is told, and nothing is admitted."""
    server = servers.own_redis()
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command(
            "ACL", "SETUSER", "gateway", "on", ">pw", "~*", "+@all", "-script"
        )

    connection = await connect(f"redis://gateway:pw@127.0.0.1:{server.port}")

    assert not connection.connected
    assert "NOPERM" in connection.problem


async def test_close_ends_an_attempt_to_connect(connect: Connect) -> None:
    """A close in the middle of a greeting leaves no socket open behind it."""
    async with stub_redis(lambda _: b"") as stub:
        connection = Connection(read_address(stub.url), (ECHO,), deadline_ms=80)
        await connection.start()
        await until(lambda: stub.commands, "the first words of the greeting")
        await connection.close()
        await until(lambda: stub.closed == stub.connections, "the socket to be closed")

    assert not connection.connected
