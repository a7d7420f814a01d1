"""repair.lua: counters are made equal to the ledger, by a difference.

P1 each difference changes what one scope has spent or holds in one window, or how many are open,
   and no entry says so
P2 it is applied once, by its own id, which is kept for 7 days
P3 counters that left by their TTL, and an org that is not known, are not brought back
P4 windows that are not those of the keys, a place that is no spend key, a malformed field or
   amount is named, and nothing is applied
P5 nothing but what differs is touched
P6 counters that a running window has lost are made again, and leave when the others do

Keys that somebody has damaged: test_damaged.py.
"""

from typing import cast

import pytest

from gateway.budgets.changes import Repair
from gateway.budgets.scripts import load_scripts
from gateway.errors import StoreError
from tests.lua.calls import call, changed, hold
from tests.lua.store import FROZEN_CLOCK, ORG, Store, cents


async def test_repair_changes_counters_only(store: Store) -> None:
    """P1: the differences are applied once, and no entry says so."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))
    changes = (
        ("total", "org.spent", cents(-1)),
        ("day:2037-11-22", "agent.researcher.spent", cents(2)),
    )
    change = Repair(store.id(), ORG, changes)

    words = [await store.budgets.repair(change), await store.budgets.repair(change)]

    assert words == ["OK", "DONE"]
    assert (await store.spend())["org.spent"] == cents(4)
    assert (await store.spend("day:2037-11-22"))["agent.researcher.spent"] == cents(7)
    assert len(await store.journal()) == 1


async def test_repair_changes_what_is_held_and_open(store: Store) -> None:
    """P1: where a transaction broke off half-way, they are not what the open holds say."""
    await store.held(cents(5))
    changes = (("total", "org.held", cents(-2)), ("rate", "agent.researcher.open", 3))

    assert await store.budgets.repair(Repair(store.id(), ORG, changes)) == "OK"

    assert (await store.spend())["org.held"] == cents(3)
    assert await store.client.hget("bg:{acme}:rate", "agent.researcher.open") == b"4"


async def test_repair_makes_a_lost_count_of_open_holds_again(store: Store) -> None:
    """P6: it never leaves, as before."""
    await store.held(cents(5))
    await store.client.delete("bg:{acme}:rate")

    change = Repair(store.id(), ORG, (("rate", "agent.researcher.open", 1),))
    assert await store.budgets.repair(change) == "OK"

    assert await store.client.hgetall("bg:{acme}:rate") == {b"agent.researcher.open": b"1"}
    assert await store.client.ttl("bg:{acme}:rate") == -1


@pytest.mark.parametrize(
    ("window", "field"), [("rate", "agent.researcher.spent"), ("total", "agent.researcher.open")]
)
async def test_repair_takes_a_field_where_it_belongs_only(
    store: Store, window: str, field: str
) -> None:
    """P4: nothing would ever read it."""
    await hold(store)
    with pytest.raises(StoreError, match="changes"):
        await store.budgets.repair(Repair(store.id(), ORG, ((window, field, 1),)))


async def test_repeated_repair_changes_nothing(store: Store) -> None:
    """P2: also with another amount."""
    await hold(store)
    own_id = store.id()
    await call(store, "repair", own_id)
    before = await store.contents()

    assert (await call(store, "repair", own_id, amount_microcents="9"))[0] == b"DONE"
    assert await store.contents() == before


async def test_applied_repair_is_known_for_7_days(store: Store) -> None:
    """P2: no outbox asks longer, and the key leaves by itself."""
    own_id = store.id()

    await call(store, "repair", own_id)

    assert 604_790 < await store.client.ttl(f"bg:{{acme}}:applied:{own_id}") <= 604_800


async def test_repair_brings_no_key_back(store: Store) -> None:
    """P3: counters that left by their TTL stay gone."""
    change = Repair(store.id(), ORG, (("day:2037-10-01", "org.spent", 5),))

    assert await store.budgets.repair(change) == "OK"
    assert await store.client.exists("bg:{acme}:spend:day:2037-10-01") == 0


async def test_repair_of_an_unknown_org_makes_no_org(store: Store) -> None:
    """P3: its id is all that it leaves."""
    own_id, before = store.id(), await store.contents()

    said = await store.budgets.repair(Repair(own_id, "globex", (("total", "org.spent", 5),)))

    assert said == "OK"
    left = {f"{{globex}}:applied:{own_id}", "{globex}:meta seq"}
    assert changed(before, await store.contents()) == left


@pytest.mark.parametrize("window", ["total", "day:2037-11-22"])
async def test_repair_makes_lost_counters_again(store: Store, window: str) -> None:
    """P6: somebody deleted them, and what the window has spent must not be spent twice."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))
    key = f"bg:{{acme}}:spend:{window}"
    left_s = await store.client.ttl(key)
    await store.client.delete(key)

    changes = ((window, "org.spent", cents(3)), (window, "agent.researcher.spent", cents(3)))
    assert await store.budgets.repair(Repair(store.id(), ORG, changes)) == "OK"

    spent = {"org.spent": cents(3), "agent.researcher.spent": cents(3)}
    assert await store.spend(window) == spent
    assert left_s - 10 < await store.client.ttl(key) <= left_s


