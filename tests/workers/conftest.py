"""Fixtures of the workers: budgets over the real connection, and a ledger."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.ledger.pool import open_pool


@pytest.fixture
def registry() -> CollectorRegistry:
    """Return a registry of this test's own counts."""
    return CollectorRegistry()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool of a fresh migrated database."""
    opened = await open_pool(database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def budgets(redis: Any, redis_url: str) -> AsyncIterator[Bookkeeping]:
    """Yield budgets with the orgs acme and evil, which may spend 1000 cents a month each."""
    for org in ("acme", "evil"):
        limits = {"status": "active", "org.month.limit_cents": "1000"}
        await redis.hset(f"bg:{{{org}}}:limits", mapping=limits)
        await redis.hset(f"bg:{{{org}}}:meta", "schema", "1")
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, deadline_ms=2_000)
    await connection.start()
    await connection.tried()
    yield Bookkeeping(connection, scripts, 60_000, 1_000_000)
    await connection.close()
