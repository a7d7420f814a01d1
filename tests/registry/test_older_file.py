"""A Redis that was started from a file of hours or days ago, and nobody could prove it.

O1 an org that was added since is there again, though no gateway knows it
O2 a file from before the last rebuild opens nothing, which is told; a rebuild ends it
O3 an org in which somebody has put something of another type does not keep the others closed
O4 a credit is applied again, and once, also where it was given days before
O5 a window that was opened since is not spent twice, though Redis does not know that it runs
O6 a loss of a later start is not forgotten by whoever compares the one before
"""

import asyncio

import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.errors import ConfigError, StoreNotReady
from gateway.ledger.epochs import Epoch, begin_epoch
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.credits import give_credit
from gateway.registry.differences import compare
from gateway.registry.limits_mirror import mirror_limits
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import rebuild
from gateway.registry.recovery import recover
from tests.registry.rebuilding import AUTHOR, CENT, DESCRIPTION, ORGS, post_all, spend
from tests.registry.test_recovery import RUN, forget, pump, recovered, remembered, spent
from tests.until import until
from workers.journal_pump import JournalPump
from workers.outbox import deliver

__all__ = ["pump"]


async def test_forgotten_org_is_a_loss(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """O1: it would answer 401 for ever, as if its keys had never been."""
    before = await remembered(redis_url)
    await add_org(clients, "later", "UTC", {"org.month.limit_cents": "50"}, AUTHOR)
    await add_agent(clients, "later", "writer", DESCRIPTION)
    await spend(budgets, "later", "writer", 2 * CENT)
    await post_all(clients, pump)
    await forget(redis_url, before)

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert found.restored == ("later",)
    assert await spent(clients.redis, "later") == str(CENT)


async def test_file_older_than_the_last_rebuild_stays_closed(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """O2: repairs of counters of another epoch are refused, so nothing could open it."""
    before = await remembered(redis_url)
    await clients.redis.flushall()
    await rebuild(clients)
    await forget(redis_url, before)

    with pytest.raises(StoreNotReady, match="run budget-gateway rebuild"):
        await recovered(clients, budgets, pump)

    assert await clients.redis.hmget(NODE, "life", "lost") == ["run-1", RUN]


async def test_file_older_than_the_last_rebuild_is_rebuilt(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """O2: to the microcent, whatever was held and counted in the file; then it is left alone."""
    async with clients.ledger.acquire() as connection:
        epoch = await clients.redis.hget(NODE, "epoch")
        await begin_epoch(connection, Epoch(epoch, "day,month,total", 0), "migrate")
    before = await remembered(redis_url)
    await spend(budgets, "acme", "writer", 2 * CENT)
    await post_all(clients, pump)
    await mirror_limits(clients, ORGS)
    await clients.redis.flushall()
    await rebuild(clients)
    await forget(redis_url, before)

    rebuilt = await rebuild(clients)

    assert await clients.redis.hmget(NODE, "epoch", "ready") == [rebuilt.epoch, "1"]
    assert await spent(clients.redis, "acme") == str(CENT)
    with pytest.raises(ConfigError, match="nothing to rebuild"):
        await rebuild(clients)


@pytest.mark.parametrize("name", ["meta", "limits", "holds", "rate", "spend:total"])
async def test_key_of_another_type_does_not_keep_the_others_closed(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str, name: str
) -> None:
    """O3: the others are compared, repaired and open."""
    await mirror_limits(clients, ORGS)
    before = await remembered(redis_url)
    for org in ORGS:
        await spend(budgets, org, "writer", 2 * CENT)
    await post_all(clients, pump)
    await forget(redis_url, before)
    await clients.redis.set(f"bg:{{acme}}:{name}", "of another type")

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert "evil" in found.repaired
    assert await clients.redis.hmget(NODE, "life", "lost") == [RUN, None]


async def test_credit_of_days_ago_is_applied_again(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """O4: no counter of spend would tell that it is missing. It was applied, so it is money."""
    before = await remembered(redis_url)
    await give_credit(clients, budgets, "acme", ("org", "total", ""), 7 * CENT, AUTHOR)
    await deliver(clients.ledger, budgets)
    await spend(budgets, "acme", "writer", 2 * CENT)
    await post_all(clients, pump)
    await clients.ledger.execute(
        "UPDATE outbox SET done_at = ago, created_at = ago, first_tried_at = ago "
        "FROM (SELECT now() - interval '100 hours' AS ago) AS instant"
    )
    await forget(redis_url, before)

    for _ in range(2):
        await recovered(clients, budgets, pump)
        await clients.redis.hset(NODE, mapping={"life": "run-1", "lost": RUN})

    credit = await clients.redis.hget("bg:{acme}:spend:total", "org.credit")
    assert credit == str(7 * CENT)
    assert (await compare(clients, budgets, "acme", 5)).differences == ()


async def test_credit_that_redis_may_have_forgotten_by_age_is_not_applied_again(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """O4: Redis knows for seven days that it has applied one, however often it was told since."""
    await give_credit(clients, budgets, "acme", ("org", "total", ""), 7 * CENT, AUTHOR)
    await deliver(clients.ledger, budgets)
    await clients.ledger.execute("UPDATE outbox SET created_at = now() - interval '8 days'")
    applied = await clients.redis.keys("bg:{acme}:applied:*")
    await clients.redis.delete(*applied)
    await clients.redis.hset(NODE, "lost", RUN)

    await recovered(clients, budgets, pump)

    assert len(applied) == 1
    assert await clients.redis.hget("bg:{acme}:spend:total", "org.credit") == str(7 * CENT)


async def test_window_that_redis_does_not_know_is_not_spent_twice(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """O5: as after midnight. All that is left of the budget can be spent, and no more."""
    before = await remembered(redis_url)
    for _ in range(3):
        await spend(budgets, "acme", "writer", 24 * CENT)
    await post_all(clients, pump)
    await forget(redis_url, before)

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert found.repaired == ("acme",)
    assert not await spend(budgets, "acme", "writer", 14 * CENT + 1)
    assert await spend(budgets, "acme", "writer", 14 * CENT)
    await post_all(clients, pump)
    assert (await compare(clients, budgets, "acme", 5)).differences == ()


async def test_window_that_redis_does_not_know_is_compared(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """O5: also where the total is right again, because a repair came before."""
    await spend(budgets, "acme", "writer", 24 * CENT)
    await post_all(clients, pump)
    meta = await clients.redis.hgetall("bg:{acme}:meta")
    opened = {name for name in meta if name.startswith("month.")} | {"running", "until"}
    await clients.redis.hdel("bg:{acme}:meta", *opened)
    month = f"bg:{{acme}}:spend:month:{meta['month.id']}"
    await clients.redis.delete(month)
    await clients.redis.hset(NODE, "lost", RUN)

    await recovered(clients, budgets, pump)

    assert await clients.redis.hget(month, "org.spent") == str(12 * CENT)
    assert await clients.redis.pttl(month) > 0


async def test_loss_of_a_later_start_is_kept(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """O6: it was started once more meanwhile, and a gateway has proven what it has lost."""
    comparing = asyncio.create_task(recover(clients, budgets, RUN, 0.3, 60.0))

    async def begun() -> bool:
        return await clients.redis.hget(NODE, "checking") is not None

    await until(begun, "the comparison to begin")
    await clients.redis.hset(NODE, "lost", "run-3")
    await comparing

    assert await clients.redis.hmget(NODE, "life", "lost") == [RUN, "run-3"]
    assert pump is not None
