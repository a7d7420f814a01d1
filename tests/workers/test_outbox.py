"""What Postgres has decided reaches Redis.

O1 each row is applied once, and a repair makes the counters equal the ledger
O2 what Redis cannot take yet is tried again, and nothing else waits for it
O3 what it can never take is given up, kept, and an alert
O4 a row belongs to one worker; one that was too slow changes nothing
"""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest
from prometheus_client import CollectorRegistry
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.ledger import outbox
from gateway.ledger.posting import post
from tests.ledger.test_posting import entry
from tests.until import until
from tests.workers.calls import held, ledger_total, spent_and_held
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import OutboxMetrics, deliver


@pytest.fixture
def metrics(registry: CollectorRegistry) -> OutboxMetrics:
    """Return the counts of the outbox."""
    return OutboxMetrics(registry)


async def ask(pool: asyncpg.Pool, kind: str, payload: dict[str, Any], source: str = "s") -> None:
    """Put a row into the outbox."""
    await pool.execute(
        "INSERT INTO outbox (kind, org, payload, source) VALUES ($1, 'acme', $2, $3)",
        kind,
        orjson.dumps(payload).decode(),
        source,
    )


async def ask_credit(
    pool: asyncpg.Pool, window: str = "total", window_id: str = "", org: str = "acme"
) -> str:
    """Ask for a credit of 500 as the registry does, and return its id."""
    credit_id = str(ULID())
    await pool.execute("INSERT INTO org (org, timezone) VALUES ($1, 'UTC')", org)
    await pool.execute(
        "INSERT INTO credit_entry (id, org, scope, window_kind, window_id, amount_microcents, "
        "cause, actor) VALUES ($1, $2, 'org', $3, $4, 500, 'test', 'me')",
        credit_id,
        org,
        window,
        window_id,
    )
    fields = {"window": window, "window_id": window_id, "amount_microcents": 500}
    await ask(pool, "credit", {"id": credit_id, "org": org, "scope": "org", **fields})
    return credit_id


async def is_due(pool: asyncpg.Pool) -> None:
    """Let the time pass for which rows were put off or leased."""
    await pool.execute("UPDATE outbox SET due_at = now(), lease_until = NULL")


async def state(pool: asyncpg.Pool) -> tuple[str | None, str]:
    """Return the result of the only row, and the state of the only credit."""
    row = await pool.fetchrow("SELECT o.result, c.state FROM outbox o, credit_entry c")
    assert row is not None
    return row["result"], row["state"]


