"""What is booked, asked and looked at while Redis is lost counts once, whenever it comes.

K1 an entry that a pump had read before the loss is in the counters, booked before or after
K2 a repair that was asked of the lost counters is not applied to the new ones
K3 who compared the lost counters asks for no repair of the new ones
K4 a credit that was applied is restored, one that was only asked for is applied, each once
"""

import asyncio

import orjson
import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.domain.window import WindowKind
from gateway.errors import StoreNotReady
from gateway.ledger.epochs import Epoch, begin_epoch, hold_epoch
from gateway.ledger.posting import post
from gateway.registry.clients import Clients
from gateway.registry.credits import ask_credit, give_credit
from gateway.registry.differences import compare
from gateway.registry.mending import mend
from gateway.registry.rebuild import rebuild
from tests.registry.rebuilding import AUTHOR, CENT, post_all, spend
from tests.registry.test_rebuild import pump, ready
from workers.journal_pump import JournalPump
from workers.outbox import deliver

__all__ = ["pump"]
TOTAL = "bg:{acme}:spend:total"
BUDGET: tuple[str, WindowKind, str] = ("org", "total", "")


async def applied(clients: Clients, budgets: Bookkeeping, field: str) -> int:
    """Return a counter of acme once everything that was asked for is applied."""
    while await deliver(clients.ledger, budgets):
        pass
    return int(await clients.redis.hget(TOTAL, field) or 0)


@pytest.mark.parametrize("booked", ["before the rebuild", "after it", "both times"])
async def test_entry_in_the_hands_of_a_pump_counts_once(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, booked: str
) -> None:
    """K1: what it had added to the counters is lost with them, so all of it is repaired."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    batch = await clients.redis.xrange("bg:journal")
    await clients.redis.flushall()
    if booked != "after it":
        await post(clients.ledger, batch)
    rebuilt = await rebuild(clients)
    if booked != "before the rebuild":
        await post(clients.ledger, batch)

    await ready(clients, budgets, rebuilt.epoch)

    assert await applied(clients, budgets, "org.spent") == CENT
    assert (await compare(clients, budgets, "acme", 0)).differences == ()


async def test_open_repair_is_in_the_restored_counters(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """K2: the ledger had changed when it was asked for, so to apply it would count it twice."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    await post_all(clients, pump)
    await clients.redis.hincrby(TOTAL, "org.spent", -CENT)
    assert (await mend(clients, budgets, "acme", 5)).is_mended
    await clients.redis.flushall()

    await ready(clients, budgets, (await rebuild(clients)).epoch)

    assert await applied(clients, budgets, "org.spent") == CENT
    results = await clients.ledger.fetch("SELECT result FROM outbox WHERE kind = 'repair'")
    assert [row["result"] for row in results] == ["DONE"]


async def test_comparison_of_lost_counters_asks_for_nothing(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """K3: it saw nothing spent; what it would ask for is there already."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    await post_all(clients, pump)
    for key in (TOTAL, "bg:{acme}:limits"):
        await clients.redis.delete(key)
    async with clients.ledger.acquire() as connection:
        await begin_epoch(connection, Epoch("another", "day,month,total", 0), "rebuild")

    with pytest.raises(StoreNotReady, match="compare again"):
        await mend(clients, budgets, "acme", 5)

    assert await clients.ledger.fetchval("SELECT count(*) FROM outbox") == 0


async def test_epoch_begins_after_those_who_hold_the_one_before(clients: Clients) -> None:
    """K2: whatever they ask for is committed, and seen by the rebuild."""
    async with clients.ledger.acquire() as booking, clients.ledger.acquire() as rebuilding:
        async with booking.transaction():
            await hold_epoch(booking)
            begun = asyncio.create_task(
                begin_epoch(rebuilding, Epoch("another", "day", 1), "rebuild")
            )
            waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
            while not await clients.ledger.fetchval(waiting):
                assert not begun.done()
        await begun


@pytest.mark.parametrize("posted", [True, False])
async def test_credit_counts_once(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, posted: bool
) -> None:
    """K4: also where the journal entry that confirms it was lost."""
    given, _ = await give_credit(clients, budgets, "acme", BUDGET, 7, AUTHOR)
    while await deliver(clients.ledger, budgets):
        pass
    await ask_credit(clients, "acme", BUDGET, 100, AUTHOR)
    if posted:
        await post_all(clients, pump)
    await clients.redis.flushall()
    rebuilt = await rebuild(clients)
    restored = await clients.redis.hget(TOTAL, "org.credit")

    await ready(clients, budgets, rebuilt.epoch)

    assert restored == "7"
    assert rebuilt.credits == 1
    # Whoever still has the old one in his hands is told that it was applied.
    assert await budgets.credit(given) == "DONE"
    assert await applied(clients, budgets, "org.credit") == 107


async def test_credit_that_no_outbox_has_finished_counts_once(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """K4: confirmed by the journal, its row still open: the row finds it done."""
    await give_credit(clients, budgets, "acme", BUDGET, 7, AUTHOR)
    await post_all(clients, pump)
    await clients.redis.flushall()

    await ready(clients, budgets, (await rebuild(clients)).epoch)

    assert await applied(clients, budgets, "org.credit") == 7


async def test_repair_of_after_the_rebuild_is_applied(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """K2: only what the restored counters have already is taken for applied."""
    await clients.redis.flushall()
    await ready(clients, budgets, (await rebuild(clients)).epoch)
    payload = {"id": str(ULID()), "org": "acme", "changes": [["total", "org.spent", 5]]}
    await clients.ledger.execute(
        "INSERT INTO outbox (kind, org, payload, source) VALUES ('repair', 'acme', $1, 's')",
        orjson.dumps(payload).decode(),
    )

    assert await applied(clients, budgets, "org.spent") == 5
