"""A key that somebody has damaged is an error, and nothing is counted twice for it.

D1 an end is said once, where a counter is no integer: what is missing is the ledger's to repair
D2 a repair or correction that meets no integer is not applied, and may be repeated
D3 a change that fails at a key of another type is not taken for applied, and may be repeated
D4 without a journal of the right type no money moves, and the same call may be repeated
D5 limits that are no hash warn of nothing: what has ended does not fail half done
D6 where rate or expiry index are of another type nothing is held, and what ends moves all its money
D7 a counter that Lua takes for a number and is none admits nothing
"""

from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs
from redis.exceptions import ResponseError

from gateway.budgets.changes import Correction, Credit, Repair
from gateway.domain.reservation import Ask, Held, Refused
from gateway.errors import StoreError
from tests.lua.store import ORG, Store, cents

LIMITS = {"status": "active", "org.month.limit_cents": "100"}
TOTAL = "bg:{acme}:spend:total"
WINDOWS = "day:2037-11-22,month:2037-11,total"

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
        store.id(),
        ORG,
        (("month:2037-11", "org.spent", cents(2)), ("total", "org.spent", cents(2))),
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


@pytest.mark.parametrize("verb", ["credit", "correct", "repair"])
async def test_change_that_fails_is_not_taken_for_applied(store: Store, verb: str) -> None:
    """D3: after a fault of the store the same change is applied, once."""
    await store.held(cents(1))
    total = await store.client.dump("bg:{acme}:spend:total")
    await store.client.set("bg:{acme}:spend:total", "not a hash")
    id = store.id()
    changes = {
        "credit": Credit(id, ORG, "org", "total", "", 5),
        "correct": Correction(id, ORG, "researcher", store.id(), WINDOWS, 5, b"{}"),
        "repair": Repair(id, ORG, (("total", "org.spent", 5),)),
    }
    apply = getattr(store.budgets, verb)

    with pytest.raises(ResponseError):
        await apply(changes[verb])
    await store.client.delete("bg:{acme}:spend:total")
    await store.client.restore("bg:{acme}:spend:total", 0, total)

    assert [await apply(changes[verb]) for _ in range(2)] == ["OK", "DONE"]
    assert 5 in (await store.spend()).values()


@pytest.mark.parametrize("key", ["bg:{acme}:rate", "bg:expiry"])
async def test_reserve_holds_nothing_it_cannot_end(store: Store, key: str) -> None:
    """D6: no money is held without its record; afterwards the same call is admitted."""
    await store.limits(LIMITS)
    await store.held(cents(1))
    before = await store.spend()
    kept = await store.client.dump(key)
    await store.client.set(key, "another type")
    ask = store.ask(cents(4))

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await store.budgets.reserve(ask)
    after, holds = await store.spend(), await store.client.hlen("bg:{acme}:holds")
    await store.client.delete(key)
    await store.client.restore(key, 0, kept)

    assert (after, holds) == (before, 1)
    assert isinstance(await store.budgets.reserve(ask), Held)


@pytest.mark.parametrize(
    ("end", "kind", "spent_cents"),
    [(_settle, "settle", 3), (_expire, "expire", 4), (_release, "", 0)],
)
async def test_end_moves_all_its_money_without_the_rate(
    store: Store, end: End, kind: str, spent_cents: int
) -> None:
    """D6: that it was the last to fail is told; a repeat finds it done."""
    await store.limits(LIMITS)
    ask, held = await store.held(cents(4), ttl_ms=1000)
    await store.client.delete("bg:{acme}:rate")
    await store.client.set("bg:{acme}:rate", "no hash")

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await end(store, ask, held)
    await end(store, ask, held)

    for window in WINDOWS.split(","):
        counters = await store.spend(window)
        assert counters.get("org.spent", 0) == cents(spent_cents)
        assert counters.get("org.held", 0) == 0
    assert len(await store.journal("settle", "expire")) == bool(kind)


@pytest.mark.parametrize("verb", ["settle", "expire", "extend"])
async def test_end_waits_for_a_journal(store: Store, verb: str) -> None:
    """D4: with a journal of another type nothing ends; afterwards the same call ends it, once."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(5))
    await store.client.set("bg:journal", "not a stream")
    await store.at(60_000)
    more = structs.replace(ask, amount_microcents=cents(9))
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "settle": lambda: store.settle(ask, held, cents(9)),
        "expire": lambda: store.budgets.expire(ORG, WINDOWS, [ask.id]),
        "extend": lambda: store.budgets.extend(more, held.windows),
    }
    before = [await store.spend(window) for window in WINDOWS.split(",")]

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await calls[verb]()
    after = [await store.spend(window) for window in WINDOWS.split(",")]
    open_count = await store.client.hlen("bg:{acme}:holds")
    await store.client.delete("bg:journal")
    await calls[verb]()

    assert after == before
    assert open_count == 1
    assert len(await store.journal("settle", "expire", "alert")) == (2 if verb == "settle" else 1)


@pytest.mark.parametrize("verb", ["credit", "correct"])
async def test_change_waits_for_a_journal(store: Store, verb: str) -> None:
    """D4: with a journal of another type nothing changes; afterwards it is applied, once."""
    await store.held(cents(1))
    await store.client.set("bg:journal", "not a stream")
    before, id = await store.spend(), store.id()
    changes = {
        "credit": Credit(id, ORG, "org", "total", "", 5),
        "correct": Correction(id, ORG, "researcher", store.id(), WINDOWS, 5, b"{}"),
    }
    apply = getattr(store.budgets, verb)

    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await apply(changes[verb])
    after = await store.spend()
    await store.client.delete("bg:journal")

    assert after == before
    assert [await apply(changes[verb]) for _ in range(2)] == ["OK", "DONE"]
    assert [entry["amount"] for entry in await store.journal(verb)] == ["5"]


@pytest.mark.parametrize("verb", ["settle", "correct"])
async def test_limits_of_another_type_do_not_stop_an_end(store: Store, verb: str) -> None:
    """D5: it answers, and counts its write."""
    ask, held = await store.held(cents(1))
    await store.client.delete("bg:{acme}:limits")
    await store.client.set("bg:{acme}:limits", "x")
    seq = int(await store.client.hget("bg:{acme}:meta", "seq"))
    change = Correction(store.id(), ORG, ask.agent, ask.id, held.windows, cents(1), b"{}")

    if verb == "settle":
        assert (await store.settle(ask, held, cents(2))).status == "SETTLED"
    else:
        assert await store.budgets.correct(change) == "OK"
    assert int(await store.client.hget("bg:{acme}:meta", "seq")) == seq + 1


@pytest.mark.parametrize("number", ["nan", "-nan", "-inf"])
async def test_counter_that_is_no_amount_refuses(store: Store, number: str) -> None:
    """D7: what is compared with such a number is never too much."""
    await store.limits({"status": "active", "org.total.limit_cents": "5"})
    await store.held(cents(5))
    await store.client.hset(TOTAL, "org.spent", number)

    assert await store.reserve(cents(1)) == Refused("BADARG", "org.total")


@pytest.mark.parametrize("number", ["nan", "-nan", "-inf"])
async def test_hold_does_not_grow_on_what_is_no_amount(store: Store, number: str) -> None:
    """D7: an extension is compared with it, too."""
    await store.limits({"status": "active", "org.total.limit_cents": "5"})
    ask, held = await store.held(cents(1))
    await store.client.hset(TOTAL, "org.spent", number)
    more = structs.replace(ask, amount_microcents=cents(9))

    assert await store.budgets.extend(more, held.windows) == Refused("BADARG", "org.total")
