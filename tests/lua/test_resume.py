"""resume.lua: what was held before the server forgot it is held again, whatever there is room for.

U1 a forgotten hold is there again, as it was, and its settle ends it like any other
U2 no budget, limit, freeze or key is asked: the call runs
U3 one that is still held, or has ended, stays as it is
U4 an org that the server does not know is COLD: nothing is written
U5 counters that it brings back leave in time, as they would have
U6 the idempotency key is taken again, unless another call has it by now
U7 a malformed argument is named, and nothing changes
"""

from typing import Any

import pytest

from tests.lua.calls import TOTAL, call, changed, hold
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
