"""The two stores that the registry writes: Postgres first, then Redis."""

from typing import Any, NamedTuple

import asyncpg

# redis-py types every reply as a value or an awaitable of it; its asyncio client always gives
# awaitables, so the client is Any here and each reply is read where it is used.
RedisClient = Any


class Clients(NamedTuple):
    """A pool of the ledger, and a redis-py asyncio client that decodes replies."""

    ledger: asyncpg.Pool
    redis: RedisClient
