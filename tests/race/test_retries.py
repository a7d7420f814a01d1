"""Ten thousand reservations at once for one budget, two in five of them retried.

RACE_ROUNDS plays more rounds, each with a seed of its own; RACE_SEED begins at another one.
"""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
from ulid import ULID

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Ask, Denied, Held, ReserveOutcome

CALLS, RETRIED, AMOUNT_MAX = 10_000, 0.4, 997
CONNECTIONS = 4
# Less than half of what is asked for. Each call is above what is left of it at most once.
LIMIT_MICROCENTS = 2_000_003
_FIRST = int(os.environ.get("RACE_SEED", "1"))
SEEDS = range(_FIRST, _FIRST + int(os.environ.get("RACE_ROUNDS", "1")))


class Granted(NamedTuple):
    """What one call was told, by its reserve and by each retry."""

    ask: Ask
    outcomes: Sequence[ReserveOutcome]

    @property
    def held(self) -> Held | None:
        """The hold, where it was granted one."""
        return next((told for told in self.outcomes if isinstance(told, Held)), None)


@pytest.fixture
async def ways(redis: Any, redis_url: str) -> AsyncIterator[list[Bookkeeping]]:
    """Yield four ways to the budgets of acme, as of four gateways."""
    limit = f"{LIMIT_MICROCENTS / 1_000_000:.6f}"
    fields = {"status": "active", "org.month.limit_cents": limit}
    await redis.hset("bg:{acme}:limits", mapping=fields)
    await redis.hset("bg:{acme}:meta", "schema", "1")
    async with AsyncExitStack() as stack:
        ways = []
        for _ in range(CONNECTIONS):
            scripts = load_scripts()
            connection = Connection(read_address(redis_url), scripts, 60_000, 2 * CALLS)
            await connection.start()
            stack.push_async_callback(connection.close)
            await connection.tried()
            ways.append(Bookkeeping(connection, scripts, 60_000, 1_000_000))
        yield ways


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", SEEDS)
async def test_retries_are_granted_once(redis: Any, ways: list[Bookkeeping], seed: int) -> None:
    """What is granted is at most the limit, and full to within the smallest call refused."""
    chance = random.Random(seed)

    calls = await asyncio.gather(*(_reserve(ways, chance) for _ in range(CALLS)))
    granted = sum(call.ask.amount_microcents for call in calls if call.held)
    left = LIMIT_MICROCENTS - granted
    refused = [call.ask.amount_microcents for call in calls if call.held is None]
    in_between = (await ways[0].inspect("acme", "total")).counters["total", "org"]
    costs = await asyncio.gather(*(_end(ways, call, chance) for call in calls if call.held))
    counters = (await ways[0].inspect("acme", "total")).counters

    assert sum(len(call.outcomes) for call in calls) > CALLS * (1 + 0.9 * RETRIED)
    assert 0 <= left < min(refused)
    assert (in_between.spent_microcents, in_between.held_microcents) == (0, granted)
    assert counters["total", "org"] == (sum(costs), 0, 0)
    assert sum(counters["total", scope].held_microcents for _, scope in counters) == 0
    assert await redis.zcard("bg:expiry") == await redis.hlen("bg:{acme}:holds") == 0


async def _reserve(ways: list[Bookkeeping], chance: random.Random) -> Granted:
    """Make one call; its retry is a repeat at once, or one after it was answered."""
    agent = f"agent{chance.randrange(8)}"
    ask = Ask(str(ULID()), "acme", agent, chance.randrange(1, AMOUNT_MAX + 1))
    first, second = chance.sample(ways, 2)
    if chance.random() >= RETRIED:
        return Granted(ask, [await first.reserve(ask)])
    if chance.random() < 0.5:
        told = list(await asyncio.gather(first.reserve(ask), second.reserve(ask)))
    else:
        told = [await first.reserve(ask), await second.reserve(ask)]
    holds = [each for each in told if isinstance(each, Held)]
    # Nobody gives anything back here, so who was granted a hold has it, and who was not stays so.
    assert len(holds) in (0, 2), told
    assert holds or all(isinstance(each, Denied) for each in told), told
    return Granted(ask, told)


async def _end(ways: list[Bookkeeping], call: Granted, chance: random.Random) -> int:
    """Settle or release what one call holds, twice; return what it has cost."""
    ask, held = call.ask, call.held
    assert held is not None
    first, second = chance.sample(ways, 2)
    if chance.random() < 0.2:
        await asyncio.gather(
            *(way.release(ask.org, ask.agent, ask.id, held.windows) for way in (first, second))
        )
        return 0
    cost = chance.randrange(ask.amount_microcents + 1)
    settlement = Settlement(ask.org, ask.agent, ask.id, held.windows, cost, b"{}")
    ends = await asyncio.gather(first.settle(settlement), second.settle(settlement))
    assert {end.status for end in ends} == {"SETTLED", "DONE"}, ends
    return cost
