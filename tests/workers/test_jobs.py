"""The journal pump, the sweeper and the outbox, on real servers.

J1 every entry reaches the ledger exactly once, also where a worker dies between post and ack
J2 only what is posted leaves the stream
J3 overdue holds are ended, each once, whatever else lies in the index
J4 what Postgres has decided reaches Redis once, and a repair makes the counters equal the ledger
"""

from typing import Any

import asyncpg
import orjson
import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held
from gateway.ledger.posting import post
from workers.journal_pump import JournalPump
from workers.outbox import deliver
from workers.sweeper import sweep


def ask(amount_microcents: int, ttl_ms: int = 60_000) -> Ask:
    """Return an ask of the agent researcher."""
    return Ask(str(ULID()), "acme", "researcher", amount_microcents, ttl_ms=ttl_ms)


async def held(budgets: Bookkeeping, amount_microcents: int, ttl_ms: int = 60_000) -> Settlement:
    """Hold an amount and return the settlement that would end it at that amount."""
    asked = ask(amount_microcents, ttl_ms)
    outcome = await budgets.reserve(asked)
    assert isinstance(outcome, Held), outcome
    return Settlement(
        "acme", "researcher", asked.id, outcome.windows, amount_microcents, b'{"model":"m1"}'
    )


async def ledger_total(pool: asyncpg.Pool) -> int:
    """Return what the ledger's aggregates say that acme has spent."""
    return (
        await pool.fetchval(
            "SELECT spent_microcents FROM spend_window WHERE agent = '' AND \"window\" = 'total'"
        )
        or 0
    )


async def counters_total(budgets: Bookkeeping) -> int:
    """Return what the live counters say that acme has spent."""
    return (await budgets.inspect("acme", "total")).counters["total", "org"].spent_microcents


async def test_settled_calls_reach_the_ledger(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J1 J2: counters and ledger are equal, and the posted entries have left the stream."""
    for cost in (100, 200, 300):
        await budgets.settle(await held(budgets, cost))
    pump = JournalPump(redis, pool, "w1")
    await pump._ensure_group()

    assert await pump.step() == 3
    assert await ledger_total(pool) == await counters_total(budgets) == 600
    assert (await redis.xpending("bg:journal", "ledger"))["pending"] == 0


async def test_worker_that_died_before_its_ack_posts_nothing_twice(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J1: its entries are read again at the next start, and booked once."""
    await budgets.settle(await held(budgets, 100))
    dead = JournalPump(redis, pool, "w1")
    await dead._ensure_group()
    await post(pool, [(id, fields) for id, fields in await dead._read(">") if fields])

    reborn = JournalPump(redis, pool, "w1")
    assert await reborn._post(await reborn._read("0")) == 1
    assert await ledger_total(pool) == 100
    assert (await redis.xpending("bg:journal", "ledger"))["pending"] == 0


async def test_trim_keeps_what_is_not_posted(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J2: an entry that another worker has read and not acknowledged stays in the stream."""
    await budgets.settle(await held(budgets, 100))
    slow = JournalPump(redis, pool, "slow")
    await slow._ensure_group()
    [(journal_id, _)] = await slow._read(">")
    await budgets.settle(await held(budgets, 200))

    await JournalPump(redis, pool, "fast").step()

    assert journal_id in [id for id, _ in await redis.xrange("bg:journal")]


async def test_overdue_holds_are_ended(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J3: the overdue hold is charged, the open one stays, and litter leaves the index."""
    await held(budgets, 100, ttl_ms=1)
    await held(budgets, 200)
    await redis.zadd("bg:expiry", {"garbage": 1, "acme|UNKNOWN": 1})
    await redis.zadd("bg:expiry", dict.fromkeys(await redis.zrange("bg:expiry", 0, 2), 1))

    await sweep(redis, budgets)
    await sweep(redis, budgets)

    counters = (await budgets.inspect("acme", "total")).counters["total", "org"]
    assert (counters.spent_microcents, counters.held_microcents) == (100, 200)
    assert await redis.zcard("bg:expiry") == 1


async def test_repair_makes_the_counters_equal_the_ledger(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J4: a settle that Redis had forgotten is booked, and the counters follow, once."""
    settlement = await held(budgets, 100)
    await redis.hdel("bg:{acme}:holds", settlement.id)
    assert (await budgets.settle(settlement)).status == "JOURNALED"
    pump = JournalPump(redis, pool, "w1")
    await pump._ensure_group()
    await pump.step()

    assert await deliver(pool, budgets) == 1
    assert await deliver(pool, budgets) == 0
    assert await counters_total(budgets) == await ledger_total(pool) == 100


@pytest.mark.parametrize(
    ("window_id", "result", "state"), [("", "OK", "asked"), ("2020-01-01", "GONE", "gone")]
)
async def test_credit_is_delivered(
    pool: asyncpg.Pool, budgets: Bookkeeping, window_id: str, result: str, state: str
) -> None:
    """J4: a credit is applied once; one whose window has ended is marked as gone."""
    credit_id, window = str(ULID()), "day" if window_id else "total"
    await pool.execute("INSERT INTO org (org, timezone) VALUES ('acme', 'UTC')")
    await pool.execute(
        "INSERT INTO credit_entry (id, org, scope, window_kind, window_id, amount_microcents, "
        "cause, actor) VALUES ($1, 'acme', 'org', $2, $3, 500, 'test', 'me')",
        credit_id,
        window,
        window_id,
    )
    payload = {
        "id": credit_id,
        "org": "acme",
        "scope": "org",
        "window": window,
        "window_id": window_id,
        "amount_microcents": 500,
    }
    await pool.execute(
        "INSERT INTO outbox (kind, org, payload, source) VALUES ('credit', 'acme', $1, 's')",
        orjson.dumps(payload).decode(),
    )

    await deliver(pool, budgets)

    assert await pool.fetchval("SELECT result FROM outbox") == result
    assert await pool.fetchval("SELECT state FROM credit_entry") == state


async def test_malformed_outbox_row_is_dead_and_alone(
    pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """J4: a row that cannot be delivered ends with its reason; the next one is delivered."""
    await pool.execute(
        "INSERT INTO outbox (kind, org, payload, source) VALUES "
        "('repair', 'acme', '{}', 'bad'), "
        '(\'repair\', \'acme\', \'{"id": "R1", "org": "acme", "changes": []}\', \'good\')'
    )

    await deliver(pool, budgets)

    results = await pool.fetch("SELECT result, last_error FROM outbox ORDER BY id")
    assert [row["result"] for row in results] == ["dead", "OK"]
    assert "changes" in results[0]["last_error"] or "id" in results[0]["last_error"]
