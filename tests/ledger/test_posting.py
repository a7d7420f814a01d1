"""A batch of journal entries becomes ledger rows, exactly once.

P1 one base row per reservation, and the aggregates are the sum of the rows
P2 a settle that meets an expire is one late row, in whatever order and batches they come
P3 a replay, of any part and any number of times, changes nothing
P4 where the ledger and the counters differ, one repair is asked for
P5 what cannot be read is kept aside, and the rest is booked
"""

import asyncio
import itertools
import random
from collections.abc import Mapping

import asyncpg
import orjson
import pytest
from ulid import ULID

from gateway.ledger.posting import post
from tests.until import until

RESERVED_MS = 1_795_348_800_000
_NUMBERS = itertools.count(1)
Pair = tuple[str, Mapping[str, str]]


def new_id() -> str:
    """Return a reservation id of one fixed instant."""
    return str(ULID.from_timestamp(RESERVED_MS))


def entry(kind: str, reservation_id: str, amount: int, counted: int | None = None) -> Pair:
    """Return a journal entry; what it counted is its amount where nothing else is said."""
    return f"{RESERVED_MS}-{next(_NUMBERS)}", {
        "v": "1",
        "kind": kind,
        "id": reservation_id,
        "entry_id": f"K{next(_NUMBERS)}" if kind == "correct" else "",
        "org": "acme",
        "agent": "researcher",
        "amount": str(amount),
        "counted": str(amount if counted is None else counted),
        "reserved_ms": str(RESERVED_MS),
        "at_ms": str(RESERVED_MS + 1000),
        "windows": "day:2026-11-22,month:2026-11,total",
        "epoch": "1",
        "detail": '{"model":"m1","input_tokens":12,"output_tokens":34,"key_id":"k1"}',
    }


