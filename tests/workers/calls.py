"""Calls of one org as the workers' tests make them, and where their money is seen."""

import asyncpg
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held


async def held(
    budgets: Bookkeeping, amount_microcents: int, ttl_ms: int = 60_000, org: str = "acme"
) -> Settlement:
    """Hold an amount and return the settlement that would end it at that amount."""
    ask = Ask(str(ULID()), org, "researcher", amount_microcents, ttl_ms=ttl_ms)
    outcome = await budgets.reserve(ask)
    assert isinstance(outcome, Held), outcome
    return Settlement(
        org, "researcher", ask.id, outcome.windows, amount_microcents, b'{"model":"m1"}'
    )


async def ledger_total(pool: asyncpg.Pool) -> int:
    """Return what the ledger's aggregates say that acme has spent."""
    return (
        await pool.fetchval(
            "SELECT spent_microcents FROM spend_window "
            "WHERE org = 'acme' AND agent = '' AND \"window\" = 'total'"
        )
        or 0
    )


async def spent_and_held(budgets: Bookkeeping, org: str = "acme") -> tuple[int, int]:
    """Return what the live counters say that an org has spent, and holds."""
    counters = (await budgets.inspect(org, "total")).counters["total", "org"]
    return counters.spent_microcents, counters.held_microcents
