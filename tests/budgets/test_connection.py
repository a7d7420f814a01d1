"""The connection on real servers while all is well: calls, scripts, the node, the ways in."""

import asyncio
import random
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from gateway.budgets.keys import NODE
from gateway.budgets.node import Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import StoreError, StoreUnavailable
from tests.budgets.conftest import ADD, ECHO, Connect
from tests.budgets.stub_redis import healthy, packed, stub_redis
from tests.servers import SCRIPT_SERVERS, Servers
from tests.until import until

_NODE = Node(1, "1", ("day", "month", "total"))


async def test_connection_is_ready_when_the_marker_stands(connect: Connect, redis_url: str) -> None:
    """After the first attempt the node, the skew of the clocks and readiness are known."""
    connection = await connect(redis_url)

    assert connection.ready
    assert connection.problem == ""
    assert connection.node == _NODE
    assert connection.skew_ms is not None
    assert abs(connection.skew_ms) < 1_000


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_connection_runs_scripts_on_every_server(
    connect: Connect, script_server: Callable[[str], EmbeddedRedis], name: str
) -> None:
    """Scripts are loaded in the form that the server compiles, and called by their hash."""
    connection = await connect(script_server(name).url)

    await connection.command("CONFIG", "RESETSTAT")

    assert await connection.submit(ECHO, ["k"], [7]) == [b"k", b"7"]
    stats = (await connection.command("INFO", "commandstats")).decode()
    assert "cmdstat_eval:" not in stats


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_connection_survives_a_script_flush(
    connect: Connect, script_server: Callable[[str], EmbeddedRedis], name: str
) -> None:
    """When the server forgets its scripts, no call fails and each runs once."""
    connection = await connect(script_server(name).url)
    await connection.command("DEL", "sum")
    await connection.command("SCRIPT", "FLUSH")

    replies = await asyncio.gather(*(connection.submit(ADD, ["sum"], [1]) for _ in range(20)))

    assert sorted(reply[0] for reply in replies) == list(range(1, 21))


async def test_connection_gives_each_of_many_callers_its_own_reply(
    connect: Connect, redis_url: str
) -> None:
    """300 callers, some of whom leave at any moment, never see another's reply."""
    connection = await connect(redis_url)
    chance = random.Random(7)

    async def caller(number: int) -> None:
        for turn in range(20):
            word = f"{number}.{turn}"
            reply = connection.submit(ECHO, [word], [word])
            if chance.random() < 0.1:
                reply.cancel()
            else:
                assert await reply == [word.encode(), word.encode()]

    tasks = [asyncio.create_task(caller(number)) for number in range(300)]
    for task in chance.sample(tasks, 30):
        asyncio.get_running_loop().call_later(chance.random() / 10, task.cancel)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
    assert connection.waiting == 0


async def test_connection_bounds_its_queue(connect: Connect, redis_url: str) -> None:
    """Above calls_max a call fails at once with StoreUnavailable; the others are answered."""
    connection = await connect(redis_url, calls_max=10)

    calls = [connection.command("ECHO", number) for number in range(15)]
    replies = await asyncio.gather(*calls, return_exceptions=True)

    assert replies[:10] == [b"%d" % number for number in range(10)]
    assert {type(reply) for reply in replies[10:]} == {StoreUnavailable}


async def test_connection_keeps_the_message_of_an_error(connect: Connect, redis_url: str) -> None:
    """An error reply is a StoreError with Redis's own words, and the connection goes on."""
    connection = await connect(redis_url)

    with pytest.raises(StoreError, match="WRONGTYPE"):
        await connection.command("GET", NODE)

    assert await connection.command("PING") == b"PONG"


async def test_connection_notices_that_the_marker_went_and_came(
    connect: Connect, redis: Redis, redis_url: str
) -> None:
    """Without its marker a node is not ready, within a second and without a new connection."""
    connection = await connect(redis_url)

    await redis.flushall()
    await until(lambda: not connection.ready, "the loss to be seen", timeout_s=1.5)
    assert connection.connected
    assert connection.node is None
    assert "missing" in connection.problem

    await write_marker(redis, Node(1, "2", ("day", "total")))
    await until(lambda: connection.ready, "the marker to be seen", timeout_s=1.5)
    assert connection.node == Node(1, "2", ("day", "total"))


async def test_connection_is_not_ready_on_a_malformed_marker(
    connect: Connect, redis: Redis, redis_url: str
) -> None:
    """A marker of another layout is no marker, and the problem names the field."""
    await write_marker(redis, _NODE._replace(schema=2))

    connection = await connect(redis_url)

    assert connection.connected
    assert not connection.ready
    assert "schema" in connection.problem


