"""Fixtures of the registry: both stores, and the budgets of that Redis."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients


@pytest.fixture
async def clients(redis: Any, database_url: str) -> AsyncIterator[Clients]:
    """Yield an empty Redis and a fresh migrated database."""
    pool = await open_pool(database_url)
    yield Clients(pool, redis)
    await pool.close()


@pytest.fixture
async def budgets(clients: Clients, redis_url: str) -> AsyncIterator[Bookkeeping]:
    """Yield the budgets of that Redis."""
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, deadline_ms=2_000)
    await connection.start()
    await connection.tried()
    yield Bookkeeping(connection, scripts, 60_000, 1_000_000)
    await connection.close()
