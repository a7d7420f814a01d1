"""Redis against the ledger at one cut: what differs is found to the microcent, what moves is not.

D1 counters that are what the ledger booked agree, in every window and scope
D2 a microcent more or less, in a counter or as a lost key, is a difference of its budget
D3 traffic that goes on while it looks is no difference
D4 it waits for the ledger, and says so where the ledger does not come
D5 a repair that is on its way is no difference; one that does not come is
D6 windows whose counters have left are not compared
D7 what is held, and how many the limit of concurrency counts, are what the open reservations say
D8 where one of them cannot be read, nothing is said of what is held
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients
from gateway.registry.differences import Difference, compare, is_posted
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import deliver

CENT = 1_000_000
AUTHOR = Author("tester", "a test")


@pytest.fixture
async def pump(clients: Clients, redis_url: str) -> AsyncIterator[JournalPump]:
    """Yield a pump of the ledger, and the org acme whose money it carries."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "1000"}, AUTHOR)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        started = JournalPump(redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry()))
        await started.start()
        yield started


async def spend(budgets: Bookkeeping, amount_microcents: int, agent: str = "researcher") -> str:
    """Make one call that costs an amount and return its id."""
    ask = Ask(str(ULID()), "acme", agent, amount_microcents)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held), held
    settlement = Settlement("acme", agent, ask.id, held.windows, amount_microcents, b"{}")
    await budgets.settle(settlement)
    return ask.id


async def post_all(pump: JournalPump) -> None:
    """Post whatever is in the journal."""
    while await pump.step():
        pass


async def day_and_month(redis: Any) -> tuple[str, str]:
    """Return the ids of acme's running day and month."""
    day, month = await redis.hmget("bg:{acme}:meta", "day.id", "month.id")
    return day, month


