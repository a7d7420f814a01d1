"""Counters that are not what the ledger says are mended by a repair, to the microcent.

M1 what differs is repaired, a lost key of a running window too, and an alert tells of it
M2 however many look at once, a difference is repaired once
M3 what agrees, what is being repaired, and what the ledger is too late for asks for nothing
M4 traffic that goes on meanwhile stays counted
M5 whoever mends waits for who mends already, and for a rebuild that has begun
"""

import asyncio

import orjson
import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.errors import StoreNotReady
from gateway.ledger.epochs import Epoch, begin_epoch
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients
from gateway.registry.differences import Comparison, compare
from gateway.registry.mending import mend
from tests.registry.test_differences import CENT, day_and_month, post_all, pump, spend
from tests.until import until
from workers.journal_pump import JournalPump
from workers.outbox import deliver

__all__ = ["pump"]
WAIT_S = 30.0


@pytest.fixture
async def books(clients: Clients, budgets: Bookkeeping, pump: JournalPump) -> Clients:
    """Yield the stores of acme, which has spent ten cents that are booked."""
    await spend(budgets, 10 * CENT)
    await post_all(pump)
    return clients


async def mended(clients: Clients, budgets: Bookkeeping) -> Comparison:
    """Apply what was asked for and compare again."""
    await deliver(clients.ledger, budgets)
    return await compare(clients, budgets, "acme", 0)


async def asked(clients: Clients) -> list[list[object]]:
    """Return the changes of each repair that was ever asked for."""
    rows = await clients.ledger.fetch("SELECT payload FROM outbox WHERE kind = 'repair'")
    return [orjson.loads(row["payload"])["changes"] for row in rows]


@pytest.mark.parametrize("drift", [1, -1, 3 * CENT])
async def test_difference_is_repaired(books: Clients, budgets: Bookkeeping, drift: int) -> None:
    """M1: of one agent in one window, more or less; the other counters are left alone."""
    day, _ = await day_and_month(books.redis)
    await books.redis.hincrby(f"bg:{{acme}}:spend:day:{day}", "agent.researcher.spent", drift)

    found = await mend(books, budgets, "acme", WAIT_S)

    assert (len(found.differences), found.is_mended) == (1, True)
    assert await asked(books) == [[[f"day:{day}", "agent.researcher.spent", -drift]]]
    assert (await mended(books, budgets)).differences == ()


async def test_lost_counters_of_a_running_window_are_made_again(
    books: Clients, budgets: Bookkeeping
) -> None:
    """M1: whoever deleted them gave the budget away, for as long as nobody looked."""
    _, month = await day_and_month(books.redis)
    await books.redis.delete(f"bg:{{acme}}:spend:month:{month}", "bg:{acme}:spend:total")

    await mend(books, budgets, "acme", WAIT_S)

    assert (await mended(books, budgets)).differences == ()
    assert await books.redis.hget("bg:{acme}:spend:total", "org.spent") == str(10 * CENT)


async def test_alert_tells_what_differed(books: Clients, budgets: Bookkeeping) -> None:
    """M1: the budget, and both amounts in cents."""
    await books.redis.hincrby("bg:{acme}:spend:total", "org.spent", 1)

    await mend(books, budgets, "acme", WAIT_S)

    (alert,) = await books.ledger.fetch("SELECT org, kind, detail FROM alert")
    assert (alert["org"], alert["kind"]) == ("acme", "counters_differ")
    assert orjson.loads(alert["detail"])["differences"] == [
        {
            "budget_id": "acme:org.total",
            "window_id": "",
            "counter": "spent",
            "found": "10.000001",
            "expected": "10",
        }
    ]


async def test_many_looks_repair_once(books: Clients, budgets: Bookkeeping) -> None:
    """M2: two that saw the same difference would take it away twice."""
    await books.redis.hincrby("bg:{acme}:spend:total", "org.spent", 5)

    looks = await asyncio.gather(*(mend(books, budgets, "acme", 0) for _ in range(3)))

    assert all(look.is_mended for look in looks)
    assert await asked(books) == [[["total", "org.spent", -5]]]
    assert (await mended(books, budgets)).differences == ()


async def test_agreement_asks_for_nothing(books: Clients, budgets: Bookkeeping) -> None:
    """M3: nor is anybody alarmed."""
    found = await mend(books, budgets, "acme", WAIT_S)

    assert (found.differences, await asked(books)) == ((), [])
    assert await books.ledger.fetchval("SELECT count(*) FROM alert") == 0


async def test_late_ledger_asks_for_nothing(books: Clients, budgets: Bookkeeping) -> None:
    """M3: what it has not booked yet is no difference."""
    await spend(budgets, CENT)

    found = await mend(books, budgets, "acme", 0)

    assert (found.is_posted, await asked(books)) == (False, [])


async def test_traffic_stays_counted(
    books: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """M4: what is spent between the look and the repair is no part of it."""
    await books.redis.hincrby("bg:{acme}:spend:total", "org.spent", -7)

    await mend(books, budgets, "acme", WAIT_S)
    await spend(budgets, 2 * CENT)
    await post_all(pump)

    assert (await mended(books, budgets)).differences == ()
    assert await books.redis.hget("bg:{acme}:spend:total", "org.spent") == str(12 * CENT)


async def waiting(clients: Clients, look: "asyncio.Task[Comparison]") -> None:
    """Wait until a look waits for a lock; it must not have ended before."""
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"

    async def is_waiting() -> bool:
        assert not look.done(), look
        return bool(await clients.ledger.fetchval(waits))

    await until(is_waiting, "the look to wait")


async def test_difference_waits_for_who_mends_it(books: Clients, budgets: Bookkeeping) -> None:
    """M5: what the other one asks for would be asked for again."""
    await books.redis.hincrby("bg:{acme}:spend:total", "org.spent", 5)
    async with books.ledger.acquire() as other:
        async with other.transaction():
            await other.execute(statement("lock_mending"), "acme")
            look = asyncio.create_task(mend(books, budgets, "acme", WAIT_S))
            await waiting(books, look)

        assert (await look).is_mended


async def test_repair_waits_for_a_rebuild(books: Clients, budgets: Bookkeeping) -> None:
    """M5: it has read the ledger, so a repair of the counters before would be added to its own."""
    await books.redis.hincrby("bg:{acme}:spend:total", "org.spent", 5)
    async with books.ledger.acquire() as rebuilding:
        async with rebuilding.transaction():
            await begin_epoch(rebuilding, Epoch("another", "day,month,total", 0), "rebuild")
            look = asyncio.create_task(mend(books, budgets, "acme", WAIT_S))
            await waiting(books, look)

        with pytest.raises(StoreNotReady, match="compare again"):
            await look
    assert await asked(books) == []
