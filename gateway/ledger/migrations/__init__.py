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

_EXISTS = """
SELECT EXISTS (
    SELECT FROM pg_inherits JOIN pg_class AS partition ON partition.oid = inhrelid
    WHERE partition.relname = $1 AND pg_table_is_visible(partition.oid)
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
    """Make the monthly partitions of the ledger that hold these instants, and the months after.

    Safe from several places at once; who reads or writes the ledger meanwhile is not stopped.
    """
    for year, month in sorted({_month(instant, ahead) for instant in instants for ahead in (0, 1)}):
        name = f"usage_entry_{year}_{month:02d}"
        if await _exists(connection, name):
            continue
        async with connection.transaction():
            await connection.execute("SET LOCAL lock_timeout = '4s'")
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if not await _exists(connection, name):
                await connection.execute(_partition(name, year, month))


async def _exists(connection: Connection | PoolConnectionProxy, partition: str) -> bool:
    # Not to_regclass: it may answer from what this connection knew before it waited for the lock.
    return bool(await connection.fetchval(_EXISTS, partition))


def _partition(name: str, year: int, month: int) -> str:
    # Names and bounds are numbers made here: DDL takes no parameters. Attached, because CREATE
    # TABLE PARTITION OF would wait for every reader of the ledger and stop all others meanwhile.
    # Postgres hands row triggers down to a partition, but not those of a statement.
    return f"""
        CREATE TABLE {name} (LIKE usage_entry INCLUDING DEFAULTS INCLUDING CONSTRAINTS);
        ALTER TABLE usage_entry ATTACH PARTITION {name}
            FOR VALUES FROM ('{year}-{month:02d}-01 00:00+00')
            TO ('{year + month // 12}-{month % 12 + 1:02d}-01 00:00+00');
        CREATE TRIGGER {name}_no_truncate BEFORE TRUNCATE ON {name}
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    """


def _month(instant: datetime, ahead: int) -> tuple[int, int]:
    at = instant.astimezone(UTC)
    number = at.year * 12 + at.month - 1 + ahead
    return number // 12, number % 12 + 1
