"""The connection when Redis is slow, stopped, killed, full or becomes a replica."""

import asyncio
import os
import signal
import time

import pytest
from redis.asyncio import Redis

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.frames import pack
from gateway.budgets.node import Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import OutcomeUnknown, StoreUnavailable
from tests.budgets.conftest import ADD, ECHO, Connect
from tests.budgets.stub_redis import healthy, stub_redis
from tests.servers import SCRIPT_SERVERS, Servers
from tests.until import until

_NODE = Node(1, "1", ("day", "month", "total"))


async def _marked(server: EmbeddedRedis) -> str:
    async with Redis.from_url(server.url) as redis:
        await write_marker(redis, _NODE)
    return server.url


def _fault_at_once(connection: Connection) -> type[BaseException] | type[None]:
    """Return how a call fails that may not wait for anything."""
    call = connection.submit(ADD, ["sum"], [1])
    assert call.done()
    return type(call.exception())


async def test_connection_fails_fast_while_redis_stands_still(
    connect: Connect, servers: Servers
) -> None:
    """A stopped server costs one deadline, then nothing; it goes on, and so does the connection."""
    server = servers.own_redis()
    connection = await connect(await _marked(server), deadline_ms=80)
    before = await connection.command("CLIENT", "ID")

    os.kill(server.pid, signal.SIGSTOP)
    sent = time.monotonic()
    with pytest.raises(OutcomeUnknown):
        await connection.submit(ADD, ["sum"], [1])
    first_s = time.monotonic() - sent
    second = _fault_at_once(connection)
    ready_then = connection.ready
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: connection.ready, "the overdue replies")

    assert 0.075 < first_s < 1.0
    assert second is StoreUnavailable
    assert not ready_then
    assert await connection.command("CLIENT", "ID") == before
    assert await connection.submit(ECHO, ["k"], ["v"]) == [b"k", b"v"]
    assert await connection.submit(ADD, ["sum"], [0]) == [1]


async def test_connection_leaves_a_silent_server(connect: Connect, servers: Servers) -> None:
    """A server that stays silent for more than a second gets a new connection when it is back."""
    server = servers.own_redis()
    connection = await connect(await _marked(server), deadline_ms=50)
    before = await connection.command("CLIENT", "ID")

    os.kill(server.pid, signal.SIGSTOP)
    await until(lambda: "in time" in connection.problem, "the deadline of a look")
    await until(lambda: "in time" not in connection.problem, "the connection to be given up")
    os.kill(server.pid, signal.SIGCONT)
    await until(lambda: connection.ready, "a new connection")

    assert await connection.command("CLIENT", "ID") != before


async def test_connection_returns_after_a_crash(connect: Connect, servers: Servers) -> None:
    """After kill -9 calls fail at once, and after the restart they work without intervention."""
    server = servers.own_redis(appendfsync="always")
    connection = await connect(await _marked(server))

    server.kill()
    await until(lambda: not connection.connected, "the loss to be noticed")
    fault = _fault_at_once(connection)
    server.start()
    await until(lambda: connection.ready, "the connection to return", timeout_s=3.0)

    assert fault is StoreUnavailable
    assert await connection.submit(ADD, ["sum"], [1]) == [1]


async def test_connection_tells_which_calls_a_crash_may_have_applied(
    connect: Connect, servers: Servers
) -> None:
    """A call that was sent and lost with the server has an unknown outcome, at once."""
    server = servers.own_redis()
    connection = await connect(await _marked(server), deadline_ms=5_000)
    os.kill(server.pid, signal.SIGSTOP)

    call = connection.submit(ADD, ["sum"], [1])
    await until(lambda: connection.waiting > 0, "the call to be queued")
    server.kill()

    with pytest.raises(OutcomeUnknown):
        await call


