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

from gateway.ledger.migrations import migrate
from gateway.ledger.posting import post

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
    assert ["day:2026-11-22", "org", -500] in changes
    assert ["total", "agent.researcher", -500] in changes
    assert len(changes) == 6


async def test_settle_that_counted_nothing_is_repaired(pool: asyncpg.Pool) -> None:
    """P4: a settle that Redis knew nothing of is booked, and the counters are raised, once."""
    forgotten = entry("settle", new_id(), 300, counted=0)

    await post(pool, [forgotten])
    await post(pool, [forgotten])

    assert await rows(pool) == [("settle", 300)]
    assert [changes[0] for changes in await repairs(pool)] == [["day:2026-11-22", "org", 300]]


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
        ("id", "\x00"),
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


async def test_ledger_is_append_only(pool: asyncpg.Pool) -> None:
    """P1: no row is changed, deleted or truncated."""
    await post(pool, [entry("settle", new_id(), 300)])

    for statement in (
        "UPDATE usage_entry SET amount_microcents = 0",
        "DELETE FROM usage_entry",
        "TRUNCATE usage_entry",
    ):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await pool.execute(statement)


async def test_entry_of_another_month_finds_its_partition(pool: asyncpg.Pool) -> None:
    """P1: an entry of a month that no partition holds yet is booked all the same."""
    journal_id, fields = entry("settle", new_id(), 300)

    await post(pool, [(journal_id, {**fields, "reserved_ms": "1900000000000"})])

    assert await rows(pool) == [("settle", 300)]


async def test_migrations_apply_once_from_two_places(database_url: str) -> None:
    """Two deployments that migrate at once apply each migration once."""
    connections = [await asyncpg.connect(database_url) for _ in range(2)]
    try:
        await connections[0].execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        applied = await asyncio.gather(*map(migrate, connections))
    finally:
        for connection in connections:
            await connection.close()

    assert sorted(len(names) for names in applied) == [0, 1]
