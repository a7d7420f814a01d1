"""A counter that somebody has made no integer is an error, and nothing is counted twice for it.

D1 an end is said once, whatever becomes of the counters: what is missing is the ledger's to repair
D2 a repair or correction that cannot be counted is not applied, and may be repeated
"""

from collections.abc import Awaitable, Callable

import pytest
from redis.exceptions import ResponseError

from gateway.budgets.changes import Correction, Repair
from gateway.domain.reservation import Ask, Held
from gateway.errors import StoreError
from tests.lua.store import ORG, Store, cents

LIMITS = {"status": "active", "org.month.limit_cents": "100"}
TOTAL = "bg:{acme}:spend:total"

End = Callable[[Store, Ask, Held], Awaitable[object]]


async def _settle(store: Store, ask: Ask, held: Held) -> object:
    return await store.settle(ask, held, cents(3))


async def _expire(store: Store, ask: Ask, held: Held) -> object:
    await store.at(2000)
    return await store.budgets.expire(ORG, held.windows, [ask.id])


async def _release(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.release(ORG, ask.agent, ask.id, held.windows)


@pytest.mark.parametrize(
    ("end", "kind", "spent_cents", "field"),
    [
        (_settle, "settle", 3, "org.spent"),
        (_settle, "settle", 3, "agent.researcher.spent"),
        (_expire, "expire", 4, "org.spent"),
        (_release, "", 0, "org.held"),
    ],
)
async def test_end_that_meets_no_integer_counts_once(
    store: Store, end: End, kind: str, spent_cents: int, field: str
) -> None:
    """D1: it fails; repeated when the counter is mended, it finds itself done."""
    await store.limits(LIMITS)
    ask, held = await store.held(cents(4), ttl_ms=1000)
    before = await store.client.hget(TOTAL, field)
    await store.client.hset(TOTAL, field, "abc")

    with pytest.raises(ResponseError, match="integer"):
        await end(store, ask, held)
    await store.client.hset(TOTAL, field, before or 0)
    await end(store, ask, held)

    for window in ("day:2037-11-22", "month:2037-11"):
        counters = await store.spend(window)
        assert counters.get("org.spent", 0) == cents(spent_cents)
        assert counters.get("org.held", 0) == 0
    assert len(await store.journal("settle", "expire")) == bool(kind)


async def test_change_that_meets_no_integer_is_not_applied(store: Store) -> None:
    """D2: it is refused as a whole, and taken when the counter is mended."""
    await store.limits(LIMITS)
    ask, held = await store.held(cents(4))
    await store.settle(ask, held, cents(3))
    correction = Correction(store.id(), ORG, ask.agent, ask.id, held.windows, cents(1), b"{}")
    repair = Repair(
        store.id(), ORG, (("month:2037-11", "org", cents(2)), ("total", "org", cents(2)))
    )
    await store.client.hset(TOTAL, "org.spent", "abc")

    for change in (store.budgets.correct(correction), store.budgets.repair(repair)):
        with pytest.raises(StoreError, match="spent"):
            await change
    assert (await store.spend("month:2037-11"))["org.spent"] == cents(3)
    await store.client.hset(TOTAL, "org.spent", cents(3))
    words = [await store.budgets.correct(correction), await store.budgets.repair(repair)]

    assert words == ["OK", "OK"]
    for window in ("month:2037-11", "total"):
        assert (await store.spend(window))["org.spent"] == cents(6)
