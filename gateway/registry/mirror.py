"""Mirrors: one hash of an org in Redis, made what Postgres says it is."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg

from gateway.budgets.keys import org_key
from gateway.registry.clients import Clients


@asynccontextmanager
async def locked(clients: Clients, org: str) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """Yield a connection while nobody else writes what Redis has of an org, a rebuild included.

    Rows that refer to the org may be inserted meanwhile.
    """
    async with clients.ledger.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM org WHERE org = $1 FOR NO KEY UPDATE", org)
        yield connection


async def mirror(
    clients: Clients,
    org: str,
    name: str,
    select: str,
    entry: Callable[[asyncpg.Record], tuple[str, str]],
) -> None:
    """Make a hash in Redis hold an entry for each row that ``select`` finds for the org, no other.

    Whatever a crash left undone between the stores is mended by it.
    """
    key = org_key(org, name)
    # One at a time: who read before a revocation must not write after it.
    async with locked(clients, org) as connection:
        wanted = dict(map(entry, await connection.fetch(select, org)))
        stray = [field for field in await clients.redis.hkeys(key) if field not in wanted]
        # In one step: there is no moment at which a good entry is missing or a bad one is there.
        async with clients.redis.pipeline(transaction=True) as pipe:
            if stray:
                pipe.hdel(key, *stray)
            if wanted:
                pipe.hset(key, mapping=wanted)
            await pipe.execute()
