"""Leases: locks of Postgres whose holder must go on saying that it lives.

A process that is stopped, or whose machine hangs, keeps its connection and with it each lock, for
as long as TCP believes in it. Here Postgres ends a session that says nothing for a while (since
version 14); with an older one such a lock is held until the process goes on or is gone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg

_TRY = "SELECT pg_try_advisory_lock($1)"
_ENDS = "SELECT set_config(name, $1, false) FROM pg_settings WHERE name = 'idle_session_timeout'"
IDLE_MS, EVERY_S = 5_000, 1.0

_Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class Lease:
    """A lock that this process holds for as long as ``renew`` does not fail."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        # A connection answers one question at a time.
        self._asking = asyncio.Lock()

    async def renew(self) -> None:
        """Say that its holder lives; errors of asyncpg mean that somebody else may hold it now."""
        async with self._asking:
            await self._connection.fetchval("SELECT 1")

    async def keep(self, every_s: float) -> None:
        """Renew it until cancelled, or until it is lost: the next ``renew`` tells."""
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            while True:
                await asyncio.sleep(every_s)
                await self.renew()


@asynccontextmanager
async def lease(
    ledger: asyncpg.Pool, number: int, idle_ms: int = IDLE_MS, every_s: float = EVERY_S
) -> AsyncIterator[Lease | None]:
    """Hold the advisory lock of this number while the block runs; None where another one does."""
    async with ledger.acquire() as connection:
        if not await connection.fetchval(_TRY, number):
            yield None
            return
        # Taken back with the connection, like the lock.
        await connection.fetchval(_ENDS, str(idle_ms))
        held = Lease(connection)
        keeping = asyncio.create_task(held.keep(every_s))
        try:
            yield held
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
