"""resume.lua: what was held before the server forgot it is held again, whatever there is room for.

U1 a forgotten hold is there again, as it was, and its settle ends it like any other
U2 no budget, limit, freeze or key is asked: the call runs
U3 one that is still held, or has ended, stays as it is
U4 an org that the server does not know is COLD: nothing is written
U5 counters that it brings back leave in time, as they would have
U6 the idempotency key is taken again, unless another call has it by now
U7 a malformed argument is named, and nothing changes
U8 a hold that an older file has is raised to the amount and the time that are told
U9 nothing is lowered, and where nothing is raised nothing is written
U10 the windows of the record count: told others, the hold stays as it is
U11 the agent of the record counts, and counters that left by their TTL are not brought back
"""

from typing import Any

import pytest
from msgspec import structs

from tests.lua.calls import TOTAL, call, changed, counters, hold
from tests.lua.store import Store, cents

KEYS = ("holds", "rate", "spend:total")


async def forget(store: Store) -> None:
    """Take away what a hold has left."""
    await store.client.delete(*(f"bg:{{acme}}:{name}" for name in KEYS), "bg:expiry")


async def test_forgotten_hold_is_there_again(store: Store) -> None:
    """U1: record, counters and open count are those of before, and the settle finds them."""
    own_id = await hold(store)
    before = await store.contents()
    await forget(store)

    said = await call(store, "resume", own_id)

    after = await store.contents()
    assert said[0] == b"RESUMED"
    assert changed(before, after) == {"meta seq"}
    settled = await call(store, "settle", own_id)
    assert settled[0] == b"SETTLED"
    assert await store.spend() == {"org.spent": 4, "agent.researcher.spent": 4}


@pytest.mark.parametrize(
    "limits",
    [
        {"status": "active", "org.total.limit_cents": "0"},
        {"status": "frozen", "org.total.limit_cents": "1"},
        {},
    ],
)
async def test_no_budget_is_asked(store: Store, limits: dict[str, str]) -> None:
    """U2: under a lowered limit, a freeze or no limits at all, and with a key that is gone."""
    own_id = await hold(store)
    await forget(store)
    await store.client.delete("bg:{acme}:limits", "bg:{acme}:keys")
    if limits:
        await store.client.hset("bg:{acme}:limits", mapping=limits)

    said = await call(store, "resume", own_id)

    assert said[0] == b"RESUMED"
    assert await store.client.hget("bg:{acme}:spend:total", "org.held") == b"5"


async def test_hold_that_is_known_stays_as_it_is(store: Store) -> None:
    """U3: nothing is held twice."""
    own_id = await hold(store)
    before = await store.contents()

    said = await call(store, "resume", own_id)

    assert said[0] == b"HELD"
    assert changed(before, await store.contents()) == set()


async def test_hold_that_has_ended_stays_ended(store: Store) -> None:
    """U3: its end came first."""
    own_id = await hold(store)
    await call(store, "settle", own_id)
    before = await store.contents()

    said = await call(store, "resume", own_id)

    assert said[:2] == [b"DONE", b"settled"]
    assert changed(before, await store.contents()) == set()


async def test_unknown_org_is_cold(store: Store) -> None:
    """U4: what is written there would hide that it was lost."""
    await store.client.flushall()

    said = await call(store, "resume", store.id())

    assert said[0] == b"COLD"
    assert await store.client.keys("*") == []


@pytest.mark.parametrize(("forgets", "days"), [(False, 2.5), (True, 40)])
async def test_counters_that_come_back_leave_in_time(
    store: Store, forgets: bool, days: float
) -> None:
    """U5: two days after the end of a day, or later than that where its end was forgotten too."""
    ask, held = await store.held(cents(5))
    await store.client.delete("bg:{acme}:holds", "bg:{acme}:spend:day:2037-11-22")
    if forgets:
        await store.client.hdel("bg:{acme}:meta", "day.id")

    await store.budgets.begin_resume(ask, held.windows, "k1")

    seconds, _ = await store.client.time()
    leaves_ms = seconds * 1000 + await store.client.pttl("bg:{acme}:spend:day:2037-11-22")
    assert round((leaves_ms - store.now_ms) / 60_000) == days * 24 * 60


