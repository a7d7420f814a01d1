"""The worker process books what is spent, outlives its servers, and stops when it is told to."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from redis.asyncio import Redis
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.errors import LedgerUnavailable
from gateway.settings import read_settings
from tests.ledger.test_posting import entry
from tests.servers import Servers
from tests.until import until
from tests.workers.test_jobs import held, ledger_total
from workers.main import work


@asynccontextmanager
async def worker(redis_url: str, database_url: str) -> AsyncIterator[None]:
    """Run a worker, and stop it as an operator would."""
    settings, _ = read_settings(
        {"GATEWAY_REDIS_URL": redis_url, "GATEWAY_DATABASE_URL": database_url}
    )
    task = asyncio.create_task(work(settings))
    try:
        yield
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()


async def test_worker_books_and_stops(
    redis_url: str, database_url: str, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """A settled call is in the ledger shortly after, and SIGTERM ends the process cleanly."""
    async with worker(redis_url, database_url):
        await budgets.settle(await held(budgets, 100))

        await until(lambda: _is_booked(pool, 100), "the settle to be booked")


async def _is_booked(pool: asyncpg.Pool, amount_microcents: int) -> bool:
    return await ledger_total(pool) == amount_microcents


async def test_worker_outlives_its_ledger_connections(
    redis_url: str, database_url: str, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """After Postgres has cut every connection the next call is booked, without a restart."""
    async with worker(redis_url, database_url):
        await budgets.settle(await held(budgets, 100))
        await until(lambda: _is_booked(pool, 100), "the settle to be booked")
        admin = await asyncpg.connect(database_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await budgets.settle(await held(budgets, 50))

        await until(lambda: _is_booked_anew(database_url, 150), "the next settle to be booked")


async def _is_booked_anew(database_url: str, amount_microcents: int) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        spent = await connection.fetchval(
            "SELECT spent_microcents FROM spend_window WHERE agent = '' AND \"window\" = 'total'"
        )
        return bool(spent == amount_microcents)
    finally:
        await connection.close()


async def test_worker_outlives_a_restart_of_redis(
    servers: Servers, database_url: str, pool: asyncpg.Pool
) -> None:
    """Redis is killed and comes back: what is journaled then is booked, without a restart."""
    server = servers.own_redis()
    async with worker(server.url, database_url):
        await journal(server.url)
        await until(lambda: _is_booked(pool, 100), "the first entry to be booked")
        server.kill()
        server.start()
        await journal(server.url)

        await until(lambda: _is_booked(pool, 200), "the second entry to be booked", 30)


async def journal(url: str) -> None:
    """Append one settle of 100 microcents to the journal."""
    _, fields = entry("settle", str(ULID()), 100)
    async with Redis.from_url(url) as redis:
        await redis.xadd("bg:journal", {**fields})


async def test_worker_without_a_ledger_says_so() -> None:
    """At the start an unreachable Postgres is one sentence."""
    settings, _ = read_settings(
        {
            "GATEWAY_REDIS_URL": "redis://127.0.0.1:1",
            "GATEWAY_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        }
    )

    with pytest.raises(LedgerUnavailable, match="Postgres cannot be reached"):
        await work(settings)
