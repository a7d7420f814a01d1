"""The node marker, and the settings of a server that the budgets rely on."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.budgets.keys import NODE
from gateway.budgets.node import (
    Node,
    amend_marker,
    check_server,
    read_node,
    read_windows,
    write_marker,
)
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import StoreError, StoreUnavailable
from tests.budgets.stub_redis import healthy, packed, stub_redis
from tests.servers import SCRIPT_SERVERS, Servers

_MARKER = {b"schema": b"1", b"epoch": b"7", b"windows": b"day,total", b"ready": b"1"}


def test_read_node_reads_a_marker() -> None:
    """A whole marker gives the layout, the epoch and the windows."""
    assert read_node(_MARKER) == Node(1, "7", ("day", "total"))


@pytest.mark.parametrize("fields", [{}, _MARKER | {b"ready": b"0"}, _MARKER | {b"ready": b"yes"}])
def test_read_node_is_none_when_not_ready(fields: Mapping[bytes, bytes]) -> None:
    """A missing marker, and one that a rebuild has not finished, is no node."""
    assert read_node(fields) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"schema", b"2"),
        (b"schema", b""),
        (b"epoch", b""),
        (b"windows", b""),
        (b"windows", b"day,day"),
        (b"windows", b"day, total"),
        (b"windows", b"fortnight"),
    ],
)
def test_read_node_names_what_is_malformed(field: bytes, value: bytes) -> None:
    """A marker of another layout or with nonsense in it is refused by the field's name."""
    with pytest.raises(ValueError, match=field.decode()):
        read_node(_MARKER | {field: value})


def test_read_windows_keeps_the_order() -> None:
    """The list of windows is read as it stands."""
    assert read_windows("total,hour,day,week,month") == ("total", "hour", "day", "week", "month")


async def test_write_marker_writes_what_read_node_reads(redis_url: str) -> None:
    """A marker that was written is read back the same, and not while it is not ready."""
    node = Node(1, "8", ("hour", "month"))
    async with Redis.from_url(redis_url) as redis:
        await write_marker(redis, node)
        assert read_node(await redis.hgetall(NODE)) == node

        await write_marker(redis, node, ready=False)
        assert read_node(await redis.hgetall(NODE)) is None


async def test_write_marker_maps_faults(servers: Servers) -> None:
    """A server that refuses or is away is a fault of the store, not of redis-py."""
    server = servers.own_redis()
    node = Node(1, "8", ("total",))
    async with Redis.from_url(server.url) as redis:
        await redis.set(NODE, "not a hash")
        with pytest.raises(StoreError, match="WRONGTYPE"):
            await write_marker(redis, node)
        server.kill()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            await write_marker(redis, node)


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_check_server_is_content_with_our_options(
    script_server: Callable[[str], EmbeddedRedis], name: str
) -> None:
    """A server that the gateway started has nothing to complain about, whatever its version."""
    async with Redis.from_url(script_server(name).url) as redis:
        assert await check_server(redis) == []


async def test_check_server_names_each_wrong_setting(servers: Servers) -> None:
    """Every setting that differs is named with what was found; eviction is a refusal."""
    server = servers.own_redis(
        maxmemory_policy="allkeys-lru",
        appendonly="no",
        appendfsync="no",
        no_appendfsync_on_rewrite="yes",
        aof_use_rdb_preamble="no",
        hash_max_listpack_entries="512",
        busy_reply_threshold="5000",
    )
    async with Redis.from_url(server.url) as redis:
        findings = await check_server(redis)

    assert [(finding.severity, finding.setting, finding.found) for finding in findings] == [
        ("refuse", "maxmemory-policy", "allkeys-lru"),
        ("warn", "appendonly", "no"),
        ("warn", "appendfsync", "no"),
        ("warn", "no-appendfsync-on-rewrite", "yes"),
        ("warn", "aof-use-rdb-preamble", "no"),
        ("warn", "hash-max-listpack-entries", "512"),
        ("warn", "busy-reply-threshold", "5000"),
    ]
    assert str(findings[0]).startswith("maxmemory-policy is allkeys-lru, expected noeviction:")


async def test_check_server_falls_back_to_info(servers: Servers) -> None:
    """Where CONFIG is forbidden, eviction and persistence are still found, and it says so."""
    server = servers.own_redis(maxmemory_policy="volatile-ttl", appendonly="no")
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "default", "-config")
        findings = await check_server(redis)

    assert [(finding.severity, finding.setting) for finding in findings] == [
        ("refuse", "maxmemory-policy"),
        ("warn", "appendonly"),
        ("warn", "CONFIG GET"),
    ]


async def test_check_server_needs_no_permission(servers: Servers) -> None:
    """Where INFO is forbidden, too, it says that nothing was checked."""
    server = servers.own_redis()
    async with Redis.from_url(server.url) as redis:
        await redis.execute_command("ACL", "SETUSER", "default", "-config", "-info")
        findings = await check_server(redis)

    assert [(finding.severity, finding.setting) for finding in findings] == [("warn", "INFO")]


async def test_check_server_refuses_a_cluster_and_a_replica(servers: Servers) -> None:
    """Budgets live on one master: a cluster node or a replica is refused."""
    cluster = servers.own_redis(cluster_enabled="yes")
    replica = servers.own_redis(replicaof=f"127.0.0.1 {cluster.port}")
    async with Redis.from_url(cluster.url) as redis:
        assert [finding.setting for finding in await check_server(redis)] == ["cluster-enabled"]
    async with Redis.from_url(replica.url) as redis:
        assert [finding.setting for finding in await check_server(redis)] == ["role"]


async def test_check_server_refuses_a_server_too_old_for_the_scripts() -> None:
    """A server before 6.2 is refused by its version."""

    def old(command: list[bytes]) -> bytes | None:
        if command[0] == b"INFO":
            text = b"redis_version:6.0.16\r\nrole:master\r\n"
            return b"$%d\r\n%s\r\n" % (len(text), text)
        return packed() if command[0] == b"CONFIG" else healthy(command)

    async with stub_redis(old) as stub, Redis.from_url(stub.url) as redis:
        findings = await check_server(redis)

    assert [(finding.setting, finding.found) for finding in findings] == [
        ("redis_version", "6.0.16")
    ]


async def test_amend_marker_makes_none(redis: Any) -> None:
    """A marker that is gone stays so: a rebuild would take what is there for another's."""
    await redis.delete(NODE)

    assert not await amend_marker(redis, {"life": "run-1"})
    assert not await redis.exists(NODE)
