"""The store fixture: every script test runs on fakeredis and on each real server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis

from gateway.budgets.node import Node
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.lua.store import KEY_DIGEST, NOON, Store
from tests.servers import SCRIPT_SERVERS

NODE = Node(1, "1", ("day", "month", "total"))
LIMITS = {"status": "active", "org.month.limit_cents": "1000"}


@pytest.fixture(params=["fakeredis", *SCRIPT_SERVERS])
async def store(
    request: pytest.FixtureRequest, script_server: Callable[[str], EmbeddedRedis]
) -> AsyncIterator[Store]:
    """Yield a store at noon: org acme, agent researcher, a key, and 1000 cents a month."""
    client: Any = (
        fakeredis.FakeAsyncRedis()
        if request.param == "fakeredis"
        else Redis.from_url(script_server(request.param).url)
    )
    async with client:
        await client.flushall()
        store = Store(client, request.param not in ("fakeredis", "redis-6.2"), NODE)
        await store.at(NOON)
        await store.limits(LIMITS)
        await client.hset("bg:{acme}:meta", "schema", "1")
        await client.hset("bg:{acme}:keys", KEY_DIGEST, "k1|active||*")
        yield store
        await client.delete("test:now")
