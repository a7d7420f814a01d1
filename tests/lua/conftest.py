"""The store fixture: every script test runs on fakeredis and on each real server."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import fakeredis
import pytest
from redis.asyncio import Redis

from gateway.cli.embedded_redis import EmbeddedRedis
from tests.lua.store import Store, open_store
from tests.servers import SCRIPT_SERVERS


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
        yield await open_store(client, request.param not in ("fakeredis", "redis-6.2"))
        await client.delete("test:now")
