"""Fixtures of this room: a gateway with two agents that are priced by their tokens."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway, plane_gateway
from tests.stub_upstream import StubUpstream, stub_upstream


@pytest.fixture
async def upstream() -> AsyncIterator[StubUpstream]:
    """Yield the upstream of both agents."""
    async with stub_upstream() as stub:
        yield stub


@pytest.fixture
async def org(redis: Any, upstream: StubUpstream) -> Any:
    """Write acme with its agents; return the client of its Redis."""
    await acme.write_org(redis)
    for agent in ("researcher", "writer"):
        await acme.write_agent(redis, agent, upstream.url, {"mode": "tokens"})
    return redis


@pytest.fixture
async def gateway(org: Any, redis_url: str, tmp_path: Path) -> AsyncIterator[PlaneGateway]:
    """Yield a gateway before acme; when it has stopped, nothing may be held."""
    async with plane_gateway(redis_url, tmp_path) as running:
        yield running
    assert await org.zcard("bg:expiry") == 0
