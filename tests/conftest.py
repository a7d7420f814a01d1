"""Fixtures for every room: real servers, an empty node, a fresh database."""

import importlib
import importlib.util
import itertools
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from redis.asyncio import Redis

from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.servers import Servers

_NODE = Node(SCHEMA, "1", ("day", "month", "total"))
_TEMPLATE = "template_ledger"
_database_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Yield the real servers of this test run; they start when first asked for."""
    with tempfile.TemporaryDirectory(prefix="bg-", ignore_cleanup_errors=True) as folder:
        # As root Postgres runs as another user, who must be able to enter.
        Path(folder).chmod(0o711)
        running = Servers(Path(folder))
        yield running
        running.stop()


@pytest.fixture
def script_server(servers: Servers) -> Callable[[str], EmbeddedRedis]:
    """Return a function from a name of SCRIPT_SERVERS to its running server."""
    return servers.redis


@pytest.fixture
async def redis_url(servers: Servers) -> str:
    """Return the address of a Redis that holds nothing but the node marker."""
    url = servers.redis().url
    async with Redis.from_url(url) as redis:
        await redis.flushall()
        await write_marker(redis, _NODE)
    return url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Yield a client of that Redis which decodes replies."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
async def database_url(servers: Servers) -> AsyncIterator[str]:
    """Yield the address of a fresh migrated database."""
    server = servers.postgres()
    name = f"test_{os.getpid()}_{next(_database_numbers)}"
    admin = await asyncpg.connect(server.url())
    try:
        await _ensure_template(admin, server.url(_TEMPLATE))
        await admin.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
        yield server.url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()


async def _ensure_template(admin: asyncpg.Connection, url: str) -> None:
    if await admin.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", _TEMPLATE):
        return
    await admin.execute(f"CREATE DATABASE {_TEMPLATE}")
    if importlib.util.find_spec("gateway.ledger.migrations") is None:
        return
    connection = await asyncpg.connect(url)
    try:
        await importlib.import_module("gateway.ledger.migrations").migrate(connection)
    finally:
        await connection.close()
