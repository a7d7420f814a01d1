"""A settle that is told late, again, or after its hold has expired is one charge in its month.

Scripts, pump and outbox are the real ones, over a clock that is moved: what Redis would have
forgotten meanwhile is taken away. Each case is played with the ledger booking at every step, and
with a ledger that books all of it at the end.

LATE_SETTLE_SEEDS plays more histories, that many seeds.
"""

import itertools
import os
import random
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held
from gateway.registry.differences import is_posted
from tests.lua.store import ORG, Store, cents, ms, open_store
from tests.servers import Servers
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import deliver

# Ten seconds before the last day of a month ends in UTC, where acme's windows end too.
RESERVED_AT = "2037-11-30T23:59:50Z"
QUOTE, COST = cents(5), cents(3)
TTL_MS, MINUTE_MS = 60_000, 60_000
LATENESS_MS = {
    "in time": 1_000,
    "20 minutes late": 20 * MINUTE_MS,
    "25 hours late": 25 * 60 * MINUTE_MS,
    "in the next month": 35 * 24 * 60 * MINUTE_MS,
}
# What is set to end at an instant of the moved clock, and not after a while from now.
_INSTANT_MS = ms("2036-01-01T00:00:00Z")
SEEDS = range(1, 1 + int(os.environ.get("LATE_SETTLE_SEEDS", "12")))


class Books(NamedTuple):
    """One store at a moved clock, its pump, and the ledger behind them."""

    store: Store
    reader: Any
    pool: asyncpg.Pool
    pump: JournalPump

    async def pass_on(self, elapsed_ms: int) -> None:
        """Move the clock, and take away what Redis would have forgotten by then."""
        store, client = self.store, self.store.client
        await store.at(elapsed_ms)
        for key in await client.keys("bg:{acme}:*"):
            ends_ms = await client.pexpiretime(key)
            if ends_ms < 0:
                continue
            if ends_ms > _INSTANT_MS:
                if ends_ms <= store.now_ms:
                    await client.delete(key)
            elif (left_ms := await client.pttl(key) - elapsed_ms) > 0:
                await client.pexpire(key, left_ms)
            else:
                await client.delete(key)

    async def book(self) -> None:
        """Post the journal, and tell Redis what the ledger asks of it."""
        last = await self.reader.xrevrange("bg:journal", count=1)
        while last and not await is_posted(self.reader, last[0][0]):
            await self.pump.step()
        while await deliver(self.pool, self.store.budgets):
            pass
        # What is made again of a window that is over leaves at once, by the clock that is moved.
        await self.pass_on(0)

    async def expire(self, ask: Ask, held: Held) -> None:
        """End the hold, as the sweeper does."""
        assert await self.store.budgets.expire(ORG, held.windows, [ask.id]) == ["expired"]

    async def settle(self, ask: Ask, held: Held, cost: int = COST) -> str:
        """Tell the cost; return the word of Redis."""
        settlement = Settlement(ask.org, ask.agent, ask.id, held.windows, cost, b"{}")
        return (await self.store.budgets.settle(settlement)).status


@pytest.fixture
async def books(servers: Servers, pool: asyncpg.Pool) -> AsyncIterator[Books]:
    """Yield empty books, in November."""
    url = servers.redis().url
    async with Redis.from_url(url) as client, Redis.from_url(url, decode_responses=True) as reader:
        store = await open_store(client, flagged=True)
        await store.at(RESERVED_AT)
        pump = JournalPump(reader, pool, "w1", PumpMetrics(CollectorRegistry()))
        await pump.start()
        yield Books(store, reader, pool, pump)
        await client.flushall()


async def charged(books: Books) -> dict[tuple[str, str], int]:
    """Return what the ledger says that the org has spent, after a look at everything else.

    The entries of a reservation have one base; org and agent agree; Redis has the same numbers in
    each window that it still keeps.
    """
    rows = await books.pool.fetch(
        'SELECT agent, "window", window_id, spent_microcents FROM spend_window'
    )
    spent = {
        agent: {
            (row["window"], row["window_id"]): row["spent_microcents"]
            for row in rows
            if row["agent"] == agent
        }
        for agent in ("", "researcher")
    }
    bases = await books.pool.fetch(
        "SELECT reservation_id FROM usage_entry WHERE kind IN ('settle', 'expire')"
    )
    assert len({row["reservation_id"] for row in bases}) == len(bases)
    assert spent[""] == spent["researcher"]
    for (window, window_id), amount in spent[""].items():
        place = f"{window}:{window_id}" if window_id else window
        if await books.store.client.exists(f"bg:{{{ORG}}}:spend:{place}"):
            counters = {"org.spent": amount, "agent.researcher.spent": amount} if amount else {}
            assert await books.store.spend(place) == counters
    return spent[""]


