"""The world of a campaign: real servers, two gateways, a worker, an upstream and the org acme.

The gateways reach Redis over a wire, and keep their spools on a disk, which faults may break.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import httpx
from redis.asyncio import Redis

from gateway.cli.embedded_postgres import EmbeddedPostgres
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.cli.migrate import prepare
from gateway.ledger.pool import open_pool
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import rebuild
from tests.campaign.bill import Bill
from tests.campaign.disk import Disk
from tests.campaign.program import PATIENT, Program, run, stores
from tests.campaign.wire import Wire, wire_to
from tests.stub_upstream import StubUpstream, stub_upstream

ORG, AGENTS = "acme", ("json", "stream")
HOLD_TTL_MS = 8_000
GATEWAYS = 2
_CEILING_CENTS = "5"
# More than a campaign can spend: what it proves here is that nothing is lost or doubled.
_LIMITS = {"org.month.limit_cents": "1000000000", "agent.*.day.limit_cents": "1000000000"}


class World(NamedTuple):
    """All that runs, and who called whom for how much."""

    redis: EmbeddedRedis
    postgres: EmbeddedPostgres
    gateways: list[Program]
    worker: Program
    wire: Wire
    disk: Disk
    upstream: StubUpstream
    bill: Bill
    database_url: str
    key: str

    async def states(self) -> str:
        """Return what each program says of itself, for whoever waits in vain."""
        async with httpx.AsyncClient() as client:
            said = [await program.says(client) for program in (*self.gateways, self.worker)]
        return f"Gateways and worker say: {'; '.join(said)}"

    async def rebuild(self) -> None:
        """Make an emptied Redis again of Postgres."""
        async with Redis.from_url(self.redis.url, decode_responses=True) as redis:
            pool = await open_pool(self.database_url)
            try:
                await rebuild(Clients(pool, redis))
            finally:
                await pool.close()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start everything and stop it; Redis writes each change to disk before it answers."""
    async with AsyncExitStack() as stack:
        redis, postgres = stores(stack, folder)
        upstream, bill = await stack.enter_async_context(stub_upstream()), Bill()
        upstream.answers(bill.answer)
        key = await _furnish(redis.url, postgres.url(), upstream.url)
        wire = await stack.enter_async_context(wire_to(lambda: redis.port))
        disk = Disk(folder / "disk")
        stack.callback(disk.close)
        environment = {
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_DATABASE_URL": postgres.url(),
            "GATEWAY_HOLD_TTL_MS": str(HOLD_TTL_MS),
            **PATIENT,
        }
        gateways = [
            Program(
                "serve",
                {
                    **environment,
                    "GATEWAY_REDIS_URL": wire.url,
                    "GATEWAY_SPOOL_DIR": str(disk.folder / name),
                },
                folder / name,
            )
            for name in (f"gateway-{number}" for number in range(GATEWAYS))
        ]
        worker = Program("worker", environment, folder / "worker")
        await run(stack, *gateways, worker)
        places = (redis, postgres, gateways, worker, wire, disk, upstream, bill)
        yield World(*places, postgres.url(), key)


async def _furnish(redis_url: str, database_url: str, upstream: str) -> str:
    """Write tables, marker, org and agents; return a key."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        connection = await asyncpg.connect(database_url)
        await prepare(connection, redis)
        await connection.close()
        pool = await open_pool(database_url)
        clients = Clients(pool, redis)
        await add_org(clients, ORG, "UTC", _LIMITS, Author("campaign"))
        for agent in AGENTS:
            price = {"mode": "reported", "ceiling_cents": _CEILING_CENTS}
            await add_agent(
                clients, ORG, agent, {"upstream": f"{upstream}/{agent}", "price": price}
            )
        minted = await mint_key(clients, ORG, [])
        await pool.close()
        return minted.key
