"""An emptied Redis is made again of Postgres: what it held before, and never a wider budget.

B1 limits, zones, windows, agents, keys, counters and credits are as they were; holds are gone
B2 whatever ends a rebuild half-way, nothing is admitted, and a repeat finishes it
B3 one rebuilds at a time, and only an emptied Redis
B4 what is written while another has taken over is refused
B5 an org whose limits nobody knows stays closed
B6 what was recorded after the limits were last seen counts
B7 an agent that a lost Redis does not have is not unknown
B8 it stays closed until a worker has compared it, and to who knows its old epoch only

REBUILD_HISTORIES=1000 plays so many histories instead of a few; the number in a test's name is the
seed that replays it.
"""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import RedisError
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.keys import NODE
from gateway.domain.reservation import Ask, Denied, Held
from gateway.errors import ConfigError, StoreError, StoreNotReady
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.credits import ask_credit
from gateway.registry.differences import compare
from gateway.registry.limits import set_limits
from gateway.registry.mirror import locked
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import Rebuilt, rebuild
from tests.registry.rebuilding import (
    AUTHOR,
    CENT,
    DESCRIPTION,
    ORGS,
    contents,
    dying_client,
    live,
    post_all,
    spend,
)
from tests.until import until
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import deliver

HISTORIES = int(os.environ.get("REBUILD_HISTORIES", "6"))
STEPS = 40


@pytest.fixture
async def pump(clients: Clients, redis_url: str) -> AsyncIterator[JournalPump]:
    """Yield a pump of two orgs, which may spend 50 cents a month each."""
    for org in ORGS:
        await add_org(clients, org, "UTC", {"org.month.limit_cents": "50"}, AUTHOR)
        await add_agent(clients, org, "researcher", DESCRIPTION)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        started = JournalPump(redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry()))
        await started.start()
        yield started


async def ready(clients: Clients, budgets: Bookkeeping, epoch: str) -> None:
    """Open a rebuilt Redis as a worker does, and wait until the connection has seen it."""
    run_id = (await clients.redis.info("server"))["run_id"]
    await clients.redis.hset(NODE, "life", run_id)
    await clients.redis.hdel(NODE, "lost")
    await until(
        lambda: budgets.wire.epoch == epoch and not budgets.wire.problem,
        "the new epoch to be open",
    )


@pytest.mark.parametrize("seed", range(HISTORIES))
async def test_history_is_restored(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, seed: int
) -> None:
    """B1: to the microcent, with the same lifetimes; and Redis agrees with the ledger."""
    await live(clients, seed, STEPS, pump, budgets)
    before = await contents(clients.redis)
    await budgets.reserve(Ask(str(ULID()), "acme", "writer", 1))
    await clients.redis.flushall()

    rebuilt = await rebuild(clients)

    await ready(clients, budgets, rebuilt.epoch)
    assert await contents(clients.redis) == before
    assert not [key async for key in clients.redis.scan_iter(match="*:holds")]
    # Credits that were only asked for are applied now, those that were applied are not again.
    while await deliver(clients.ledger, budgets):
        pass
    after = await contents(clients.redis)
    asked = await clients.ledger.fetch("SELECT org, amount_microcents FROM credit_entry")
    for org in ORGS:
        credits = [
            int(value)
            for key, fields in after.items()
            if key.startswith(f"bg:{{{org}}}")
            for field, value in fields.items()
            if field.endswith(".credit")
        ]
        assert sum(credits) == sum(row["amount_microcents"] for row in asked if row["org"] == org)
        await pump.start()
        await post_all(clients, pump)
        assert (await compare(clients, budgets, org, 5)).differences == ()


