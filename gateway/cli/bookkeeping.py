"""The verbs of the back office, opened for one command."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.cli.environment import require
from gateway.errors import StoreNotReady, StoreUnavailable
from gateway.settings import Settings

# Nobody's call waits for a command, so it may wait longer for Redis than the data plane.
_DEADLINE_MS = 5_000


@asynccontextmanager
async def open_bookkeeping(settings: Settings) -> AsyncIterator[Bookkeeping]:
    """Yield the budgets of a Redis that has answered and has the node marker.

    Raises:
        ConfigError: the address is missing or cannot be used.
        StoreUnavailable: Redis cannot be reached, or (StoreNotReady) has no marker.
    """
    require(settings, "redis_url")
    scripts = load_scripts()
    connection = Connection(read_address(settings.redis_url), scripts, _DEADLINE_MS)
    await connection.start()
    try:
        if not await connection.tried():
            raise StoreUnavailable(connection.problem)
        if connection.node is None:
            raise StoreNotReady(connection.problem)
        yield Bookkeeping(connection, scripts, settings.hold_ttl_ms, settings.journal_entries_max)
    finally:
        await connection.close()
