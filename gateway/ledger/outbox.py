"""The outbox: rows of what Redis must still be told, each taken by one worker at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
import orjson

from gateway.ledger.sql import statement

_LEASE = statement("lease_outbox")
_FINISH = statement("finish_outbox")
_PUT_OFF = statement("put_off_outbox")
_BURY = statement("bury_outbox")

LEASE_S = 60.0
# Redis remembers for seven days what it has applied; no row is tried for nearly as long.
TRY_S = 72 * 3600.0


class Due(NamedTuple):
    """A row that was taken. ``is_over``: it was first tried more than 72 hours ago."""

    id: int
    kind: str
    payload: dict[str, Any]
    fence: int
    is_over: bool


async def lease(pool: asyncpg.Pool, rows_max: int) -> list[Due]:
    """Take rows that are due; nobody else takes them for a minute.

    Every function below does nothing where another worker has taken the row since.
    """
    rows = await pool.fetch(_LEASE, rows_max, LEASE_S, TRY_S)
    return [
        Due(row["id"], row["kind"], orjson.loads(row["payload"]), row["fence"], row["is_over"])
        for row in rows
    ]


async def finish(pool: asyncpg.Pool, told: Sequence[tuple[Due, str]]) -> None:
    """End rows, each with the word that Redis answered."""
    if told:
        rows = [(due.id, due.fence, result) for due, result in told]
        await pool.execute(_FINISH, *map(list, zip(*rows, strict=True)))


async def put_off(pool: asyncpg.Pool, due: Due, error: str) -> None:
    """Try a row again later."""
    await pool.execute(_PUT_OFF, due.id, due.fence, error)


async def bury(pool: asyncpg.Pool, due: Due, reason: str) -> None:
    """Give a row up: it is kept in dead_entry and becomes an alert."""
    await pool.execute(_BURY, due.id, due.fence, reason)