async def test_next_call_is_decided_on_restored_counters(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """B1: what was spent before the loss is not there to be spent again, to the microcent."""
    await spend(budgets, "acme", "writer", 20 * CENT)
    await post_all(clients, pump)
    await clients.redis.flushall()
    await ready(clients, budgets, (await rebuild(clients)).epoch)

    more = await budgets.reserve(Ask(str(ULID()), "acme", "writer", 40 * CENT + 1))
    rest = await budgets.reserve(Ask(str(ULID()), "acme", "writer", 40 * CENT))

    assert isinstance(more, Denied)
    assert isinstance(rest, Held)


async def test_credit_that_was_given_up_is_not_restored(
    clients: Clients, pump: JournalPump
) -> None:
    """B1: Redis has never had it, so nobody may spend it now."""
    await ask_credit(clients, "acme", ("org", "total", ""), 5 * CENT, AUTHOR)
    await clients.ledger.execute("UPDATE outbox SET done_at = now(), result = 'dead'")
    await clients.redis.flushall()

    await rebuild(clients)

    assert await clients.redis.hget("bg:{acme}:spend:total", "org.credit") is None


async def died(clients: Clients) -> Exception | None:
    """Rebuild and return what ended it half-way, if anything did."""
    try:
        await rebuild(clients)
    except (StoreError, RedisError) as error:
        return error
    return None


@pytest.mark.parametrize("sends", [False, True], ids=["before", "after"])
async def test_rebuild_that_dies_anywhere_is_finished_by_a_repeat(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str, sends: bool
) -> None:
    """B2: killed at each of its writes, before or after Redis had it."""
    await live(clients, 7, STEPS, pump, budgets)
    before = await contents(clients.redis)
    for writes in range(100):
        await clients.redis.flushall()
        dying = dying_client(redis_url, writes, sends=sends)
        end = await died(Clients(clients.ledger, dying))
        await dying.aclose()
        if end is None:
            break

        is_ready = await clients.redis.hget(NODE, "ready") == "1"
        marks = [await clients.redis.hexists(f"bg:{{{org}}}:meta", "schema") for org in ORGS]
        if not is_ready:
            await rebuild(clients)
        else:
            assert all(marks)

        assert await contents(clients.redis) == before, f"killed at write {writes}"
    assert 8 < writes < 99


async def test_repeat_takes_away_what_was_held_in_between(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """B2: a hold on counters that are made anew would be given back twice."""
    await clients.redis.flushall()
    first = await rebuild(clients)
    await ready(clients, budgets, first.epoch)
    ask = Ask(str(ULID()), "acme", "writer", CENT)
    assert isinstance(await budgets.reserve(ask), Held)
    await clients.redis.hset(NODE, "ready", "0")

    await rebuild(clients)

    assert not await clients.redis.exists("bg:{acme}:holds", "bg:{acme}:rate")
    assert await clients.redis.hget("bg:{acme}:spend:total", "org.held") is None


async def begun_rebuild(clients: Clients) -> "asyncio.Task[Rebuilt]":
    """Begin a rebuild, and return it when it has written its marker."""
    running = asyncio.create_task(rebuild(clients))

    async def begun() -> bool:
        return bool(await clients.redis.exists(NODE))

    await until(begun, "the rebuild to begin")
    return running


async def test_two_rebuilders_are_one(clients: Clients, pump: JournalPump) -> None:
    """B3: the other one is told in a sentence, and both look at the same epoch afterwards."""
    await clients.redis.flushall()

    async with locked(clients, "acme"):
        running = await begun_rebuild(clients)
        with pytest.raises(ConfigError, match=r"Another rebuild is running; wait for it\."):
            await rebuild(clients)
    rebuilt = await running

    assert await clients.redis.hmget(NODE, "epoch", "ready") == [rebuilt.epoch, "1"]


async def test_lock_is_free_again_after_a_rebuild(clients: Clients, pump: JournalPump) -> None:
    """B3: the connection goes back to its pool without it."""
    for _ in range(3):
        await clients.redis.flushall()
        await rebuild(clients)


async def test_ready_redis_is_left_alone(clients: Clients, pump: JournalPump) -> None:
    """B3: differences are mended by repairs, which traffic may go on beside."""
    before = await clients.redis.hgetall(NODE)

    with pytest.raises(ConfigError, match=r"nothing to rebuild.*reconcile --repair"):
        await rebuild(clients)

    assert await clients.redis.hgetall(NODE) == before


async def test_empty_ledger_rebuilds_nothing(clients: Clients) -> None:
    """B3: a new deployment is marked by migrate."""
    await clients.redis.flushall()

    with pytest.raises(ConfigError, match="nothing to rebuild from"):
        await rebuild(clients)

    assert await clients.redis.dbsize() == 0


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("bg:{other}:limits", {"status": "active"}),
        ("bg:{other}:spend:total", {"org.spent": "1"}),
        ("bg:{other}:holds", {"R": "1"}),
        ("bg:{other}:meta", {"schema": "1"}),
        (NODE, {"schema": "1", "epoch": "X", "windows": "day", "ready": "0"}),
    ],
)
async def test_foreign_redis_is_refused(
    clients: Clients, pump: JournalPump, key: str, fields: dict[str, str]
) -> None:
    """B3: what an emptied Redis cannot have is another deployment's, or more than a loss."""
    await clients.redis.flushall()
    await clients.redis.hset(key, mapping=fields)

    with pytest.raises(ConfigError, match="GATEWAY_REDIS_URL"):
        await rebuild(clients)

    assert await clients.redis.dbsize() == 1


async def test_what_others_leave_in_an_empty_redis_stays(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """B3: a settle from before the loss is in the journal; the pump books it, counters follow."""
    ask = Ask(str(ULID()), "acme", "writer", CENT)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held)
    await clients.redis.flushall()
    await pump.start()
    await clients.redis.hset("bg:arq:health", "a", "b")
    from_before = [ask.id, held.windows]
    await settle_late(budgets, *from_before)

    rebuilt = await rebuild(clients)

    await ready(clients, budgets, rebuilt.epoch)
    assert await clients.redis.xlen("bg:journal") == 1
    await post_all(clients, pump)
    await deliver(clients.ledger, budgets)
    assert await clients.redis.hget("bg:{acme}:spend:total", "org.spent") == str(CENT)
    assert (await compare(clients, budgets, "acme", 5)).differences == ()