async def test_repair_makes_the_counters_equal_the_ledger(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O1: a settle that Redis had forgotten is booked, and the counters follow, once."""
    settlement = await held(budgets, 100)
    await redis.hdel("bg:{acme}:holds", settlement.id)
    assert (await budgets.settle(settlement)).status == "JOURNALED"
    pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    await pump.step()

    assert await deliver(pool, budgets, metrics) == 1
    assert await deliver(pool, budgets, metrics) == 0
    assert (await spent_and_held(budgets))[0] == await ledger_total(pool) == 100


async def test_credit_is_applied_and_then_confirmed_by_the_journal(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O1: the budget is raised once, however often it is told, and the ledger learns of it."""
    await ask_credit(pool)
    await deliver(pool, budgets, metrics)
    asked = await state(pool)
    await pool.execute("UPDATE outbox SET done_at = NULL, due_at = now()")
    await deliver(pool, budgets, metrics)
    pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    await pump.step()

    counters = (await budgets.inspect("acme", "total")).counters["total", "org"]
    assert counters.credit_microcents == 500
    assert (asked, await state(pool)) == (("OK", "asked"), ("DONE", "applied"))


async def test_correction_changes_counters_and_ledger_alike(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O1: a correction goes to Redis, from there to the journal, and is booked with its detail."""
    settlement = await held(budgets, 300)
    await budgets.settle(settlement)
    fields = {"reservation_id": settlement.id, "windows": settlement.windows, "agent": "researcher"}
    payload = {"id": str(ULID()), "org": "acme", "amount_microcents": -100, **fields}
    await ask(pool, "correct", {**payload, "detail": {"source": "refund"}})

    await deliver(pool, budgets, metrics)
    pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    await pump.step()

    assert (await spent_and_held(budgets))[0] == await ledger_total(pool) == 200
    row = await pool.fetchrow("SELECT entry_id, source FROM usage_entry WHERE kind = 'correct'")
    assert row is not None
    assert tuple(row) == (payload["id"], "refund")


async def test_credit_of_a_window_that_has_ended_is_gone(
    pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O1: it is done, and the credit says that it was never applied."""
    await ask_credit(pool, "day", "2020-01-01")

    await deliver(pool, budgets, metrics)

    assert await state(pool) == ("GONE", "gone")


async def test_credit_of_an_org_that_redis_does_not_know_waits(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O2: it is not lost: once the org is there it is applied."""
    await ask_credit(pool, org="late")
    await deliver(pool, budgets, metrics)
    before = await state(pool)
    await redis.hset("bg:{late}:meta", "schema", "1")
    await is_due(pool)

    await deliver(pool, budgets, metrics)

    assert (before, await state(pool)) == ((None, "asked"), ("OK", "asked"))


async def test_row_that_redis_refuses_is_put_off_and_alone(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O2: it waits a little longer with each try; the row behind it is delivered."""
    await redis.delete("bg:{evil}:meta")
    await redis.set("bg:{evil}:meta", "no hash")
    await ask_credit(pool, org="evil")
    await ask(pool, "repair", {"id": "R2", "org": "acme", "changes": []}, "good")

    waits = []
    for _ in range(3):
        await deliver(pool, budgets, metrics)
        waits.append(
            await pool.fetchval(
                "SELECT round(extract(epoch FROM due_at - now())) FROM outbox WHERE kind = 'credit'"
            )
        )
        await is_due(pool)

    rows = await pool.fetch("SELECT result, last_error FROM outbox ORDER BY id")
    assert [row["result"] for row in rows] == [None, "OK"]
    assert "WRONGTYPE" in rows[0]["last_error"]
    assert waits == [2, 4, 8]


async def test_row_is_given_up_72_hours_after_its_first_try(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O3: then, not before; it is kept with its payload, is an alert, and is not tried again."""
    await ask_credit(pool, org="late")
    await deliver(pool, budgets, metrics)
    await pool.execute("UPDATE outbox SET first_tried_at = now() - interval '72 hours 1 minute'")
    await is_due(pool)

    await deliver(pool, budgets, metrics)
    await is_due(pool)

    assert await deliver(pool, budgets, metrics) == 0
    assert (await state(pool))[0] == "dead"
    dead = await pool.fetchrow("SELECT source, fields, reason FROM dead_entry")
    alert = await pool.fetchrow("SELECT org, kind, source FROM alert")
    assert dead is not None
    assert alert is not None
    assert orjson.loads(dead["fields"])["amount_microcents"] == 500
    assert "72 hours" in dead["reason"]
    assert tuple(alert) == ("acme", "outbox_dead", dead["source"])


async def test_row_that_nobody_could_try_is_never_too_old(
    pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O2: a credit asked for while every worker was down for a week is applied."""
    await ask_credit(pool)
    await pool.execute(
        "UPDATE outbox SET created_at = now() - interval '8 days', due_at = created_at"
    )

    await deliver(pool, budgets, metrics)

    assert (await state(pool))[0] == "OK"


async def test_malformed_row_is_dead_and_alone(
    pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O3: a payload that cannot be read ends at once; the row behind it is delivered."""
    await ask(pool, "repair", {}, "bad1")
    await ask(pool, "credit", {"id": "C1", "surprise": 1}, "bad2")
    await ask(pool, "repair", {"id": "R1", "org": "acme", "changes": []}, "good")

    await deliver(pool, budgets, metrics)

    rows = await pool.fetch("SELECT result FROM outbox ORDER BY id")
    assert [row["result"] for row in rows] == ["dead", "dead", "OK"]
    assert await pool.fetchval("SELECT count(*) FROM dead_entry") == 2


async def test_row_is_taken_by_one_worker(pool: asyncpg.Pool) -> None:
    """O4: workers that ask at once share the rows, and a leased row is not due."""
    for number in range(20):
        await ask(pool, "repair", {"id": f"R{number}", "org": "acme", "changes": []}, f"s{number}")

    taken = await asyncio.gather(*(outbox.lease(pool, 10) for _ in range(4)))

    ids = [due.id for rows in taken for due in rows]
    assert sorted(ids) == sorted(set(ids))
    assert len(ids) + len(await outbox.lease(pool, 100)) == 20
    assert await outbox.lease(pool, 100) == []


async def test_row_that_another_worker_is_taking_is_not_waited_for(pool: asyncpg.Pool) -> None:
    """O4: a worker that hangs in the middle of taking rows keeps only those from the others."""
    for number in range(3):
        await ask(pool, "repair", {"id": f"R{number}", "org": "acme", "changes": []}, f"s{number}")
    async with pool.acquire() as hanging, hanging.transaction():
        first = await hanging.fetchval("SELECT id FROM outbox ORDER BY id LIMIT 1 FOR UPDATE")

        taken = await asyncio.wait_for(outbox.lease(pool, 100), 5)

    assert len(taken) == 2
    assert first not in [due.id for due in taken]


async def test_worker_whose_lease_ran_out_changes_nothing(pool: asyncpg.Pool) -> None:
    """O4: after another worker has taken the row, neither end of the slow one counts."""
    await ask(pool, "repair", {"id": "R1", "org": "acme", "changes": []})
    [slow] = await outbox.lease(pool, 1)
    await is_due(pool)
    [quick] = await outbox.lease(pool, 1)

    await outbox.finish(pool, [(slow, "OK")])
    await outbox.put_off(pool, slow, "late")
    await outbox.bury(pool, slow, "late")
    between = await pool.fetchrow("SELECT done_at, last_error FROM outbox")
    await outbox.finish(pool, [(quick, "OK")])

    assert between is not None
    assert tuple(between) == (None, None)
    assert await pool.fetchval("SELECT count(*) FROM dead_entry") == 0
    assert await pool.fetchval("SELECT result FROM outbox") == "OK"


async def test_nothing_is_taken_while_the_store_is_not_ready(
    redis: Any, pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics
) -> None:
    """O2: without the node marker rows are not even tried, so their time does not run."""
    await post(pool, [entry("settle", str(ULID()), 300, counted=0)])
    await redis.delete("bg:node")
    await until(lambda: budgets.wire.node is None, "the marker to be missed")

    assert await deliver(pool, budgets, metrics) == 0
    assert await pool.fetchval("SELECT first_tried_at FROM outbox") is None
