"""Migrations apply once, in order, and are never edited.

M1 what is missing is applied, from however many places at once
M2 one that was edited after it had been applied stops everything
M3 partitions are made without stopping anybody
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest

from gateway.errors import ConfigError
from gateway.ledger.migrations import ensure_partitions, migrate, migrations


@pytest.fixture
async def connections(database_url: str) -> AsyncIterator[list[asyncpg.Connection]]:
    """Yield three connections to one database."""
    opened = [await asyncpg.connect(database_url) for _ in range(3)]
    yield opened
    for connection in opened:
        await connection.close()


async def partitions(connection: asyncpg.Connection) -> set[str]:
    """Return the names of the ledger's partitions."""
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'usage_entry'::regclass"
    )
    return {row["name"] for row in rows}


async def test_migrations_apply_once_from_three_places(
    connections: list[asyncpg.Connection],
) -> None:
    """M1: deployments that migrate an empty database at once apply each migration once."""
    await connections[0].execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    applied = await asyncio.gather(*map(migrate, connections))

    assert sorted(name for names in applied for name in names) == list(migrations())


async def test_migrating_again_applies_nothing(connections: list[asyncpg.Connection]) -> None:
    """M1: a database that is up to date stays as it is."""
    before = await connections[0].fetch("SELECT * FROM migration")

    assert await migrate(connections[0]) == []
    assert await connections[0].fetch("SELECT * FROM migration") == before


async def test_edited_migration_is_refused(connections: list[asyncpg.Connection]) -> None:
    """M2: the sentence names the file, and the lock is free for the next one who tries."""
    await connections[0].execute("UPDATE migration SET checksum = 'another'")

    for connection in connections:
        with pytest.raises(ConfigError, match=r"0001_ledger\.sql was edited"):
            await migrate(connection)


async def test_partitions_hold_a_month_and_the_next(connections: list[asyncpg.Connection]) -> None:
    """M3: also over the end of a year, and again without a change."""
    december = datetime(2031, 12, 31, 23, 59, tzinfo=UTC)
    for _ in range(2):
        await ensure_partitions(connections[0], [december])

    made = {name for name in await partitions(connections[0]) if name > "usage_entry_2031"}
    assert made == {"usage_entry_2031_12", "usage_entry_2032_01"}


async def test_partition_is_made_while_the_ledger_is_read(
    connections: list[asyncpg.Connection],
) -> None:
    """M3: a long report does not stop the pump from opening a month, nor the other way round."""
    reader, pump, other = connections
    async with reader.transaction():
        await reader.fetch("SELECT count(*) FROM usage_entry")

        await ensure_partitions(pump, [datetime(2033, 5, 1, tzinfo=UTC)])

        assert await other.fetchval("SELECT count(*) FROM usage_entry") == 0
    assert "usage_entry_2033_05" in await partitions(pump)
