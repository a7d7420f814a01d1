"""Usage: what an org's calls have consumed and cost, summed out of the ledger."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple

import asyncpg

from gateway.ledger.sql import statement

_SUM = statement("sum_usage")
# A day of the org begins at most 14 hours before or after that of UTC, and lasts longer than one
# where its zone was changed while it ran.
_AROUND = timedelta(days=3)

By = Literal["agent", "model", "day"]


class UsageSum(NamedTuple):
    """The calls of one agent, model or day; the name of a model that is not known is empty."""

    name: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_microcents: int


async def zone_of(pool: asyncpg.Pool, org: str) -> str | None:
    """Return the time zone that an org was added with, or None where it is not known."""
    found: str | None = await pool.fetchval("SELECT timezone FROM org WHERE org = $1", org)
    return found


async def sum_usage(
    pool: asyncpg.Pool, org: str, zone: str, days: tuple[date, date], by: By
) -> list[UsageSum]:
    """Return what an org has used from the first day to the last, both included.

    By day in order, otherwise what cost most comes first.
    """
    first, last = days
    rows = await pool.fetch(
        _SUM,
        org,
        zone,
        first.isoformat(),
        last.isoformat(),
        datetime.combine(first, time(), UTC) - _AROUND,
        datetime.combine(last, time(), UTC) + _AROUND,
        by,
    )
    return [UsageSum(*row) for row in rows]


def total_of(sums: list[UsageSum]) -> UsageSum:
    """Return the sum of sums under the name ``total``."""
    columns = list(zip(*(found[1:] for found in sums), strict=True)) or [(0,)] * 4
    return UsageSum("total", *map(sum, columns))
