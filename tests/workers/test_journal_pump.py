"""The journal reaches the ledger.

J1 every entry is booked exactly once, also where a worker dies between post and ack
J2 only what is posted leaves the stream
J3 what a dead worker had read is posted by another
J4 a group or an entry that somebody deleted stops nothing, and does not go unseen
"""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import ResponseError
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.ledger.posting import post
from tests.ledger.test_posting import entry
from tests.servers import Servers
from tests.workers.calls import held, ledger_total, spent_and_held
from workers.journal_pump import JournalPump, PumpMetrics
from workers.main import text_client


@pytest.fixture
def metrics(registry: CollectorRegistry) -> PumpMetrics:
    """Return the counts of the pumps."""
    return PumpMetrics(registry)


async def journal(redis: Any, *amounts: int) -> list[str]:
    """Append settles to the journal and return their stream ids."""
    entries = [entry("settle", str(ULID()), amount)[1] for amount in amounts]
    return [await redis.xadd("bg:journal", {**fields}) for fields in entries]


async def read(redis: Any, consumer: str) -> list[tuple[str, dict[str, str]]]:
    """Read as a worker that then dies or is slow: nothing is posted or acknowledged."""
    reply = await redis.xreadgroup("ledger", consumer, {"bg:journal": ">"})
    found: list[tuple[str, dict[str, str]]] = reply[0][1]
    return found


async def pending(redis: Any) -> int:
    """Return how many entries are delivered and not acknowledged."""
    count: int = (await redis.xpending("bg:journal", "ledger"))["pending"]
    return count


async def test_settled_calls_reach_the_ledger(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: PumpMetrics
) -> None:
    """J1: counters and ledger are equal to the microcent, and nothing is pending."""
    for cost in (100, 200, 300):
        await budgets.settle(await held(budgets, cost))
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()

    assert await pump.step() == 3
    assert (await ledger_total(pool), 0) == await spent_and_held(budgets) == (600, 0)
    assert await pending(redis) == 0


