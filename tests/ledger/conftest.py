"""Fixtures of the ledger."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.ledger.pool import open_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool of a fresh migrated database."""
    opened = await open_pool(database_url)
    yield opened
    await opened.close()
