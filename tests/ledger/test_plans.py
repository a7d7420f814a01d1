"""The hot statements find their rows by an index, however full the ledger is.

Q1 what is known of some reservations
Q2 the aggregates of some windows
Q3 what of the outbox is due
"""

from datetime import UTC, datetime

import asyncpg
import pytest
from ulid import ULID

from gateway.ledger.posting import post
from gateway.ledger.sql import statement
from tests.ledger.test_posting import RESERVED_MS, entry, new_id

_RESERVED_AT = datetime.fromtimestamp(RESERVED_MS / 1000, UTC)


@pytest.fixture
async def full(pool: asyncpg.Pool) -> asyncpg.Pool:
    """Return a pool of a ledger of 4,000 calls in two months, and an outbox that is mostly done."""
    batch = [entry("settle", new_id(), 1) for _ in range(2_000)]
    later = str(RESERVED_MS + 30 * 86_400_000)
    batch += [
        (journal_id, {**fields, "reserved_ms": later, "windows": f"day:2026-12-{number},total"})
        for number in range(2_000)
        for journal_id, fields in [entry("settle", new_id(), 1)]
    ]
    for at in range(0, len(batch), 500):
        await post(pool, batch[at : at + 500])
    await pool.execute(
        "INSERT INTO outbox (kind, org, payload, source, done_at) "
        "SELECT 'repair', 'acme', '{}', 's' || n, CASE WHEN n > 10 THEN now() END "
        "FROM generate_series(1, 5000) AS n"
    )
    await pool.execute("ANALYZE")
    return pool


async def plan(pool: asyncpg.Pool, name: str, *arguments: object) -> str:
    """Return how Postgres runs a statement, also when it no longer looks at the arguments."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        rows = await connection.fetch(f"EXPLAIN {statement(name)}", *arguments)
    return "\n".join(row[0] for row in rows)


async def test_known_entries_are_found_by_the_key(full: asyncpg.Pool) -> None:
    """Q1: the key of a partition, never a scan of one."""
    ids = [str(ULID()) for _ in range(10)]

    found = await plan(full, "select_known_entry", ids, [_RESERVED_AT] * 10)

    assert "Seq Scan" not in found
    assert "Index" in found


async def test_aggregates_are_changed_by_their_key(full: asyncpg.Pool) -> None:
    """Q2: a conflict on the primary key, no look at other rows."""
    columns = (["acme"], [""], ["total"], [""], [1])

    found = await plan(full, "add_spend_window", *columns)

    assert "Conflict Arbiter Indexes: spend_window_pkey" in found
    assert "Seq Scan" not in found


async def test_due_rows_are_found_by_the_index_of_open_ones(full: asyncpg.Pool) -> None:
    """Q3: rows that are done cost nothing, however many there are."""
    found = await plan(full, "lease_outbox", 100, 60.0, 259_200.0)

    assert "Index Scan using outbox_due" in found
    assert "Seq Scan" not in found
