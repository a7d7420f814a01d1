"""Thousands of callers in several processes race for one budget, and not a microcent is lost."""

import asyncio
import sys
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry
from ulid import ULID

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Ask, Denied, Held
from gateway.ledger.pool import open_pool
from tests.house.sources import ROOT
from workers.journal_pump import JournalPump, PumpMetrics

PROCESSES, CALLERS = 4, 500
# Less than half of what the callers ask for, so that most of them are denied.
LIMIT_CENTS = "0.400003"
LIMIT_MICROCENTS = 400_003


async def race(url: str, seed: int) -> int:
    """Run one process of callers and return what it says to have settled."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.race.callers", url, str(CALLERS), str(seed)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return int(out)


async def test_race_for_one_budget(redis: Any, redis_url: str, database_url: str) -> None:
    """Never more than the limit, nothing left held, and callers, counters and ledger agree."""
    fields = {"status": "active", "org.month.limit_cents": LIMIT_CENTS}
    await redis.hset("bg:{acme}:limits", mapping=fields)
    await redis.hset("bg:{acme}:meta", "schema", "1")

    settled = sum(await asyncio.gather(*(race(redis_url, seed) for seed in range(PROCESSES))))

    pool = await open_pool(database_url)
    pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    while await pump.step():
        pass
    spent = await pool.fetchval("SELECT sum(amount_microcents) FROM usage_entry")
    agents = await _agents(pool)
    await pool.close()
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, 5_000)
    await connection.start()
    await connection.tried()
    budgets = Bookkeeping(connection, scripts, 60_000, 1_000_000)
    counters = (await budgets.inspect("acme", "total")).counters
    left = LIMIT_MICROCENTS - settled
    too_much = await budgets.reserve(_ask(left + 1))
    the_rest = await budgets.reserve(_ask(left))
    await connection.close()

    # Most of the limit was held at once and settled for less; nobody came to take the rest.
    assert LIMIT_MICROCENTS / 3 < settled <= LIMIT_MICROCENTS
    assert spent == settled
    assert counters["total", "org"] == (settled, 0, 0)
    assert agents == {
        scope.removeprefix("agent."): numbers.spent_microcents
        for (_, scope), numbers in counters.items()
        if scope != "org"
    }
    assert isinstance(too_much, Denied)
    assert isinstance(the_rest, Held)
    assert await redis.zcard("bg:expiry") == 1


async def _agents(pool: asyncpg.Pool) -> dict[str, int]:
    rows = await pool.fetch(
        "SELECT agent, spent_microcents FROM spend_window "
        "WHERE agent <> '' AND \"window\" = 'total'"
    )
    return {row["agent"]: row["spent_microcents"] for row in rows}


def _ask(amount_microcents: int) -> Ask:
    return Ask(str(ULID()), "acme", "agent0", amount_microcents)
