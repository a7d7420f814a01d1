"""Both stores, opened for one command; their faults become ours here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

from gateway.budgets.address import read_address
from gateway.cli.environment import require
from gateway.errors import LedgerError, LedgerUnavailable, StoreError, StoreUnavailable
from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients, RedisClient
from gateway.settings import Settings

_REDIS_TIMEOUT_S = 5.0


@asynccontextmanager
async def open_clients(settings: Settings) -> AsyncIterator[Clients]:
    """Yield a client of Redis and a pool of Postgres, both of which have answered.

    What redis-py or asyncpg raise inside leaves as a fault of ours.

    Raises:
        ConfigError: an address is missing or cannot be used.
        StoreError: Redis refused, or (StoreUnavailable) cannot be reached.
        LedgerError: Postgres refused, or (LedgerUnavailable) cannot be reached.
    """
    require(settings, "redis_url", "database_url")
    async with open_redis(settings) as redis, open_ledger(settings) as pool:
        yield Clients(pool, redis)


@asynccontextmanager
async def open_ledger(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool of connections to Postgres that has answered.

    Raises:
        ConfigError: the address is missing or cannot be used.
        LedgerError: Postgres refused, or (LedgerUnavailable) cannot be reached.
    """
    require(settings, "database_url")
    pool = await open_pool(settings.database_url)
    try:
        yield pool
    except (asyncpg.PostgresConnectionError, OSError) as error:
        raise LedgerUnavailable(f"Postgres cannot be reached: {error}.") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise LedgerError(f"Postgres refused: {error}.") from error
    finally:
        await pool.close()


@asynccontextmanager
async def open_redis(settings: Settings) -> AsyncIterator[RedisClient]:
    """Yield a redis-py client that has answered and decodes replies.

    Raises:
        ConfigError: the address is missing or cannot be used.
        StoreError: Redis refused, or (StoreUnavailable) cannot be reached.
    """
    require(settings, "redis_url")
    address = read_address(settings.redis_url)
    try:
        async with Redis.from_url(
            settings.redis_url,
            decode_responses=True,
            socket_timeout=_REDIS_TIMEOUT_S,
            socket_connect_timeout=_REDIS_TIMEOUT_S,
        ) as redis:
            await redis.ping()
            yield redis
    except (ConnectionError, TimeoutError) as error:
        raise StoreUnavailable(f"Redis at {address} cannot be reached: {error}.") from error
    except RedisError as error:
        raise StoreError(f"Redis at {address} refused: {error}.") from error