async def test_booked_counters_agree(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D1: two agents and their org, in day, month and total, spent and held, and who is open."""
    await spend(budgets, 3 * CENT)
    await spend(budgets, 7, "writer")
    await post_all(pump)

    comparison = await compare(clients, budgets, "acme", 0)

    assert (comparison.is_posted, comparison.compared, comparison.differences) == (True, 20, ())


async def test_one_microcent_is_a_difference(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D2: it names the budget, the window and both amounts."""
    await spend(budgets, CENT)
    await post_all(pump)
    day, _ = await day_and_month(clients.redis)
    await clients.redis.hincrby(f"bg:{{acme}}:spend:day:{day}", "agent.researcher.spent", 1)

    comparison = await compare(clients, budgets, "acme", 0)

    assert comparison.differences == (Difference("acme:agent.researcher.day", day, CENT + 1, CENT),)


async def test_lost_key_of_a_running_window_is_a_difference(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D2: whoever deletes the counters of a running month gives its budget away."""
    await spend(budgets, CENT)
    await post_all(pump)
    _, month = await day_and_month(clients.redis)
    await clients.redis.delete(f"bg:{{acme}}:spend:month:{month}")

    comparison = await compare(clients, budgets, "acme", 0)

    assert comparison.differences == (
        Difference("acme:agent.researcher.month", month, 0, CENT),
        Difference("acme:org.month", month, 0, CENT),
    )


async def test_ended_window_whose_counters_left_is_not_compared(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D6: the ledger alone remembers it."""
    await spend(budgets, CENT)
    await post_all(pump)
    day, _ = await day_and_month(clients.redis)
    await clients.redis.hset("bg:{acme}:meta", mapping={"day.start": "1", "day.end": "2"})
    kept = await compare(clients, budgets, "acme", 0)
    await clients.redis.delete(f"bg:{{acme}}:spend:day:{day}")

    gone = await compare(clients, budgets, "acme", 0)

    assert (kept.compared, gone.compared, gone.differences) == (13, 9, ())


async def test_running_traffic_is_no_difference(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D3: calls and pump go on; twenty looks find nothing, and a planted microcent each time."""
    async with asyncio.TaskGroup() as group:
        writers = [group.create_task(_spend_forever(budgets, name)) for name in ("a", "b")]
        pumping = group.create_task(pump.run())
        looks = [await compare(clients, budgets, "acme", 10) for _ in range(20)]
        await clients.redis.hincrby("bg:{acme}:spend:total", "org.spent", 1)
        planted = [await compare(clients, budgets, "acme", 0.5) for _ in range(3)]
        for task in (*writers, pumping):
            task.cancel()

    assert [look.differences for look in looks if look.differences or not look.is_posted] == []
    assert len({look.journal_id for look in looks}) > 10
    for look in planted:
        (found,) = look.differences
        assert found.budget_id == "acme:org.total"
        assert found.found - found.expected == 1


async def _spend_forever(budgets: Bookkeeping, agent: str) -> None:
    while True:
        await spend(budgets, 1, agent)


async def test_ledger_that_does_not_come_is_said(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D4: nothing is compared with a ledger that is behind, and later it is."""
    await spend(budgets, CENT)

    behind = await compare(clients, budgets, "acme", 0)
    await post_all(pump)
    later = await compare(clients, budgets, "acme", 0)

    assert (behind.is_posted, behind.compared) == (False, 0)
    assert (later.is_posted, later.differences) == (True, ())


async def test_it_waits_for_the_ledger(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D4: a pump that comes while it waits is enough."""
    await spend(budgets, CENT)

    async with asyncio.TaskGroup() as group:
        look = group.create_task(compare(clients, budgets, "acme", 30))
        pumping = group.create_task(pump.run())
        comparison = await look
        pumping.cancel()

    assert (comparison.is_posted, comparison.compared, comparison.differences) == (True, 13, ())


async def test_delivered_entry_is_not_posted(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D4: what a worker was given and has not acknowledged may not be in the ledger yet."""
    await spend(budgets, CENT)
    last = (await budgets.inspect("acme")).journal_id
    before = await is_posted(clients.redis, last)
    await clients.redis.xreadgroup("ledger", "dead", {"bg:journal": ">"})

    assert (before, await is_posted(clients.redis, last)) == (False, False)
    await clients.redis.xack("bg:journal", "ledger", last)
    assert await is_posted(clients.redis, last)


async def test_journal_ids_compare_as_numbers(clients: Clients, pump: JournalPump) -> None:
    """D4: 9-9 comes before 10-0, and 10-9 before 10-10, though not as text."""
    for journal_id in ("9-9", "10-9", "10-10"):
        await clients.redis.xadd("bg:journal", {"v": "0"}, id=journal_id)
    await clients.redis.xreadgroup("ledger", "dead", {"bg:journal": ">"}, count=3)
    await clients.redis.xack("bg:journal", "ledger", "9-9", "10-9")

    answers = [await is_posted(clients.redis, id) for id in ("9-9", "10-9", "10-10", "100-0")]

    assert answers == [True, True, False, False]


async def test_deleted_last_entry_is_not_waited_for(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D4: an entry that is no more in the journal comes to no ledger; its money is a difference."""
    await spend(budgets, CENT)
    last = (await budgets.inspect("acme")).journal_id
    await clients.redis.xdel("bg:journal", last)

    comparison = await compare(clients, budgets, "acme", 0)

    assert comparison.is_posted
    assert len(comparison.differences) == 6


async def test_repair_on_its_way_is_no_difference(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """D5: a cost that Redis had not counted is booked, and the outbox brings it to the counters."""
    await _journal_only(budgets)
    await post_all(pump)

    at_once = await compare(clients, budgets, "acme", 0)
    async with asyncio.TaskGroup() as group:
        look = group.create_task(compare(clients, budgets, "acme", 30))
        delivery = group.create_task(_deliver_forever(clients.ledger, budgets))
        waited = await look
        delivery.cancel()

    assert {found.expected - found.found for found in at_once.differences} == {2 * CENT}
    assert waited.differences == ()


@pytest.mark.parametrize(
    ("org", "done_after_s", "is_open"),
    [("acme", None, True), ("acme", 1, True), ("acme", -1, False), ("evil", None, False)],
)
async def test_repair_may_be_on_its_way(
    clients: Clients, org: str, done_after_s: int | None, is_open: bool
) -> None:
    """D5: one that is open, or was told to Redis after the look, may be what differs."""
    mark = await clients.ledger.fetchval("SELECT now()")
    done_at = None if done_after_s is None else mark + timedelta(seconds=done_after_s)
    await clients.ledger.execute(
        "INSERT INTO outbox (kind, org, payload, source, done_at) "
        "VALUES ('repair', $1, '{}', 'r', $2), ('credit', 'acme', '{}', 'c', NULL)",
        org,
        done_at,
    )

    assert await clients.ledger.fetchval(statement("exists_open_repair"), "acme", mark) == is_open


async def _journal_only(budgets: Bookkeeping) -> None:
    # A settle whose reservation nobody knows any more: journaled, and counted by the ledger alone.
    ask = Ask(str(ULID()), "acme", "researcher", CENT)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held), held
    await budgets.release("acme", "researcher", ask.id, held.windows)
    forgotten = Settlement("acme", "researcher", str(ULID()), held.windows, 2 * CENT, b"{}")
    assert (await budgets.settle(forgotten)).status == "JOURNALED"


async def _deliver_forever(pool: asyncpg.Pool, budgets: Bookkeeping) -> None:
    while True:
        await deliver(pool, budgets)