IN_NOVEMBER = {("day", "2037-11-30"): COST, ("month", "2037-11"): COST, ("total", ""): COST}


@pytest.mark.parametrize("is_booked_at_once", [True, False])
@pytest.mark.parametrize(
    ("lateness", "words"),
    [
        ("in time", ["SETTLED", "DONE"]),
        ("20 minutes late", ["SETTLED", "JOURNALED"]),
        ("25 hours late", ["SETTLED", "JOURNALED"]),
        ("in the next month", ["SETTLED", "JOURNALED"]),
    ],
)
async def test_settle_told_twice_is_one_charge(
    books: Books, lateness: str, words: list[str], is_booked_at_once: bool
) -> None:
    """A settle that was counted, and is replayed when Redis knows it or knows it no more."""
    ask, held = await books.store.held(QUOTE)
    first = await books.settle(ask, held)
    if is_booked_at_once:
        await books.book()
    await books.pass_on(LATENESS_MS[lateness])

    again = await books.settle(ask, held)
    await books.book()

    assert [first, again] == words
    assert await charged(books) == IN_NOVEMBER


@pytest.mark.parametrize("is_booked_at_once", [True, False])
@pytest.mark.parametrize(
    ("lateness", "words"),
    [
        ("20 minutes late", ["LATE", "DONE"]),
        ("25 hours late", ["JOURNALED", "DONE"]),
        ("in the next month", ["JOURNALED", "DONE"]),
    ],
)
async def test_settle_after_expire_is_what_the_call_has_cost(
    books: Books, lateness: str, words: list[str], is_booked_at_once: bool
) -> None:
    """The quote was charged when the hold ended; told the cost, twice, the books have the cost."""
    ask, held = await books.store.held(QUOTE)
    await books.pass_on(TTL_MS)
    await books.expire(ask, held)
    if is_booked_at_once:
        await books.book()
    await books.pass_on(LATENESS_MS[lateness])

    told = [await books.settle(ask, held), await books.settle(ask, held)]
    await books.book()

    assert told == words
    assert await charged(books) == IN_NOVEMBER


@pytest.mark.parametrize("lateness", LATENESS_MS)
async def test_settle_that_redis_knows_nothing_of_is_one_charge(
    books: Books, lateness: str
) -> None:
    """Its hold was forgotten; the ledger has the cost, and the counters are repaired to it."""
    ask, held = await books.store.held(QUOTE)
    # All that a settle of the same instant leaves of the windows it is counted in.
    other, other_held = await books.store.held(cents(1))
    await books.settle(other, other_held, cents(1))
    await books.store.client.hdel("bg:{acme}:holds", ask.id)
    await books.pass_on(LATENESS_MS[lateness])

    told = [await books.settle(ask, held), await books.settle(ask, held)]
    await books.book()
    found = (await books.pool.fetchval("SELECT count(*) FROM outbox WHERE kind = 'repair'")) or 0
    spent = await books.pool.fetch(
        "SELECT window_id, spent_microcents FROM spend_window WHERE agent = ''"
    )
    counted = await books.store.spend()

    assert told == ["JOURNALED", "DONE"]
    assert found == 1
    assert {row["spent_microcents"] for row in spent} == {COST + cents(1)}
    assert {row["window_id"] for row in spent} == {"2037-11-30", "2037-11", ""}
    assert counted["org.spent"] == COST + cents(1)


@pytest.mark.parametrize("seed", SEEDS)
async def test_history_is_one_charge_for_each_call(books: Books, seed: int) -> None:
    """Whatever is told when, and whenever it is booked, each call is charged once, its cost."""
    chance = random.Random(seed)
    calls = [(*await books.store.held(QUOTE), chance.randrange(2 * QUOTE)) for _ in range(6)]
    told = dict[str, int]()
    for ask, held, cost in calls:
        if chance.random() < 0.6:
            await books.settle(ask, held, cost)
            told[ask.id] = cost
    await books.pass_on(TTL_MS)
    for ask, held, _ in calls:
        if ask.id not in told:
            await books.expire(ask, held)
    steps = itertools.chain.from_iterable(
        [(ask, held, cost)] * chance.randrange(1, 4) for ask, held, cost in calls
    )
    for ask, held, cost in sorted(steps, key=lambda _: chance.random()):
        if chance.random() < 0.5:
            await books.book()
        await books.pass_on(chance.choice(list(LATENESS_MS.values())) // 4)
        await books.settle(ask, held, cost)
    await books.book()

    total = sum(cost for _, _, cost in calls)
    assert await charged(books) == dict.fromkeys(IN_NOVEMBER, total)