async def rows(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    """Return kind and amount of every row, oldest first."""
    found = await pool.fetch("SELECT kind, amount_microcents FROM usage_entry ORDER BY entry_seq")
    return [(row["kind"], row["amount_microcents"]) for row in found]


async def aggregates(pool: asyncpg.Pool) -> dict[tuple[str, str], int]:
    """Return what each agent ('' for the org) has spent per window."""
    found = await pool.fetch('SELECT agent, "window", spent_microcents FROM spend_window')
    return {(row["agent"], row["window"]): row["spent_microcents"] for row in found}


async def repairs(pool: asyncpg.Pool) -> list[list[list[object]]]:
    """Return the changes of every repair asked for."""
    found = await pool.fetch("SELECT payload FROM outbox WHERE kind = 'repair' ORDER BY id")
    return [orjson.loads(row["payload"])["changes"] for row in found]


async def test_settle_is_booked_with_its_usage(pool: asyncpg.Pool) -> None:
    """P1: one row with amount, windows, usage and key, and six aggregates of the same amount."""
    reservation_id = new_id()

    await post(pool, [entry("settle", reservation_id, 700)])

    row = await pool.fetchrow("SELECT * FROM usage_entry")
    assert row is not None
    assert (row["reservation_id"], row["day_id"], row["month_id"], row["hour_id"]) == (
        reservation_id,
        "2026-11-22",
        "2026-11",
        None,
    )
    assert (row["model"], row["input_tokens"], row["output_tokens"], row["key_id"]) == (
        "m1",
        12,
        34,
        "k1",
    )
    assert await aggregates(pool) == dict.fromkeys(
        itertools.product(("", "researcher"), ("day", "month", "total")), 700
    )
    assert await repairs(pool) == []


@pytest.mark.parametrize("split", [True, False])
async def test_settle_that_meets_an_expire_is_late(pool: asyncpg.Pool, split: bool) -> None:
    """P2: the reservation ends at its real cost: expire 500, late -200, in one batch or in two."""
    reservation_id = new_id()
    batch = [entry("expire", reservation_id, 500), entry("settle", reservation_id, 300, -200)]

    for part in [batch[:1], batch[1:]] if split else [batch]:
        await post(pool, part)

    assert await rows(pool) == [("expire", 500), ("late", -200)]
    assert (await aggregates(pool))["", "total"] == 300
    assert await repairs(pool) == []


async def test_expire_that_meets_a_settle_is_repaired(pool: asyncpg.Pool) -> None:
    """P4: an expire that counted money of a settled reservation books nothing and is taken back."""
    reservation_id = new_id()
    late_expire = entry("expire", reservation_id, 500)
    await post(pool, [entry("settle", reservation_id, 300)])

    await post(pool, [late_expire])
    await post(pool, [late_expire])

    assert await rows(pool) == [("settle", 300)]
    [changes] = await repairs(pool)
    assert ["day:2026-11-22", "org.spent", -500] in changes
    assert ["total", "agent.researcher.spent", -500] in changes
    assert len(changes) == 6


async def test_settle_that_counted_nothing_is_repaired(pool: asyncpg.Pool) -> None:
    """P4: a settle that Redis knew nothing of is booked, and the counters are raised, once."""
    forgotten = entry("settle", new_id(), 300, counted=0)

    await post(pool, [forgotten])
    await post(pool, [forgotten])

    assert await rows(pool) == [("settle", 300)]
    assert [changes[0] for changes in await repairs(pool)] == [["day:2026-11-22", "org.spent", 300]]


async def test_settle_repeated_after_its_tombstone_books_nothing(pool: asyncpg.Pool) -> None:
    """P4: the repeat counted nothing and books nothing, so nothing is repaired."""
    reservation_id = new_id()
    await post(pool, [entry("settle", reservation_id, 300)])

    await post(pool, [entry("settle", reservation_id, 300, counted=0)])

    assert await rows(pool) == [("settle", 300)]
    assert await repairs(pool) == []


async def test_corrections_are_booked_by_their_own_id(pool: asyncpg.Pool) -> None:
    """P1: two corrections of one reservation are two rows, and a replay of one is none."""
    reservation_id = new_id()
    batch = [
        entry("settle", reservation_id, 300),
        entry("correct", reservation_id, -100),
        entry("correct", reservation_id, 50),
    ]

    await post(pool, batch)
    await post(pool, batch[1:2])

    assert sorted(await rows(pool)) == [("correct", -100), ("correct", 50), ("settle", 300)]
    assert (await aggregates(pool))["researcher", "day"] == 250


@pytest.mark.parametrize("seed", range(5))
async def test_any_replay_of_any_history_sums_the_same(pool: asyncpg.Pool, seed: int) -> None:
    """P3: batches of any cut, repeated and posted by two pumps at once, end at the same sums."""
    chance = random.Random(seed)
    history = []
    for _ in range(60):
        reservation_id, amount = new_id(), chance.randrange(1000)
        history.append(entry("settle", reservation_id, amount))
        if chance.random() < 0.3:
            held = chance.randrange(1000)
            history[-1:] = [
                entry("expire", reservation_id, held),
                entry("settle", reservation_id, amount, amount - held),
            ]
        if chance.random() < 0.2:
            history.append(entry("correct", reservation_id, chance.randrange(-500, 500)))
    counted = sum(int(fields["counted"]) for _, fields in history)

    async def pump() -> None:
        at = 0
        while at < len(history):
            step = chance.randrange(1, 20)
            # A pump that died goes back to what it had not acknowledged.
            start = max(0, at - chance.randrange(10))
            await post(pool, history[start : at + step])
            at += step

    await asyncio.gather(pump(), pump())
    before = await rows(pool)
    await post(pool, history)

    assert await rows(pool) == before
    assert sum(amount for _, amount in before) == counted
    assert (await aggregates(pool))["", "total"] == counted
    assert await repairs(pool) == []


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("v", "2"),
        ("kind", "spend"),
        ("amount", "1.5"),
        ("amount", "-5"),
        ("counted", ""),
        ("org", "a b"),
        ("reserved_ms", "0"),
        ("windows", "year:2026"),
        ("windows", "day:2026-11-22,day:2026-11-22,total"),
        ("windows", "day:2026\x0011,total"),
        ("windows", "day:,total"),
        ("id", "\x00"),
        ("agent", ""),
        ("agent", "a\x00b"),
        ("entry_id", "K1"),
        ("epoch", "1\x00"),
    ],
)
async def test_unreadable_entry_is_kept_aside(pool: asyncpg.Pool, field: str, text: str) -> None:
    """P5: the entry is stored with its reason, once, and its neighbour is booked."""
    journal_id, fields = entry("settle", new_id(), 300)
    bad = (journal_id, {**fields, field: text})

    await post(pool, [bad, entry("settle", new_id(), 200)])
    await post(pool, [bad])

    assert await rows(pool) == [("settle", 200)]
    [dead] = await pool.fetch("SELECT reason FROM dead_entry")
    assert dead["reason"].startswith(field) or field == "kind"


