"""Epochs: which life of Redis the counters belong to, as the ledger knows it.

Who books, and asks for repairs, holds the epoch until its transaction ends. Who begins another one
waits for them. So whatever was asked of the old counters is seen before the new ones are made.
"""

from typing import NamedTuple

import asyncpg

# Any number will do, as long as every release uses the same one.
_LOCK = 7_265_843
_REBUILD_LOCK = 7_265_844
_CURRENT = "SELECT epoch, windows, began_ms FROM node_epoch ORDER BY number DESC LIMIT 1"

Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class Epoch(NamedTuple):
    """One life of Redis: its name in the marker, the windows it counts, and when it began.

    ``began_ms`` is an instant of Redis, or 0 for a life whose first counters were not made of the
    ledger.
    """

    epoch: str
    windows: str
    began_ms: int


async def current_epoch(ledger: asyncpg.Pool | Connection) -> Epoch | None:
    """Return the epoch that the counters belong to; None where no ``migrate`` has told it yet."""
    row = await ledger.fetchrow(_CURRENT)
    return Epoch(*row) if row else None


async def hold_epoch(connection: Connection) -> Epoch | None:
    """Return the current epoch and keep it current until this transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
    # A statement of its own: its snapshot must be younger than the lock.
    return await current_epoch(connection)


async def begin_epoch(connection: Connection, epoch: Epoch, cause: str) -> None:
    """Make an epoch the current one, once nobody holds the one before."""
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(
            "INSERT INTO node_epoch (epoch, windows, began_ms, cause) VALUES ($1, $2, $3, $4)",
            *epoch,
            cause,
        )


async def set_windows(connection: Connection, epoch: str, windows: str) -> None:
    """Note the windows that an epoch counts from now on."""
    await connection.execute("UPDATE node_epoch SET windows = $2 WHERE epoch = $1", epoch, windows)


async def is_known_epoch(connection: Connection, epoch: str) -> bool:
    """Return whether an epoch is, or was, the current one."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM node_epoch WHERE epoch = $1)", epoch
    )
    return found


async def try_lock_rebuild(connection: Connection) -> bool:
    """Take the lock of the one rebuilder for as long as this connection lives; false if taken."""
    taken: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1)", _REBUILD_LOCK)
    return taken