@pytest.mark.parametrize(("other", "kept"), [("", "own"), ("R2|b1|held|0", "other")])
async def test_idempotency_key_is_taken_again(store: Store, other: str, kept: str) -> None:
    """U6: a repeat of the caller meets its first call."""
    await store.limits(TOTAL)
    own_id, key = store.id(), "bg:{acme}:idem:-"
    if other:
        await store.client.set(key, other)

    await call(store, "resume", own_id, idem_digest="i1")

    expected = {"own": f"{own_id}|b1|held|0", "other": other}[kept]
    assert await store.client.get(key) == expected.encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("org", "a me"),
        ("agent", ""),
        ("amount_microcents", "007"),
        ("ttl_ms", "1" * 16),
        ("key_id", "k|1"),
        ("owner", ""),
        ("body_digest", "b|"),
        ("idem_digest", "i|"),
        ("windows", ""),
    ],
)
async def test_malformed_argument_is_named(store: Store, name: str, value: str) -> None:
    """U7: and nothing is written."""
    await store.limits(TOTAL)
    before: dict[str, Any] = await store.contents()

    said = await call(store, "resume", store.id(), **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert changed(before, await store.contents()) == set()


async def test_hold_of_before_its_extension_is_raised(store: Store) -> None:
    """U8: counters, record and index are those of after it, and its settle leaves nothing held."""
    own_id = await hold(store)
    older = await store.contents()

    said = await call(store, "resume", own_id, amount_microcents="8", ttl_ms="90000")

    after = await store.contents()
    raised = {f"holds {own_id}", f"expiry acme|{own_id}", "meta seq", *counters("held")}
    assert said == [b"HELD", str(store.now_ms + 90_000).encode(), 2, store.now_ms]
    assert changed(older, after) == raised
    assert await store.spend() == {"org.held": 8, "agent.researcher.held": 8}
    assert after["bg:expiry acme|" + own_id] == store.now_ms + 90_000
    assert (await call(store, "settle", own_id))[0] == b"SETTLED"
    assert await store.spend() == {"org.spent": 4, "agent.researcher.spent": 4}


async def test_hold_that_is_raised_is_as_after_its_extension(store: Store) -> None:
    """U8: a store that lost the extension and one that has it hold the same, in every window."""
    ask, held = await store.held(cents(5))
    older = {key: await store.client.dump(key) for key in await store.client.keys("bg:*")}
    larger = structs.replace(ask, amount_microcents=cents(8), ttl_ms=90_000)
    await store.budgets.extend(larger, held.windows)
    extended = await store.contents()
    for key, value in older.items():
        await store.client.delete(key)
        await store.client.restore(key, 0, value)

    await store.budgets.begin_resume(larger, held.windows, "k1")

    assert changed(extended, await store.contents()) == set()


@pytest.mark.parametrize(
    ("amount", "ttl_ms", "expected"),
    [("8", "1000", (8, 60_000)), ("3", "90000", (5, 90_000)), ("5", "60001", (5, 60_001))],
)
async def test_amount_and_time_are_raised_by_themselves(
    store: Store, amount: str, ttl_ms: str, expected: tuple[int, int]
) -> None:
    """U9: more of one and less of the other; what is less changes nothing."""
    own_id = await hold(store)

    said = await call(store, "resume", own_id, amount_microcents=amount, ttl_ms=ttl_ms)

    held, life_ms = expected
    record = await store.client.hget("bg:{acme}:holds", own_id)
    assert said[:2] == [b"HELD", str(store.now_ms + life_ms).encode()]
    assert record.split(b"|")[1] == str(held).encode()
    assert record.split(b"|")[6] == said[1]
    assert await store.spend() == {"org.held": held, "agent.researcher.held": held}
    assert await store.client.zscore("bg:expiry", f"acme|{own_id}") == store.now_ms + life_ms


@pytest.mark.parametrize(("amount", "ttl_ms"), [("5", "60000"), ("4", "59999"), ("0", "0")])
async def test_nothing_is_written_where_nothing_is_raised(
    store: Store, amount: str, ttl_ms: str
) -> None:
    """U9: not even the sequence; the answer is the deadline that holds."""
    own_id = await hold(store)
    before = await store.contents()

    said = await call(store, "resume", own_id, amount_microcents=amount, ttl_ms=ttl_ms)

    assert said == [b"HELD", str(store.now_ms + 60_000).encode(), 1, store.now_ms]
    assert changed(before, await store.contents()) == set()


async def test_repeated_raise_changes_nothing(store: Store) -> None:
    """U9: the amount is absolute."""
    own_id = await hold(store)
    await call(store, "resume", own_id, amount_microcents="8")
    before = await store.contents()

    again = await call(store, "resume", own_id, amount_microcents="8")

    assert again[0] == b"HELD"
    assert changed(before, await store.contents()) == set()


async def test_hold_of_other_windows_stays_as_it_is(store: Store) -> None:
    """U10: the keys that were told are not where it is held."""
    ask, _ = await store.held(cents(5))
    before = await store.contents()

    said = await call(store, "resume", ask.id, amount_microcents="8000000", ttl_ms="90000")

    assert said[:2] == [b"HELD", str(store.now_ms + 60_000).encode()]
    assert changed(before, await store.contents()) == set()


async def test_raise_counts_for_the_agent_that_reserved(store: Store) -> None:
    """U11: whoever tells it."""
    own_id = await hold(store)

    await call(store, "resume", own_id, amount_microcents="8", agent="writer")

    assert await store.spend() == {"org.held": 8, "agent.researcher.held": 8}


async def test_raise_brings_no_counters_back(store: Store) -> None:
    """U11: those that left by their TTL would stay for good; the others are raised."""
    ask, held = await store.held(cents(5))
    await store.client.delete("bg:{acme}:spend:day:2037-11-22")
    larger = structs.replace(ask, amount_microcents=cents(8))

    await store.budgets.begin_resume(larger, held.windows, "k1")

    assert await store.client.exists("bg:{acme}:spend:day:2037-11-22") == 0
    assert (await store.spend())["org.held"] == cents(8)
