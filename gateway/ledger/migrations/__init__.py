"""Migrations: plain SQL, forward only, each applied once and never edited afterwards."""

import hashlib
from datetime import UTC, datetime
from importlib.resources import files

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy

from gateway.errors import ConfigError

# Any number will do, as long as every release uses the same one.
_LOCK = 7_265_842
_TABLE = """
CREATE TABLE IF NOT EXISTS migration (
    name text PRIMARY KEY,
    checksum text NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
)"""


def migrations() -> dict[str, str]:
    """Return the statements of each migration by name, in the order they apply."""
    folder = files(__name__)
    names = sorted(item.name for item in folder.iterdir() if item.name.endswith(".sql"))
    return {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}


async def migrate(connection: Connection) -> list[str]:
    """Apply what is missing and return its names; safe to run from several places at once.

    Raises:
        ConfigError: a migration that was applied has been edited since.
    """
    await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    try:
        await connection.execute(_TABLE)
        applied = await _apply(connection)
        await ensure_partitions(connection, [datetime.now(UTC)])
        return applied
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)


async def _apply(connection: Connection) -> list[str]:
    rows = await connection.fetch("SELECT name, checksum FROM migration")
    known: dict[str, str] = {row["name"]: row["checksum"] for row in rows}
    applied = []
    for name, statements in migrations().items():
        checksum = hashlib.sha256(statements.encode()).hexdigest()
        if known.get(name, checksum) != checksum:
            raise ConfigError(f"Migration {name} was edited after it had been applied.")
        if name in known:
            continue
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '4s'")
            await connection.execute("SET LOCAL statement_timeout = '5s'")
            await connection.execute(statements)
            await connection.execute(
                "INSERT INTO migration (name, checksum) VALUES ($1, $2)", name, checksum
            )
        applied.append(name)
    return applied


async def ensure_partitions(
    connection: Connection | PoolConnectionProxy, instants: list[datetime]
) -> None:
    """Make the monthly partitions of the ledger that hold these instants, and the months after."""
    months = {_month(instant, ahead) for instant in instants for ahead in (0, 1)}
    for year, month in sorted(months):
        after = (year + month // 12, month % 12 + 1)
        # Names and bounds are numbers made here: DDL takes no parameters.
        await connection.execute(
            f"CREATE TABLE IF NOT EXISTS usage_entry_{year}_{month:02d} PARTITION OF usage_entry "
            f"FOR VALUES FROM ('{year}-{month:02d}-01 00:00+00') "
            f"TO ('{after[0]}-{after[1]:02d}-01 00:00+00')"
        )


def _month(instant: datetime, ahead: int) -> tuple[int, int]:
    at = instant.astimezone(UTC)
    number = at.year * 12 + at.month - 1 + ahead
    return number // 12, number % 12 + 1