async def test_repair_makes_no_other_window_of_that_kind(store: Store) -> None:
    """P6: that today runs brings no counters of another day back."""
    await store.held(cents(5))
    changes = (("day:2037-10-01", "org.spent", 5), ("day:2037-11-22", "org.spent", 5))

    assert await store.budgets.repair(Repair(store.id(), ORG, changes)) == "OK"

    assert await store.client.exists("bg:{acme}:spend:day:2037-10-01") == 0


@pytest.mark.parametrize("windows", ["", "day:2037-11-22,total", "|"])
async def test_repair_names_the_windows_of_its_keys(store: Store, windows: str) -> None:
    """P4: whose counters are made again must be told of each."""
    await hold(store)
    own_id, before = store.id(), await store.contents()

    said = await call(store, "repair", own_id, windows=windows)

    assert said[:2] == [b"BADARG", b"windows"]
    assert await store.contents() == before


@pytest.mark.parametrize("place", ["-1", "0", "1", "2", "2.5", "4", "x", ""])
async def test_repair_changes_spend_keys_only(store: Store, place: str) -> None:
    """P4: a place that is not one of a spend key is refused, and nothing is applied."""
    keys = ["bg:{acme}:meta", "bg:{acme}:applied:R1", "bg:{acme}:spend:total"]
    repair = load_scripts(FROZEN_CLOCK).repair

    reply = await store.wire.submit(repair, keys, ["R1", "total", place, "org.spent", "5"])

    assert reply[:2] == [b"BADARG", b"changes"]
    assert await store.client.exists("bg:{acme}:applied:R1") == 0
    assert await store.client.hget("bg:{acme}:meta", "org.spent") is None


@pytest.mark.parametrize("amount", ["-0", "1e3", "", "--1", "9007199254740992"])
async def test_malformed_change_is_refused(store: Store, amount: str) -> None:
    """P4: an amount that is not a signed integer within the range changes nothing."""
    change = Repair(store.id(), ORG, (("total", "org.spent", cast(int, amount)),))

    with pytest.raises(StoreError, match="changes"):
        await store.budgets.repair(change)


@pytest.mark.parametrize("field", ["", "org", "org.credit", "a|b.spent", "org .spent", "org.open"])
async def test_repair_of_a_malformed_field_is_refused(store: Store, field: str) -> None:
    """P4: no field is made that is no counter; nor is the change before it applied."""
    await hold(store)
    own_id, before = store.id(), await store.contents()
    changes = (("total", "org.spent", 5), ("total", field, 5))

    with pytest.raises(StoreError, match="changes"):
        await store.budgets.repair(Repair(own_id, ORG, changes))

    assert await store.contents() == before


async def test_repair_touches_what_differs_only(store: Store) -> None:
    """P5: not the agents of an org that is repaired, and not what is held or credited."""
    await store.held(1)
    await hold(store)
    await call(store, "credit", store.id())
    own_id, before = store.id(), await store.contents()

    await call(store, "repair", own_id)

    touched = {"spend:total org.spent", f"applied:{own_id}", "meta seq"}
    assert changed(before, await store.contents()) == touched
