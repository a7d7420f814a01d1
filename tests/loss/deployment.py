"""A deployment to lose data in: real servers, three gateways, a worker and an upstream."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
from redis.asyncio import Redis

from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.cli.migrate import prepare
from gateway.ledger.pool import open_pool
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.campaign.program import PATIENT, Program, run, stores
from tests.loss.bill import QUOTES, Bill
from tests.stub_upstream import StubUpstream, stub_upstream

GATEWAYS = 3
HOLD_TTL_MS = 6_000
AUTHOR = Author("loss")


class Deployment(NamedTuple):
    """All that runs."""

    redis: EmbeddedRedis
    clients: Clients
    gateways: list[Program]
    worker: Program
    upstream: StubUpstream
    bill: Bill

    async def add(self, org: str, limits: dict[str, str]) -> str:
        """Make an org with both agents; return a key."""
        await add_org(self.clients, org, "UTC", limits, AUTHOR)
        for agent, quote in QUOTES.items():
            price = {"mode": "reported", "ceiling_cents": str(quote // 1_000_000)}
            description = {"upstream": f"{self.upstream.url}/{agent}", "price": price}
            await add_agent(self.clients, org, agent, description)
        return (await mint_key(self.clients, org, [])).key


@asynccontextmanager
async def deployment(folder: Path) -> AsyncIterator[Deployment]:
    """Start everything and stop it; Redis writes each change to disk before it answers."""
    async with AsyncExitStack() as stack:
        redis, postgres = stores(stack, folder)
        upstream, bill = await stack.enter_async_context(stub_upstream()), Bill()
        upstream.answers(bill.answer)
        client = await stack.enter_async_context(Redis.from_url(redis.url, decode_responses=True))
        connection = await asyncpg.connect(postgres.url())
        await prepare(connection, client)
        await connection.close()
        pool = await open_pool(postgres.url())
        stack.push_async_callback(pool.close)
        environment = {
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_DATABASE_URL": postgres.url(),
            "GATEWAY_HOLD_TTL_MS": str(HOLD_TTL_MS),
            **PATIENT,
        }
        gateways = [
            Program(
                "serve",
                {**environment, "GATEWAY_SPOOL_DIR": str(folder / f"spool-{number}")},
                folder / f"gateway-{number}",
            )
            for number in range(GATEWAYS)
        ]
        worker = Program("worker", environment, folder / "worker")
        await run(stack, *gateways, worker)
        yield Deployment(redis, Clients(pool, client), gateways, worker, upstream, bill)