async def test_connection_ignores_results_of_ignored_calls(
    connect: Connect, servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """A caller may drop the future of a failing call; nobody is told of an unseen exception."""
    server = servers.own_redis()
    connection = await connect(await _marked(server))

    server.kill()
    connection.submit(ADD, ["sum"], [1])
    await until(lambda: not connection.connected, "the loss to be noticed")
    connection.submit(ADD, ["sum"], [1])

    assert "never retrieved" not in caplog.text


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_connection_refuses_writes_when_memory_is_full(
    connect: Connect, servers: Servers, name: str
) -> None:
    """A full server is unavailable for scripts that write, in the words of each version."""
    server = servers.own_redis(name)
    connection = await connect(await _marked(server))

    await connection.command("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(StoreUnavailable, match="OOM"):
        await connection.submit(ADD, ["sum"], [1])
    await connection.command("CONFIG", "SET", "maxmemory", 0)

    assert await connection.submit(ADD, ["sum"], [1]) == [1]
    assert connection.ready


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_connection_leaves_a_server_that_became_a_replica(
    connect: Connect, servers: Servers, name: str
) -> None:
    """A demoted server is unavailable until it is a master again."""
    server = servers.own_redis(name)
    connection = await connect(await _marked(server))

    async with Redis.from_url(server.url) as redis:
        await redis.replicaof("127.0.0.1", "1")
        with pytest.raises(StoreUnavailable, match="READONLY"):
            await connection.submit(ADD, ["sum"], [1])
        await until(lambda: "replica" in connection.problem, "the role to be seen")
        connected_then = connection.connected
        await redis.replicaof("NO", "ONE")
    await until(lambda: connection.ready, "the master")

    assert not connected_then
    assert await connection.submit(ADD, ["sum"], [1]) == [1]


async def test_connection_grows_stale_when_looks_are_refused(connect: Connect) -> None:
    """A marker that may no longer be read does not stand for ever."""

    def loading(command: list[bytes]) -> bytes | None:
        return b"-LOADING x\r\n" if command[0] == b"HGETALL" else healthy(command)

    async with stub_redis() as stub:
        connection = await connect(stub.url)
        ready_first = connection.ready
        stub.answer = loading
        await until(lambda: not connection.ready, "the marker to grow stale")
        problem = connection.problem

    assert ready_first
    assert "did not show" in problem


async def test_close_waits_for_a_reply_that_is_under_way(
    connect: Connect, servers: Servers
) -> None:
    """A call that was sent before the close is answered by a server that takes its time."""
    server = servers.own_redis()
    connection = await connect(server.url)
    os.kill(server.pid, signal.SIGSTOP)
    call = connection.submit(ADD, ["sum"], [1])

    closing = asyncio.create_task(connection.close())
    await until(lambda: not connection.connected, "the close to begin")
    os.kill(server.pid, signal.SIGCONT)
    await closing

    assert await call == [1]


def _packed_fault(connection: Connection) -> StoreUnavailable:
    """Return why a packed call is refused, which may not wait for anything."""
    call = connection.future()
    connection.line.transmit(call, pack(("PING",)))
    assert call.done()
    fault = call.exception()
    assert isinstance(fault, StoreUnavailable)
    return fault


async def test_packed_call_is_refused_before_there_is_a_connection(servers: Servers) -> None:
    """It is told why, at once, as any other call is."""
    connection = Connection(read_address(servers.redis().url), (ECHO, ADD), deadline_ms=80)

    assert str(_packed_fault(connection)) == "Redis was not connected yet."


async def test_packed_call_is_refused_from_the_begin_of_a_close(
    connect: Connect, servers: Servers
) -> None:
    """What came before is waited for, and nothing is sent behind it."""
    server = servers.own_redis()
    connection = await connect(server.url)
    os.kill(server.pid, signal.SIGSTOP)
    call = connection.submit(ADD, ["sum"], [1])

    closing = asyncio.create_task(connection.close())
    await until(lambda: "closed" in connection.problem, "the close to begin")
    fault = _packed_fault(connection)
    os.kill(server.pid, signal.SIGCONT)
    await closing

    assert str(fault) == "The connection to Redis was closed."
    assert await call == [1]


async def test_close_does_not_wait_beyond_the_deadline(connect: Connect, servers: Servers) -> None:
    """A server that is silent does not hold up a stop."""
    server = servers.own_redis()
    connection = await connect(server.url, deadline_ms=80)
    os.kill(server.pid, signal.SIGSTOP)
    call = connection.submit(ADD, ["sum"], [1])

    async with asyncio.timeout(1.0):
        await connection.close()

    with pytest.raises(OutcomeUnknown):
        await call
