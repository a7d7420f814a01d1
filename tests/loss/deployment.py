"""A deployment to lose data in: real servers, three gateways, a worker and an upstream."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
from redis.asyncio import Redis

from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.cli.migrate import prepare
from gateway.ledger.pool import open_pool
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.campaign.world import Program
from tests.loss.bill import QUOTES, Bill
from tests.servers import Servers
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
    # Started by root, Postgres runs as another user, who must get in.
    os.chmod(folder, 0o755)
    servers = Servers(folder)
    async with AsyncExitStack() as stack:
        stack.callback(servers.stop)
        redis = servers.own_redis(appendfsync="always")
        # Not the one of the tests, which writes its commits to disk later.
        postgres = EmbeddedPostgres(postgres_folder(), folder / "pg")
        stack.callback(postgres.stop)
        postgres.start()
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
            "GATEWAY_STORE_DEADLINE_MS": "1000",
            "GATEWAY_DRAIN_S": "5",
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
        for program in (*gateways, worker):
            stack.callback(program.end)
            program.start()
        for program in (*gateways, worker):
            await program.ready()
        yield Deployment(redis, Clients(pool, client), gateways, worker, upstream, bill)