async def test_text_that_only_looks_like_nul_is_kept_aside_whole(pool: asyncpg.Pool) -> None:
    """P5: jsonb has no NUL; a text that says backslash u0000 is no NUL and stays as it was."""
    journal_id, fields = entry("settle", new_id(), 300)

    await post(pool, [(journal_id, {**fields, "v": "2", "detail": "a\\u0000b\x00c"})])

    kept = orjson.loads(await pool.fetchval("SELECT fields FROM dead_entry"))
    assert kept["detail"] == "a\\u0000bc"


async def test_row_that_postgres_refuses_is_kept_aside_alone(pool: asyncpg.Pool) -> None:
    """P5: a sum beyond what the column holds stops one entry, not the other 99 of its batch."""
    await pool.execute(
        "INSERT INTO spend_window VALUES ('full', '', 'total', '', 9223372036854775807)"
    )
    batch = [entry("settle", new_id(), 1) for _ in range(100)]
    journal_id, fields = batch[37]
    batch[37] = (journal_id, {**fields, "org": "full"})

    kept_aside = await post(pool, batch)
    await post(pool, batch)

    assert kept_aside == 1
    assert len(await rows(pool)) == 99
    assert (await aggregates(pool))["researcher", "total"] == 99
    [dead] = await pool.fetch("SELECT source, fields, reason FROM dead_entry")
    assert dead["source"] == f"1/{journal_id}"
    assert orjson.loads(dead["fields"])["amount_microcents"] == 1
    assert "out of range" in dead["reason"]


async def test_unreadable_detail_loses_only_itself(pool: asyncpg.Pool) -> None:
    """P5: the money is booked although nobody can say which model it was for."""
    settles = [entry("settle", new_id(), 300) for _ in range(3)]
    details = ["{", "[1]", '{"model":"m\\u0000x","input_tokens":-1,"status":"200"}']

    await post(
        pool,
        [(id, {**f, "detail": text}) for (id, f), text in zip(settles, details, strict=True)],
    )

    found = await pool.fetch("SELECT model, input_tokens, status FROM usage_entry ORDER BY model")
    assert [tuple(row) for row in found] == [("mx", None, None), (None,) * 3, (None,) * 3]


async def test_credit_entry_confirms_its_credit(pool: asyncpg.Pool) -> None:
    """P1: a credit changes no spend; its entry says that Redis has applied it."""
    await pool.execute("INSERT INTO org (org, timezone) VALUES ('acme', 'UTC')")
    credit_id = new_id()
    await pool.execute(
        "INSERT INTO credit_entry (id, org, scope, window_kind, window_id, amount_microcents, "
        "cause, actor) VALUES ($1, 'acme', 'org', 'total', '', 500, 'test', 'me')",
        credit_id,
    )
    journal_id, fields = entry("credit", credit_id, 500)

    await post(pool, [(journal_id, {**fields, "entry_id": credit_id, "agent": ""})])

    assert await pool.fetchval("SELECT state FROM credit_entry") == "applied"
    assert await rows(pool) == []


async def test_alert_entry_becomes_one_alert(pool: asyncpg.Pool) -> None:
    """P3: what a script noticed is one row, however often it is posted."""
    journal_id, fields = entry("alert", new_id(), 0)
    alert = (journal_id, {**fields, "detail": '{"alert":"denied","budget":"org.day"}'})

    await post(pool, [alert])
    await post(pool, [alert])

    [row] = await pool.fetch("SELECT org, kind, detail FROM alert")
    assert (row["org"], row["kind"]) == ("acme", "denied")
    assert orjson.loads(row["detail"])["budget"] == "org.day"


