"""room.lua: beside a memory of the limits a hold is told, counted and refused as without.

O1 what would pass the cap is denied, and a full budget is denied or busy
O2 the first call past warn_at is told and journaled, in any size of limit
O3 of budgets with as much left, the first of the chain is told
O4 a window whose key was lost gets its TTL again
O5 hold_ttl_ms counts, and the ttl of a call before it
"""

import pytest

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.reservation import Denied, Held
from tests.lua.store import Store, cents
from tests.lua.test_memory import ALL, META, MONTH, remembered

ACTIVE = {"status": "active"}
NONE = {**ACTIVE, "org.month.limit_cents": "none"}


async def test_cap_is_kept(store: Store) -> None:
    """O1: without any limit, what would pass 2^53-1 microcents is DENIED."""
    await remembered(store, NONE)
    await store.held(AMOUNT_MICROCENTS_MAX - 1)

    assert isinstance(await store.reserve(2), Denied)
    assert isinstance(await store.reserve(1), Held)


@pytest.mark.parametrize(
    ("field", "budget"),
    [
        ("org.month.limit_cents", "org.month"),
        ("agent.*.total.limit_cents", "agent.researcher.total"),
    ],
)
async def test_full_budget_refuses(store: Store, field: str, budget: str) -> None:
    """O1: DENIED by what is spent, BUSY by what is held, whoever the budget belongs to."""
    await remembered(store, {**ACTIVE, "org.day.limit_cents": "none", field: "10"})
    ask, held = await store.held(cents(4))
    await store.settle(ask, held, cents(4))
    await store.held(cents(1))

    outcomes = [await store.reserve(cents(amount)) for amount in (7, 6, 5)]

    refused = [(each.reason, each.budget) for each in outcomes if isinstance(each, Denied)]
    assert refused == [("DENIED", budget), ("BUSY", budget)]


@pytest.mark.parametrize(
    ("field", "limit", "below", "budget"),
    [
        ("org.month.limit_cents", "10", cents(7.999999), "org.month"),
        ("agent.*.day.limit_cents", "10", cents(7.999999), "agent.researcher.day"),
        ("org.total.limit_cents", "0.000002", 0, "org.total"),
        ("agent.*.total.limit_cents", "0.000002", 0, "agent.researcher.total"),
    ],
)
async def test_warning_is_told_and_journaled_once(
    store: Store, field: str, limit: str, below: int, budget: str
) -> None:
    """O2: one microcent below four fifths nothing warns; the call that reaches them does."""
    await remembered(store, {**ACTIVE, "org.day.limit_cents": "none", field: limit})

    _, silent = await store.held(below)
    _, past = await store.held(1)
    await store.held(0)

    assert (silent.warnings, past.warnings) == ((), (budget,))
    assert len(await store.journal("alert")) == 1


@pytest.mark.parametrize(("org", "budget"), [("9", "org.total"), ("none", "agent.writer.total")])
async def test_equal_budgets_are_told_in_order(store: Store, org: str, budget: str) -> None:
    """O3: the org before the agent, the longer window before the shorter, as by a full look."""
    limits = {"org": org, "agent.*": "9"}
    equal = {
        f"{scope}.{kind}.limit_cents": limit
        for scope, limit in limits.items()
        for kind in ("day", "month", "total")
    }
    await remembered(store, {**ACTIVE, **equal})

    _, known = await store.held(cents(1), agent="writer")
    await store.client.hdel(META, "limits", "chain")
    _, read = await store.held(0, agent="writer")

    assert known.budget == read.budget == budget
    assert known.available_microcents == read.available_microcents == cents(8)


async def test_tightest_budget_is_told(store: Store) -> None:
    """O3: the one with the least left, be it the org's or the agent's."""
    await remembered(store, {**MONTH, "agent.*.day.limit_cents": "900"})

    _, own = await store.held(cents(1))
    await store.held(cents(200), agent="writer")
    _, org = await store.held(0)

    assert (own.budget, own.available_microcents) == ("agent.researcher.day", cents(899))
    assert (org.budget, org.available_microcents) == ("org.month", cents(799))


async def test_lost_counters_get_their_ttl(store: Store) -> None:
    """O4: a key that was deleted comes back with the hold, and not for ever; total has none."""
    await remembered(store, ALL)

    await store.client.delete("bg:{acme}:spend:day:2037-11-22", "bg:{acme}:spend:total")
    await store.held(cents(1))

    assert await store.client.ttl("bg:{acme}:spend:day:2037-11-22") > 0
    assert await store.client.ttl("bg:{acme}:spend:total") == -1


async def test_hold_ttl_counts(store: Store) -> None:
    """O5: remembered with the limits, with room and without; what a call asks for comes first."""
    await remembered(store, {**MONTH, "hold_ttl_ms": "5000"})

    _, roomy = await store.held(cents(1))
    _, tight = await store.held(cents(900))
    _, asked = await store.held(0, ttl_ms=9000)

    deadlines = [held.deadline_ms - store.now_ms for held in (roomy, tight, asked)]
    assert deadlines == [5000, 5000, 9000]
