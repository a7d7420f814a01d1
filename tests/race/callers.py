"""One process of callers that race for a budget: `python -m tests.race.callers URL COUNT SEED`."""

import asyncio
import random
import sys

from ulid import ULID

from gateway.budgets.address import read_address
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Denied, Held

AMOUNT_MAX = 997
_DEADLINE_MS = 30_000


async def race(url: str, count: int, seed: int) -> int:
    """Reserve at once for every caller, twice each, settle some, and return what was settled."""
    scripts = load_scripts()
    connection = Connection(read_address(url), scripts, _DEADLINE_MS)
    await connection.start()
    await connection.tried()
    budgets = Budgets(connection, scripts, 60_000, 1_000_000)
    chance = random.Random(seed)
    asks = [
        Ask(str(ULID()), "acme", f"agent{chance.randrange(8)}", chance.randrange(1, AMOUNT_MAX + 1))
        for _ in range(count)
    ]
    settled = await asyncio.gather(*(call(budgets, ask, chance.random()) for ask in asks))
    await connection.close()
    return sum(settled)


async def call(budgets: Budgets, ask: Ask, share: float) -> int:
    """Make one call whose caller repeats itself; return what it has cost."""
    first, repeat = await asyncio.gather(budgets.reserve(ask), budgets.reserve(ask))
    held = first if isinstance(first, Held) else repeat
    if not isinstance(held, Held):
        assert isinstance(first, Denied), first
        assert isinstance(repeat, Denied), repeat
        return 0
    if share < 0.2:
        await budgets.release(ask.org, ask.agent, ask.id, held.windows)
        return 0
    cost = int(ask.amount_microcents * share)
    settlement = Settlement(ask.org, ask.agent, ask.id, held.windows, cost, b"{}")
    ends = await asyncio.gather(budgets.settle(settlement), budgets.settle(settlement))
    assert {end.status for end in ends} == {"SETTLED", "DONE"}, ends
    return cost


if __name__ == "__main__":
    sys.stdout.write(str(asyncio.run(race(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))