async def test_second_late_settle_is_taken_back(pool: asyncpg.Pool) -> None:
    """P2 P4: of two settles that meet one expire the first is late, the other is repaired."""
    reservation_id = new_id()
    batch = [
        entry("expire", reservation_id, 500),
        entry("settle", reservation_id, 300, -200),
        entry("settle", reservation_id, 400, -100),
    ]

    await post(pool, batch)
    await post(pool, batch)

    assert await rows(pool) == [("expire", 500), ("late", -200)]
    assert [changes[0][2] for changes in await repairs(pool)] == [100]


async def test_ledger_is_append_only(pool: asyncpg.Pool) -> None:
    """P1: no row is changed, deleted or truncated, in the ledger or in a partition of it."""
    await post(pool, [entry("settle", new_id(), 300)])

    for table in ("usage_entry", "usage_entry_2026_11"):
        for statement in ("UPDATE {} SET amount_microcents = 0", "DELETE FROM {}", "TRUNCATE {}"):
            with pytest.raises(asyncpg.RaiseError, match="append-only"):
                await pool.execute(statement.format(table))


async def test_deadlock_is_posted_again(pool: asyncpg.Pool) -> None:
    """P3: a batch that Postgres ends because of a deadlock is booked in another attempt."""
    await post(pool, [entry("settle", new_id(), 0)])
    row = "SELECT 1 FROM spend_window WHERE agent = $1 AND \"window\" = 'total' FOR UPDATE"
    async with pool.acquire() as other, other.transaction():
        # The pump locks the org's row before the agent's; this does it the other way round.
        await other.execute("SET LOCAL deadlock_timeout = '10min'")
        await other.execute(row, "researcher")
        posting = asyncio.create_task(post(pool, [entry("settle", new_id(), 300)]))

        async def is_waiting() -> bool:
            return bool(
                await pool.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE cardinality("
                    "pg_blocking_pids(pid)) > 0"
                )
            )

        await until(is_waiting, "the pump to wait for the agent's row")
        await other.execute(row, "")
    await posting

    assert (await aggregates(pool))["researcher", "total"] == 300

    async def is_counted() -> bool:
        seen = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return bool(await pool.fetchval(seen))

    await until(is_counted, "Postgres to count the deadlock")


async def test_two_pumps_meet_a_month_that_has_no_partition(pool: asyncpg.Pool) -> None:
    """P1: both make it, one waits, and both batches are booked; four months in a row."""
    for month in range(4):
        reserved_ms = str(1_900_000_000_000 + month * 40 * 86_400_000)
        batches = [
            [(journal_id, {**fields, "reserved_ms": reserved_ms})]
            for journal_id, fields in (entry("settle", new_id(), 1) for _ in range(6))
        ]
        await asyncio.gather(*(post(pool, batch) for batch in batches))

    assert len(await rows(pool)) == 24


async def test_entry_of_another_month_finds_its_partition(pool: asyncpg.Pool) -> None:
    """P1: an entry of a month that no partition holds yet is booked all the same."""
    journal_id, fields = entry("settle", new_id(), 300)

    await post(pool, [(journal_id, {**fields, "reserved_ms": "1900000000000"})])

    assert await rows(pool) == [("settle", 300)]


async def test_detail_that_nests_deeply_is_kept_aside(pool: asyncpg.Pool) -> None:
    """P5: what can be read but not written again stops neither the pump nor its neighbour."""
    journal_id, fields = entry("alert", new_id(), 0)
    deep = '{"alert":"warned","x":' + "[" * 300 + "]" * 300 + "}"

    await post(pool, [(journal_id, {**fields, "detail": deep}), entry("settle", new_id(), 200)])

    assert await rows(pool) == [("settle", 200)]
    assert await pool.fetchval("SELECT count(*) FROM alert") == 1