async def settle_late(budgets: Bookkeeping, id: str, windows: str) -> None:
    """Settle a call of acme whose hold is lost."""
    settlement = Settlement("acme", "writer", id, windows, CENT, b"{}")
    assert (await budgets.settle(settlement)).status == "JOURNALED"


@pytest.mark.parametrize("what", ["marker", "emptied"])
async def test_overtaken_rebuild_writes_nothing_more(
    clients: Clients, pump: JournalPump, what: str
) -> None:
    """B4: it stops where the marker is not its own any more; nothing is opened by it."""
    await clients.redis.flushall()
    async with locked(clients, "acme"):
        running = await begun_rebuild(clients)
        if what == "marker":
            await clients.redis.hset(NODE, "epoch", "another")
        else:
            await clients.redis.flushall()

    with pytest.raises(StoreError, match="repeat it"):
        await running

    assert not await clients.redis.exists("bg:{acme}:limits")
    assert await clients.redis.hget(NODE, "ready") in ("0", None)


async def test_epoch_of_postgres_is_a_fence_too(clients: Clients, pump: JournalPump) -> None:
    """B4: a Redis whose marker still looks right is not written once Postgres has moved on."""
    await clients.redis.flushall()
    async with locked(clients, "acme"):
        running = await begun_rebuild(clients)
        await clients.ledger.execute(
            "INSERT INTO node_epoch (epoch, windows, began_ms, cause) "
            "VALUES ('another', 'day,month,total', 0, 'rebuild')"
        )

    with pytest.raises(StoreError, match="repeat it"):
        await running

    assert not await clients.redis.exists("bg:{acme}:limits")


async def test_org_without_known_limits_stays_closed(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """B5: it is named, its counters are there, and no call of it is admitted."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    await post_all(clients, pump)
    await clients.ledger.execute("DELETE FROM limits_mirror WHERE org = 'acme'")
    await clients.ledger.execute("DELETE FROM limit_change WHERE org = 'acme'")
    await clients.redis.flushall()

    rebuilt = await rebuild(clients)

    await ready(clients, budgets, rebuilt.epoch)
    assert rebuilt.closed == ("acme",)
    assert await clients.redis.hget("bg:{acme}:spend:total", "org.spent") == str(CENT)
    assert not isinstance(await budgets.reserve(Ask(str(ULID()), "acme", "writer", 1)), Held)
    assert isinstance(await budgets.reserve(Ask(str(ULID()), "evil", "writer", 1)), Held)


async def test_recorded_change_counts_where_it_was_not_seen(
    clients: Clients, pump: JournalPump
) -> None:
    """B6: of an org that nobody has looked at, and of one whose last look is older."""
    await set_limits(clients, "acme", {"org.month.limit_cents": "7"}, AUTHOR)
    await set_limits(clients, "evil", {"org.month.limit_cents": "8"}, AUTHOR)
    await clients.ledger.execute("DELETE FROM limits_mirror WHERE org = 'acme'")
    await clients.ledger.execute(
        "UPDATE limits_mirror SET at = at - interval '1 hour', "
        """limits = limits || '{"org.month.limit_cents": "50"}' WHERE org = 'evil'"""
    )
    await clients.redis.flushall()

    await rebuild(clients)

    assert await clients.redis.hget("bg:{acme}:limits", "org.month.limit_cents") == "7"
    assert await clients.redis.hget("bg:{acme}:limits", "status") == "active"
    assert await clients.redis.hget("bg:{evil}:limits", "org.month.limit_cents") == "8"


async def test_agent_of_a_lost_redis_is_not_unknown(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """B7: a gateway that remembered so would answer 404 after the rebuild."""
    assert await budgets.agent_json("acme", "nobody") is None
    await clients.redis.flushall()

    with pytest.raises(StoreNotReady):
        await budgets.agent_json("acme", "researcher")

    await rebuild(clients)
    assert await budgets.agent_json("acme", "researcher")


@pytest.mark.usefixtures("pump")
async def test_worker_alone_opens_what_was_rebuilt(clients: Clients) -> None:
    """B8: what gateways tell again must be booked first, and one that sleeps must see the epoch."""
    await clients.redis.flushall()

    rebuilt = await rebuild(clients)

    run_id = (await clients.redis.info("server"))["run_id"]
    assert await clients.redis.hmget(NODE, "life", "lost") == ["", run_id]
    assert await clients.redis.hget("bg:{acme}:meta", "epoch") == rebuilt.epoch
