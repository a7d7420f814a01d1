"""Fixtures of this room: a gateway over a Redis that the test may break."""

from typing import Any

import pytest

from gateway.cli.embedded_redis import EmbeddedRedis
from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream

# What a deployment has; the other tests give a busy machine more.
DEADLINE_MS = 80


@pytest.fixture
async def own_org(own_client: Any, upstream: StubUpstream) -> Any:
    """Write acme with an agent at 2 cents and one that reports; return the client of its Redis."""
    await acme.write_org(own_client)
    await acme.write_agent(own_client, "researcher", upstream.url, {"mode": "flat", "cents": "2"})
    reported = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(own_client, "writer", upstream.url, reported)
    return own_client


@pytest.fixture
async def own_gateway(own_redis: EmbeddedRedis, own_org: Any, start: StartPlane) -> PlaneGateway:
    """Return a gateway before acme, over a Redis that the test may break."""
    return await start(own_redis.url, store_deadline_ms=DEADLINE_MS)