async def test_connection_is_not_ready_when_the_marker_cannot_be_read(
    connect: Connect, redis: Redis, redis_url: str
) -> None:
    """A marker that Redis refuses to show is no marker, and the problem has Redis's words."""
    connection = await connect(redis_url)

    await redis.set(NODE, "no hash")
    await until(lambda: connection.node is None, "the refusal to be seen")

    assert not connection.ready
    assert "WRONGTYPE" in connection.problem


async def test_connection_outlives_a_change_of_permissions(
    connect: Connect, redis: Redis, redis_url: str
) -> None:
    """An ACL that takes TIME away makes the node not ready; giving it back suffices."""
    connection = await connect(redis_url)
    acl = redis.acl_setuser
    try:
        await acl("default", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-time"])
        await until(lambda: not connection.ready, "the clock to grow stale")
    finally:
        await acl("default", enabled=True, nopass=True, keys=["*"], commands=["+@all"])

    await until(lambda: connection.ready, "the permission to be back")


async def test_look_sees_the_marker_at_once(connect: Connect, redis: Redis, redis_url: str) -> None:
    """A caller who cannot wait for the next look can look now."""
    connection = await connect(redis_url)
    await redis.delete(NODE)

    assert await connection.look() is None
    assert not connection.ready


async def test_connection_measures_the_skew_of_the_clocks(connect: Connect) -> None:
    """A server whose clock stands an hour back is seen as an hour of skew."""

    def behind(command: list[bytes]) -> bytes | None:
        return packed(1_000_000, 0) if command[0] == b"TIME" else healthy(command)

    async with stub_redis(behind) as stub:
        connection = await connect(stub.url)
        assert connection.skew_ms is not None
        assert connection.skew_ms > 1_000_000_000


async def test_close_waits_for_replies_and_then_refuses(connect: Connect, redis_url: str) -> None:
    """Calls that were queued before a close are answered, later ones fail at once."""
    connection = await connect(redis_url)
    queued = connection.submit(ECHO, ["k"], ["v"])

    await connection.close()

    assert await queued == [b"k", b"v"]
    with pytest.raises(StoreUnavailable, match="closed"):
        await connection.command("PING")
    with pytest.raises(StoreUnavailable, match="closed"):
        await connection.look()
    assert not connection.connected
    assert not connection.ready


async def test_connection_selects_its_database(
    connect: Connect, redis: Redis, redis_url: str
) -> None:
    """The number of the database in the URL is where calls go."""
    connection = await connect(redis_url.removesuffix("/0") + "/3")

    await connection.command("SET", "here", "3")

    assert await redis.exists("here") == 0
    assert not connection.ready


async def test_connection_uses_a_unix_socket(connect: Connect, servers: Servers) -> None:
    """A unix:// address works like any other."""
    server = servers.own_redis(unixsocket="redis.sock")

    connection = await connect(f"unix://{server.folder}/redis.sock")

    assert await connection.submit(ECHO, ["k"], ["v"]) == [b"k", b"v"]


async def test_connection_authenticates_with_a_password(connect: Connect, servers: Servers) -> None:
    """The password of the URL opens the server; none or a wrong one is told, not repeated."""
    server = servers.own_redis(requirepass="hunter2")
    place = f"127.0.0.1:{server.port}"

    right = await connect(f"redis://:hunter2@{place}")
    wrong = await connect(f"redis://:swordfish@{place}")
    none = await connect(f"redis://{place}")

    assert await right.command("PING") == b"PONG"
    assert "WRONGPASS" in wrong.problem
    assert "swordfish" not in wrong.problem
    assert "NOAUTH" in none.problem
    assert not wrong.connected
    assert not none.connected


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_connection_needs_few_permissions(
    connect: Connect, servers: Servers, name: str
) -> None:
    """A user with the README's permissions, without INFO, ROLE, CLIENT or CONFIG, suffices."""
    server = servers.own_redis(name)
    rule = "on >pw ~bg:* -@all +eval +evalsha +script|load +hgetall +time +hincrby"
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "gateway", *rule.split())
        await write_marker(redis, _NODE)

    connection = await connect(f"redis://gateway:pw@127.0.0.1:{server.port}")

    assert connection.ready
    assert await connection.submit(ADD, ["bg:x"], [2]) == [2]
    with pytest.raises(StoreError, match="NOPERM"):
        await connection.command("INFO")


async def test_user_without_a_password_is_named(connect: Connect, servers: Servers) -> None:
    """An ACL may ask a user for none; without its name the calls would be those of another."""
    server = servers.own_redis()
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "np", "on", "nopass", "~*", "+@all")
        await write_marker(redis, _NODE)

    connection = await connect(f"redis://np@127.0.0.1:{server.port}")

    assert connection.ready
    assert await connection.command("ACL", "WHOAMI") == b"np"