async def test_worker_that_died_before_its_ack_posts_nothing_twice(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J1: its entries are read again at the next start, and booked once."""
    await redis.xgroup_create("bg:journal", "ledger", id="0", mkstream=True)
    await journal(redis, 100)
    await post(pool, await read(redis, "w1"))

    await JournalPump(redis, pool, "w1", metrics).start()

    assert await ledger_total(pool) == 100
    assert await pending(redis) == 0


async def test_replay_of_the_whole_journal_books_nothing(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J1: a group that begins again at the first entry posts everything again, and changes none."""
    await journal(redis, *range(1, 1001))
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    posted = await pump.step() + await pump.step()
    before = await pool.fetch("SELECT * FROM usage_entry ORDER BY entry_seq")
    await redis.xgroup_setid("bg:journal", "ledger", "0")

    again = 0
    while step := await pump.step():
        again += step

    assert posted == 1000
    assert again > 0
    assert await pool.fetch("SELECT * FROM usage_entry ORDER BY entry_seq") == before
    assert await ledger_total(pool) == sum(range(1, 1001))


async def test_trim_keeps_what_is_not_posted(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J2: an entry that another worker has read and not acknowledged stays in the stream."""
    await redis.config_set("stream-node-max-entries", 1)
    await redis.xgroup_create("bg:journal", "ledger", id="0", mkstream=True)
    posted = await journal(redis, 100)
    fast = JournalPump(redis, pool, "fast", metrics)
    await fast.start()
    await fast.step()
    slow = await journal(redis, 200, 300)
    await read(redis, "slow")
    await journal(redis, 400)

    await JournalPump(redis, pool, "other", metrics).step()
    kept = [journal_id for journal_id, _ in await redis.xrange("bg:journal")]
    await redis.config_set("stream-node-max-entries", 100)

    assert posted[0] not in kept
    assert set(slow) <= set(kept)


class MeetingRedis(Redis):
    """A client in the middle of whose trim another worker is given what was journaled meanwhile."""

    async def xpending(self, name: Any, groupname: Any) -> Any:
        """Ask, and let it happen at the worst instant: when the answer is on its way."""
        answer = await super().xpending(name, groupname)
        if not answer["pending"]:
            await journal(self, 200, 300)
            await read(self, "slow")
        return answer


@pytest.fixture
async def meeting(redis: Any, redis_url: str) -> AsyncIterator[MeetingRedis]:
    """Yield such a client; every entry has a node of its own, so that trimming is exact."""
    await redis.config_set("stream-node-max-entries", 1)
    async with MeetingRedis.from_url(redis_url, decode_responses=True) as client:
        yield client
    await redis.config_set("stream-node-max-entries", 100)


async def test_trim_keeps_what_is_delivered_meanwhile(
    meeting: MeetingRedis, redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J2: entries that another worker reads while this one trims are not taken for posted."""
    await journal(redis, 100)
    pump = JournalPump(meeting, pool, "fast", metrics)
    await pump.start()

    await pump.step()

    read_by_slow = await redis.xpending_range("bg:journal", "ledger", "-", "+", 10)
    kept = [journal_id for journal_id, _ in await redis.xrange("bg:journal")]
    assert len(read_by_slow) == 2
    assert {row["message_id"] for row in read_by_slow} <= set(kept)


class EmptiedRedis(Redis):
    """A client that is emptied in the middle of a trim, and somebody journals at once."""

    async def xinfo_groups(self, name: Any) -> Any:
        """Ask what is there by then."""
        await self.flushall()
        await journal(self, 200)
        return await super().xinfo_groups(name)


async def test_trim_of_an_emptied_redis_ends_nothing(
    redis: Any, redis_url: str, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J2: it has no group that could say what is posted, so everything stays."""
    await journal(redis, 100)
    async with EmptiedRedis.from_url(redis_url, decode_responses=True) as client:
        pump = JournalPump(client, pool, "w1", metrics)
        await pump.start()

        assert await pump.step() == 1

    assert await redis.xlen("bg:journal") == 1


@pytest.mark.parametrize("server", ["valkey-9.1", "redis-6.2"])
async def test_entries_of_a_dead_worker_are_claimed(
    servers: Servers, pool: asyncpg.Pool, metrics: PumpMetrics, server: str
) -> None:
    """J3 J4: another worker posts them, and lets go of one that was deleted meanwhile."""
    async with Redis.from_url(servers.redis(server).url, decode_responses=True) as redis:
        await redis.flushall()
        await redis.xgroup_create("bg:journal", "ledger", id="0", mkstream=True)
        ids = await journal(redis, 100, 200, 300)
        await read(redis, "dead")
        await redis.xdel("bg:journal", ids[1])
        pump = JournalPump(redis, pool, "alive", metrics, claim_idle_ms=0)
        await pump.start()

        await pump.step()

        assert await ledger_total(pool) == 400
        assert await pending(redis) == 0


async def test_entry_deleted_under_its_reader_is_counted(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics, registry: CollectorRegistry
) -> None:
    """J4: an entry that was deleted before it was posted shows in a metric, and is let go."""
    await redis.xgroup_create("bg:journal", "ledger", id="0", mkstream=True)
    ids = await journal(redis, 100, 200)
    await read(redis, "w1")
    await redis.xdel("bg:journal", ids[0])

    await JournalPump(redis, pool, "w1", metrics).start()

    assert await ledger_total(pool) == 200
    assert await pending(redis) == 0
    assert registry.get_sample_value("budget_gateway_journal_lost_total") == 1


async def test_deleted_group_is_made_again_from_the_first_entry(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J4: the pump fails, and at its next start posts what no group knows of any more."""
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    await redis.xgroup_destroy("bg:journal", "ledger")
    await journal(redis, 100)

    with pytest.raises(ResponseError, match="NOGROUP"):
        await pump.step()
    await pump.start()
    await pump.step()

    assert await ledger_total(pool) == 100


async def test_unreadable_entry_does_not_stop_the_pump(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics, registry: CollectorRegistry
) -> None:
    """J4: an entry of foreign fields is kept aside and counted; its neighbour is booked."""
    await redis.xadd("bg:journal", {"hello": "world"})
    await journal(redis, 100)
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()

    await pump.step()

    assert await ledger_total(pool) == 100
    assert await pending(redis) == 0
    assert registry.get_sample_value("budget_gateway_journal_dead_total") == 1


async def test_bytes_that_are_no_text_do_not_stop_the_pump(
    redis_url: str, redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J4: an entry that is no UTF-8 is kept aside by the worker's own client, too."""
    fields = {**entry("settle", str(ULID()), 7)[1], "org": b"\xff\x00"}
    await redis.xadd("bg:journal", fields)
    await redis.xadd("bg:journal", {b"\xfe": b"\xc3("})
    await journal(redis, 100)
    async with contextlib.AsyncExitStack() as stack:
        pump = JournalPump(text_client(stack, redis_url), pool, "w1", metrics)
        await pump.start()
        await pump.step()

    assert await ledger_total(pool) == 100
    assert await pending(redis) == 0
    assert await pool.fetchval("SELECT count(*) FROM dead_entry") == 2


async def test_lag_is_told_while_the_ledger_is_away(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics, registry: CollectorRegistry
) -> None:
    """J2: what waits for Postgres is seen to wait, before anybody can say for how long."""
    await redis.xadd("bg:journal", entry("settle", str(ULID()), 1)[1], id="1577836800000-0")
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    await pool.close()

    with pytest.raises(asyncpg.InterfaceError):
        await pump.step()

    assert (registry.get_sample_value("budget_gateway_journal_lag_seconds") or 0) > 1e8
    assert registry.get_sample_value("budget_gateway_journal_entries") == 1


async def test_lag_is_that_of_what_another_worker_has_left(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics, registry: CollectorRegistry
) -> None:
    """J2: nothing is new, and the ledger is late all the same until somebody claims it."""
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    await redis.xadd("bg:journal", entry("settle", str(ULID()), 1)[1], id="1577836800000-0")
    await read(redis, "dead")

    await pump.step()
    late = registry.get_sample_value("budget_gateway_journal_lag_seconds") or 0
    await JournalPump(redis, pool, "dead", metrics).start()
    await pump.step()

    assert late > 1e8
    assert registry.get_sample_value("budget_gateway_journal_lag_seconds") == 0


async def test_worker_that_ends_leaves_nothing_behind(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J3: what it had read it posts, and its name leaves the group."""
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    await journal(redis, 100)
    await read(redis, "w1")

    await pump.finish()

    assert await ledger_total(pool) == 100
    assert await pending(redis) == 0
    assert await redis.xinfo_consumers("bg:journal", "ledger") == []


async def test_entry_stays_with_its_worker_until_it_is_booked(
    redis: Any, pool: asyncpg.Pool, metrics: PumpMetrics
) -> None:
    """J2: a worker whose ledger goes away has lost nothing of what it had read."""
    pump = JournalPump(redis, pool, "w1", metrics)
    await pump.start()
    await journal(redis, 100)
    await pool.close()

    with pytest.raises(asyncpg.InterfaceError):
        await pump.step()

    assert await pending(redis) == 1
