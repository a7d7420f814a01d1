"""Leases: a lock goes on to the next one when its holder says nothing any more.

L1 one holds it at a time, for as long as it renews it
L2 a holder that says nothing loses it, hears so, and another one takes it
L3 the connection goes back without the lock, and without an end of its own
"""

import asyncio

import asyncpg
import pytest

from gateway.ledger.lease import lease
from tests.until import until

NUMBER = 42


async def is_free(pool: asyncpg.Pool) -> bool:
    """Return whether somebody else could take it now."""
    async with lease(pool, NUMBER) as held:
        return held is not None


async def test_one_holds_it_while_it_is_renewed(pool: asyncpg.Pool) -> None:
    """L1: for longer than a silent one could."""
    loop = asyncio.get_running_loop()
    async with lease(pool, NUMBER, idle_ms=400, every_s=0.02) as held:
        assert held is not None
        end_s = loop.time() + 0.8
        await until(lambda: loop.time() > end_s, "a while")
        assert not await is_free(pool)
        await held.renew()


async def test_silent_holder_loses_it(pool: asyncpg.Pool) -> None:
    """L2: as one that was stopped, and goes on."""
    async with lease(pool, NUMBER, idle_ms=100, every_s=60.0) as held:
        assert held is not None
        await until(lambda: is_free(pool), "the lock to be free")
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await held.renew()


async def test_lock_is_given_back(pool: asyncpg.Pool) -> None:
    """L3: whoever has the connection next may be silent for as long as it likes."""
    async with lease(pool, NUMBER, idle_ms=100, every_s=0.02):
        assert not await is_free(pool)

    assert await is_free(pool)
    assert await pool.fetchval("SHOW idle_session_timeout") == "0"
