"""Fixtures of this room: a Redis that a test may kill."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.servers import Servers


@pytest.fixture
def own_redis(servers: Servers) -> EmbeddedRedis:
    """Return a server of this test alone, which writes every change to disk at once."""
    return servers.own_redis(appendfsync="always")


@pytest.fixture
async def own_client(own_redis: EmbeddedRedis) -> AsyncIterator[Any]:
    """Yield a client of that server, which has the node marker."""
    async with Redis.from_url(own_redis.url, decode_responses=True) as client:
        await write_marker(client, Node(SCHEMA, "1", ("day", "month", "total")))
        yield client
