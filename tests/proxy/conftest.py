"""Fixtures of this room: gateways, the upstream behind them, a Redis that a test may kill."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway, ProcessGateway, plane_gateway, process_gateway
from tests.servers import Servers
from tests.stub_upstream import StubUpstream, stub_upstream

StartPlane = Callable[..., Awaitable[PlaneGateway]]
StartProcess = Callable[..., Awaitable[ProcessGateway]]


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


@pytest.fixture
async def upstream() -> AsyncIterator[StubUpstream]:
    """Yield the upstream; until it is told otherwise it answers ``{"ok": true}``."""
    async with stub_upstream() as stub:
        yield stub


@pytest.fixture
async def org(redis: Any, upstream: StubUpstream) -> Any:
    """Write acme with its agent researcher at 2 cents a call; return the client of its Redis."""
    await acme.write_org(redis)
    await acme.write_agent(redis, "researcher", upstream.url, {"mode": "flat", "cents": "2"})
    return redis


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartPlane]:
    """Yield ``await start(redis_url, **settings)``: more gateways in this event loop."""
    async with AsyncExitStack() as stack:

        async def started(redis_url: str, **settings: Any) -> PlaneGateway:
            return await stack.enter_async_context(plane_gateway(redis_url, tmp_path, **settings))

        yield started


@pytest.fixture
async def start_process(tmp_path: Path) -> AsyncIterator[StartProcess]:
    """Yield ``await start_process(redis_url, **environment)``: gateways with a process each.

    They share a folder, so that one finds what another has spooled.
    """
    async with AsyncExitStack() as stack:

        async def started(redis_url: str, **environment: str) -> ProcessGateway:
            return await stack.enter_async_context(
                process_gateway(redis_url, tmp_path, **environment)
            )

        yield started


@pytest.fixture
async def gateway(org: Any, redis_url: str, tmp_path: Path) -> AsyncIterator[PlaneGateway]:
    """Yield a gateway before acme; when it has stopped, nothing is held and nothing was a bug."""
    async with plane_gateway(redis_url, tmp_path) as running:
        yield running
        assert running.value("faults_total") == 0
    assert await acme.held(org) == {}
    assert await org.zcard("bg:expiry") == 0
