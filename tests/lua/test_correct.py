"""correct.lua: the billable spend of one reservation is changed after its end.

K1 spent changes in every window of the reservation, of the org and of the agent
K2 it is applied once, by its own id, which is kept for 7 days
K3 one entry in the journal tells the correction and its reservation
K4 the first crossing of warn_at is journaled, of a correction upwards only
K5 counters that left by their TTL are not brought back
K6 of an org that nothing is known of only the journal is told
K7 a malformed argument is named, and nothing changes
K8 nothing but what is spent is touched

Keys that somebody has damaged: test_damaged.py.
"""

import pytest

from gateway.budgets.changes import Correction
from tests.lua.calls import AMOUNTS, TOTAL, call, changed, counters, hold
from tests.lua.store import ORG, Store, cents

WINDOWS = "day:2037-11-22,month:2037-11,total"


async def settled(store: Store) -> str:
    """Settle a reservation of the total at 4 microcents, and return its id."""
    own_id = await hold(store)
    await call(store, "settle", own_id)
    return own_id


async def test_correction_changes_every_window_once(store: Store) -> None:
    """K1: the spend of one reservation goes down in all of its windows, with one entry."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))
    change = Correction(store.id(), ORG, ask.agent, ask.id, WINDOWS, cents(-2), b'{"cause":"x"}')

    words = [await store.budgets.correct(change), await store.budgets.correct(change)]

    assert words == ["OK", "DONE"]
    for window in WINDOWS.split(","):
        assert (await store.spend(window))["agent.researcher.spent"] == cents(3)
    [entry] = await store.journal("correct")
    assert (entry["id"], entry["entry_id"]) == (ask.id, change.id)
    assert (entry["amount"], entry["counted"]) == ("-2000000", "-2000000")


@pytest.mark.parametrize(("amount", "spent"), [("-4", {}), ("3", 7), ("-5", -1)])
async def test_correction_goes_either_way(
    store: Store, amount: str, spent: int | dict[str, int]
) -> None:
    """K1: up, down to nothing, and below it, where the ledger says so."""
    await settled(store)

    assert (await call(store, "correct", store.id(), amount_microcents=amount))[0] == b"OK"
    counted = {"org.spent": spent, "agent.researcher.spent": spent} if spent else {}
    assert await store.spend() == counted


async def test_repeated_correction_changes_nothing(store: Store) -> None:
    """K2: also with another amount."""
    await settled(store)
    own_id = store.id()
    await call(store, "correct", own_id)
    before = await store.contents()

    assert (await call(store, "correct", own_id, amount_microcents="9"))[0] == b"DONE"
    assert await store.contents() == before


async def test_applied_correction_is_known_for_7_days(store: Store) -> None:
    """K2: no outbox asks longer, and the key leaves by itself."""
    own_id = store.id()

    await call(store, "correct", own_id)

    assert 604_790 < await store.client.ttl(f"bg:{{acme}}:applied:{own_id}") <= 604_800


async def test_entry_tells_the_correction(store: Store) -> None:
    """K3: every field of it, under the reservation's id and instant."""
    reservation_id, reserved_ms = await settled(store), str(store.now_ms)
    await store.client.delete("bg:journal")
    await store.at(7)
    own_id = store.id()
    words = {"reservation_id": reservation_id, "reserved_ms": reserved_ms, "detail": '{"n":1}'}

    await call(store, "correct", own_id, **words)

    assert await store.journal() == [
        {
            "v": "1",
            "kind": "correct",
            "id": reservation_id,
            "entry_id": own_id,
            "org": ORG,
            "agent": "researcher",
            "amount": "-1",
            "counted": "-1",
            "reserved_ms": reserved_ms,
            "at_ms": str(store.now_ms),
            "windows": "total",
            "epoch": "1",
            "detail": '{"n":1}',
        }
    ]


@pytest.mark.parametrize(("amount", "alerts"), [(4, 1), (3, 0)])
async def test_correction_upwards_warns_once(store: Store, amount: int, alerts: int) -> None:
    """K4: 8 of 10 warn and 7 do not; a second crossing of the same limit is not told."""
    await settled(store)
    await store.limits({**TOTAL, "org.total.limit_cents": "0.00001"})

    for change in (amount, -amount, amount):
        await call(store, "correct", store.id(), amount_microcents=str(change))

    entries = await store.journal("alert")
    assert ['"alert":"warned"' in entry["detail"] for entry in entries] == [True] * alerts


async def test_correction_downwards_warns_of_nothing(store: Store) -> None:
    """K4: also where what is left is past the share: it was not this that crossed it."""
    await settled(store)
    await store.limits({**TOTAL, "org.total.limit_cents": "0.000001"})

    await call(store, "correct", store.id(), amount_microcents="-1")

    assert await store.journal("alert") == []


async def test_correction_brings_no_key_back(store: Store) -> None:
    """K5: the windows that are left take it, and the day stays gone."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))
    await store.client.delete("bg:{acme}:spend:day:2037-11-22")

    await store.budgets.correct(
        Correction(store.id(), ORG, ask.agent, ask.id, WINDOWS, cents(1), b"{}")
    )

    assert await store.client.exists("bg:{acme}:spend:day:2037-11-22") == 0
    assert (await store.spend("month:2037-11"))["org.spent"] == cents(6)


@pytest.mark.parametrize("amount", ["-1", "1"])
async def test_correction_in_an_unknown_org_makes_no_org(store: Store, amount: str) -> None:
    """K6: the entry and its id are all that it leaves: the org stays without counters."""
    own_id, before = store.id(), await store.contents()

    said = await call(store, "correct", own_id, org="globex", amount_microcents=amount)

    assert said[0] == b"OK"
    left = {f"{{globex}}:applied:{own_id}", "{globex}:meta seq", "journal"}
    assert changed(before, await store.contents()) == left


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in ["-0", "--1", "-", *AMOUNTS]),
        *((name, "") for name in ("id", "reservation_id", "reserved_ms", "org", "agent")),
        *((name, "") for name in ("windows", "epoch")),
        *((name, "a|b") for name in ("id", "reservation_id", "reserved_ms", "org", "agent")),
        *((name, "a|b") for name in ("windows", "epoch")),
    ],
)
async def test_correct_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """K7: one argument is wrong, and the answer is which; spent stays."""
    await settled(store)
    before = await store.contents()

    said = await call(store, "correct", store.id(), **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_correction_touches_spent_only(store: Store) -> None:
    """K8: not what is held or credited, and not how the reservation ended."""
    await store.held(1)
    reservation_id, _ = await settled(store), await hold(store)
    await call(store, "credit", store.id())
    own_id, before = store.id(), await store.contents()

    await call(store, "correct", own_id, reservation_id=reservation_id)

    touched = {*counters("spent"), f"applied:{own_id}", "journal", "meta seq"}
    assert changed(before, await store.contents()) == touched
