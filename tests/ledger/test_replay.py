"""The ledger depends on what was journaled, not on how it was delivered.

R1 any cut into batches, any repetition and any number of pumps end at the same sums
R2 an order that Redis can write ends where the counters are, without a repair
R3 in any other order the repairs asked for make up the difference, to the microcent
R4 a replay of a large journal changes nothing
"""

import asyncio
import itertools

import asyncpg
import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.ledger.posting import post
from tests.ledger.test_posting import Pair, aggregates, entry, new_id, rows

_AMOUNT = st.integers(0, 1_000)
# How one reservation can end, as (kind, amount, counted): the scripts write no other order.
_ENDS = st.one_of(
    _AMOUNT.map(lambda cost: [("settle", cost, cost)]),
    _AMOUNT.map(lambda quote: [("expire", quote, quote)]),
    st.tuples(_AMOUNT, _AMOUNT).map(
        lambda pair: [("expire", pair[0], pair[0]), ("settle", pair[1], pair[1] - pair[0])]
    ),
    # A gateway that repeats a settle after its tombstone is gone.
    _AMOUNT.map(lambda cost: [("settle", cost, cost), ("settle", cost, 0)]),
    st.tuples(_AMOUNT, st.integers(-500, 500)).map(
        lambda pair: [("settle", pair[0], pair[0]), ("correct", pair[1], pair[1])]
    ),
)

# What Redis writes after it has lost a second of its append-only file: a settle it knows nothing
# of, or an expire of a hold that had been settled.
_FORGETFUL_ENDS = st.one_of(
    _ENDS,
    _AMOUNT.map(lambda cost: [("settle", cost, 0)]),
    st.tuples(_AMOUNT, _AMOUNT).map(
        lambda pair: [("settle", pair[0], pair[0]), ("expire", pair[1], pair[1])]
    ),
)


def history(ends: list[list[tuple[str, int, int]]]) -> list[list[Pair]]:
    """Return the entries of each reservation, in the order they were written."""
    lives = []
    for end in ends:
        reservation_id = new_id()
        lives.append([entry(kind, reservation_id, *amounts) for kind, *amounts in end])
    return lives


async def clear(pool: asyncpg.Pool) -> None:
    """Begin with an empty ledger; only a test may, by taking the guard away."""
    await pool.execute(
        "ALTER TABLE usage_entry DISABLE TRIGGER USER; DELETE FROM usage_entry; "
        "ALTER TABLE usage_entry ENABLE TRIGGER USER; DELETE FROM spend_window; DELETE FROM outbox"
    )


async def repaired(pool: asyncpg.Pool) -> int:
    """Return the sum of all repairs that were asked for, on one counter."""
    found = await pool.fetch("SELECT payload FROM outbox")
    return sum(
        amount
        for row in found
        for window, field, amount in orjson.loads(row["payload"])["changes"]
        if (window, field) == ("total", "org.spent")
    )


async def sums(pool: asyncpg.Pool) -> dict[tuple[str, str], int]:
    """Return the aggregates, after a look that they are the sums of the rows."""
    found = await aggregates(pool)
    booked = await pool.fetchval("SELECT coalesce(sum(amount_microcents), 0) FROM usage_entry")
    assert set(found.values()) <= {booked}
    assert len(found) in (0, 6)
    return found


_SETTINGS = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@_SETTINGS
@given(ends=st.lists(_ENDS, min_size=1, max_size=8), data=st.data())
async def test_delivery_does_not_change_the_ledger(
    pool: asyncpg.Pool, ends: list[list[tuple[str, int, int]]], data: st.DataObject
) -> None:
    """R1 R2: entries cut and repeated at will end as those that were posted one by one."""
    await clear(pool)
    entries = list(itertools.chain(*history(ends)))
    counted = sum(int(fields["counted"]) for _, fields in entries)
    at = 0
    while at < len(entries):
        size = data.draw(st.integers(1, 5))
        begin = max(0, at - data.draw(st.integers(0, 6)))
        await post(pool, entries[begin : at + size])
        at += size
    once = await rows(pool)

    await asyncio.gather(post(pool, entries), post(pool, entries))

    assert await rows(pool) == once
    assert set((await sums(pool)).values()) <= {counted}
    assert await repaired(pool) == 0


@_SETTINGS
@given(ends=st.lists(_FORGETFUL_ENDS, min_size=1, max_size=6), data=st.data())
async def test_order_is_made_up_by_repairs(
    pool: asyncpg.Pool, ends: list[list[tuple[str, int, int]]], data: st.DataObject
) -> None:
    """R3: whatever Redis forgot and whichever pump was first, counters and repairs sum up to it."""
    await clear(pool)
    entries = list(itertools.chain(*history(ends)))
    counted = sum(int(fields["counted"]) for _, fields in entries)
    shuffled = data.draw(st.permutations(entries))
    repeats = data.draw(st.lists(st.sampled_from(entries), max_size=6))

    for delivered in [*shuffled, *repeats]:
        await post(pool, [delivered])

    booked = (await sums(pool)).get(("", "total"), 0)
    assert counted + await repaired(pool) == booked


async def test_large_replay_changes_nothing(pool: asyncpg.Pool) -> None:
    """R4: 40,000 entries are booked once, and a second delivery of all of them books none."""
    journal = [entry("settle", new_id(), amount) for amount in range(40_000)]
    batches = [journal[at : at + 500] for at in range(0, len(journal), 500)]
    for batch in batches:
        await post(pool, batch)
    last = await pool.fetchval("SELECT max(entry_seq) FROM usage_entry")

    for batch in batches:
        await post(pool, batch)

    assert await pool.fetchval("SELECT count(*) FROM usage_entry") == 40_000
    assert await pool.fetchval("SELECT max(entry_seq) FROM usage_entry") == last
    assert (await aggregates(pool))["", "total"] == sum(range(40_000))
    assert await repaired(pool) == 0
