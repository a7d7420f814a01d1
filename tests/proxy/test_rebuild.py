"""A gateway that runs while Redis is rebuilt: 503 until it is ready, then the right amounts.

G1 from the loss on nothing is forwarded; the answer is 503 while the marker is not ready
G2 without a restart it serves on the restored counters, under the new epoch
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.keys import NODE
from gateway.ledger.pool import open_pool
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.mirror import locked
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import rebuild
from tests.proxy.gateways import plane_gateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from workers.journal_pump import JournalPump, PumpMetrics

URL = "/agents/researcher/invoke"


@pytest.fixture
async def clients(redis: Any, database_url: str) -> AsyncIterator[Clients]:
    """Yield an empty Redis and a fresh migrated database."""
    pool = await open_pool(database_url)
    yield Clients(pool, redis)
    await pool.close()


async def test_gateway_serves_again_after_a_rebuild(
    clients: Clients, redis: Any, redis_url: str, upstream: StubUpstream, tmp_path: Path
) -> None:
    """G1, G2: two cents a call of ten; after two calls and the loss of Redis three more fit."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("ops"))
    description = {"upstream": upstream.url, "price": {"mode": "flat", "cents": "2"}}
    await add_agent(clients, "acme", "researcher", description)
    minted = await mint_key(clients, "acme", ())
    async with plane_gateway(redis_url, tmp_path) as gateway, gateway.client(minted.key) as client:
        for _ in range(2):
            assert (await client.post(URL)).status_code == 200
        await gateway.settled()
        pump = JournalPump(redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry()))
        await pump.start()
        await pump.step()
        forwarded = len(upstream.requests)

        await redis.flushall()
        async with locked(clients, "acme"):
            running = asyncio.create_task(rebuild(clients))
            await until(lambda: not_ready(redis), "the rebuild to begin")
            await until(lambda: not gateway.value("store_ready"), "the gateway to see it")
            during = await client.post(URL)
        rebuilt = await running
        # As a worker does, which is not there.
        await redis.hdel(NODE, "lost")
        await until(lambda: gateway.value("store_ready"), "the gateway to see that it is ready")

        after = [await client.post(URL) for _ in range(4)]
        assert (during.status_code, during.json()["error"]) == (503, "store_not_ready")
        assert during.headers["retry-after"] == "1"
        assert [answer.status_code for answer in after] == [200, 200, 200, 402]
        assert [answer.headers.get("budget-remaining") for answer in after[:3]] == ["4", "2", "0"]
        assert len(upstream.requests) == forwarded + 3
        await gateway.settled()
        epochs = {fields["epoch"] for _, fields in await redis.xrange("bg:journal")}
        assert epochs == {rebuilt.epoch}


async def not_ready(redis: Any) -> bool:
    """Return whether the marker stands and is held back."""
    return bool(await redis.hget(NODE, "ready") == "0")
