"""Fixtures of the registry: both stores."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients


@pytest.fixture
async def clients(redis: Any, database_url: str) -> AsyncIterator[Clients]:
    """Yield an empty Redis and a fresh migrated database."""
    pool = await open_pool(database_url)
    yield Clients(pool, redis)
    await pool.close()
