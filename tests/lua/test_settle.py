"""settle.lua: a hold is replaced by what the call has cost, once, whenever that is told.

S1 the hold is gone and all of the cost is spent, also above the hold, in every window
S2 a repeat answers the first result and changes nothing; DONE_OTHER where its amount differs
S3 after an expiry it is LATE: the difference is counted, once
S4 after a release it is VOIDED: a cost is charged in all windows or in none; no cost is DONE
S5 what nothing is known of is JOURNALED: no counter moves, the ledger decides
S6 other windows or another idempotency key than the record has are answered by its own: WINDOWS
S7 one entry in the journal tells the cost, who pays it, and what the counters took of it
S8 spent that grows over its hold, or after an end, warns once
S9 the idempotency key tells the real cost, where it is still the key of this reservation
S10 how it ended is kept for 15 minutes
S11 a malformed argument is named, and nothing changes
S12 nothing but this reservation and its counters is touched

Keys that somebody has damaged: test_damaged.py. Full memory: test_full_memory.py.
"""

import pytest
from msgspec import structs

from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Replayed, Settled
from tests.lua.calls import AMOUNTS, call, changed, counters, hold, of_a_hold
from tests.lua.store import ORG, Store, cents, ms

WINDOWS = "day:2037-11-22,month:2037-11,total"


async def spent(store: Store) -> int:
    """Return what the org has spent in total."""
    return (await store.spend()).get("org.spent", 0)


@pytest.mark.parametrize(("cost", "over"), [(0, 0), (3, 0), (5, 0), (7.5, 2.5)])
async def test_settle_counts_all_of_the_cost(store: Store, cost: float, over: float) -> None:
    """S1: the hold is gone and the cost is spent, on every window of both scopes."""
    ask, held = await store.held(cents(5))

    settled = await store.settle(ask, held, cents(cost))

    assert settled == Settled("SETTLED", cents(cost), cents(over))
    counters = {"org.spent": cents(cost), "agent.researcher.spent": cents(cost)} if cost else {}
    for window in WINDOWS.split(","):
        assert await store.spend(window) == counters
    [entry] = await store.journal("settle")
    assert (entry["amount"], entry["counted"]) == (str(cents(cost)), str(cents(cost)))
    assert await store.client.zcard("bg:expiry") == await store.client.hlen("bg:{acme}:holds") == 0


async def test_settle_is_paid_by_the_agent_that_reserved(store: Store) -> None:
    """S1: a settle that names another agent takes nothing from that one."""
    own_id = await hold(store)

    await call(store, "settle", own_id, agent="writer")

    assert await store.spend() == {"org.spent": 4, "agent.researcher.spent": 4}
    [entry] = await store.journal("settle")
    assert entry["agent"] == "researcher"


async def test_repeated_settle_answers_the_first_result(store: Store) -> None:
    """S2: DONE with the same amount, DONE_OTHER with another; nothing is spent twice."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(3))

    assert await store.settle(ask, held, cents(3)) == Settled("DONE", cents(3), 0)
    assert await store.settle(ask, held, cents(4)) == Settled("DONE_OTHER", cents(3), 0)
    assert await spent(store) == cents(3)
    assert len(await store.journal()) == 1


@pytest.mark.parametrize(("cost", "word"), [("4", b"DONE"), ("5", b"DONE_OTHER")])
async def test_repeated_settle_changes_nothing(store: Store, cost: str, word: bytes) -> None:
    """S2: no counter, no entry, not even how long the end is kept."""
    own_id = await hold(store)
    await call(store, "settle", own_id)
    await store.client.pexpire(f"bg:{{acme}}:done:{own_id}", 60_000)
    before = await store.contents()

    again = await call(store, "settle", own_id, amount_microcents=cost)

    assert again[:3] == [word, b"4", b"0"]
    assert await store.contents() == before
    assert await store.client.pttl(f"bg:{{acme}}:done:{own_id}") <= 60_000


@pytest.mark.parametrize(("cost", "counted"), [(7, 2), (5, 0), (1, -4)])
async def test_late_settle_counts_the_difference(store: Store, cost: int, counted: int) -> None:
    """S3: after an expiry that charged 5 the counters end at the real cost, and once."""
    ask, held = await store.held(cents(5))
    await store.at(60_000)
    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    late = await store.settle(ask, held, cents(cost))
    again = await store.settle(ask, held, cents(cost))

    assert (late.status, again.status) == ("LATE", "DONE")
    assert await spent(store) == cents(cost)
    entries = await store.journal("settle")
    assert [entry["counted"] for entry in entries] == [str(cents(counted))]


async def test_late_settle_of_a_huge_hold_is_known_again(store: Store) -> None:
    """S3: the largest difference has a sign and sixteen digits, and its record is read."""
    await store.limits({"status": "active", "org.month.limit_cents": "9000000000"})
    ask, held = await store.held(5_000_000_000_000_000)
    await store.at(60_000)
    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    late = await store.settle(ask, held, cents(1))
    again = await store.settle(ask, held, cents(1))

    assert (late.status, again.status) == ("LATE", "DONE")
    assert await spent(store) == cents(1)
    assert len(await store.journal("settle")) == 1


@pytest.mark.parametrize("verb", ["expire", "release"])
async def test_owner_is_known_after_a_late_settle(store: Store, verb: str) -> None:
    """S10: the public verbs reach a reservation by its owner, also to repeat a late settle."""
    ask, held = await store.held(cents(5), owner="api")
    if verb == "expire":
        await store.at(60_000)
        await store.budgets.expire(ORG, WINDOWS, [ask.id])
    else:
        await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    await store.settle(ask, held, cents(2))
    ended = await store.budgets.request(ORG, ask.id)

    assert ended is not None
    assert (ended.state, ended.owner) == ("settled", "api")


async def test_settle_after_release_is_charged(store: Store) -> None:
    """S4: a cost that turns up after its release is charged all the same, and told apart."""
    ask, held = await store.held(cents(5))
    await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert (await store.settle(ask, held, 0)).status == "DONE"
    assert (await store.settle(ask, held, cents(2))).status == "VOIDED"
    assert await spent(store) == cents(2)


async def test_settle_after_a_void_release_counts_everywhere_or_nowhere(store: Store) -> None:
    """S4: with a window that is not open the entry says that nothing was counted."""
    await store.client.hset("bg:{acme}:spend:total", "org.spent", cents(1))
    settlement = Settlement(ORG, "researcher", store.id(), WINDOWS, cents(2), b"{}")
    await store.budgets.release(ORG, "researcher", settlement.id, WINDOWS)

    before = await store.budgets.settle(settlement)
    await store.held(cents(3))
    later = structs.replace(settlement, id=store.id())
    await store.budgets.release(ORG, "researcher", later.id, WINDOWS)
    after = await store.budgets.settle(later)

    assert (before.status, after.status) == ("VOIDED", "VOIDED")
    assert [entry["counted"] for entry in await store.journal("settle")] == ["0", str(cents(2))]
    assert await spent(store) == cents(3)
    assert (await store.spend("day:2037-11-22"))["org.spent"] == cents(2)


async def test_settle_of_nothing_known_is_left_to_the_ledger(store: Store) -> None:
    """S5: no hold and no tombstone: journaled with counted 0, and a repeat is DONE."""
    settlement = Settlement(ORG, "researcher", store.id(), WINDOWS, cents(5), b"{}")

    first = await store.budgets.settle(settlement)
    again = await store.budgets.settle(settlement)

    assert (first.status, again.status) == ("JOURNALED", "DONE")
    assert await spent(store) == 0
    [entry] = await store.journal()
    assert (entry["amount"], entry["counted"]) == (str(cents(5)), "0")


async def test_settle_in_an_unknown_org_makes_no_org(store: Store) -> None:
    """S5: the entry and the end are all that it leaves: the org stays without counters."""
    own_id, before = store.id(), await store.contents()

    said = await call(store, "settle", own_id, org="globex")

    assert said[:3] == [b"JOURNALED", b"4", b"0"]
    left = {f"{{globex}}:done:{own_id}", "{globex}:meta seq", "journal"}
    assert changed(before, await store.contents()) == left


async def test_settle_under_other_windows_finds_its_own(store: Store) -> None:
    """S6: a settle that names the windows of another day lands where the money was reserved."""
    ask, held = await store.held(cents(5))

    await store.settle(
        ask, structs.replace(held, windows="day:2037-11-23,month:2037-11,total"), cents(3)
    )

    assert (await store.spend("day:2037-11-22"))["org.spent"] == cents(3)
    assert await store.client.exists("bg:{acme}:spend:day:2037-11-23") == 0


@pytest.mark.parametrize("change", [{"idem_digest": ""}, {"windows": "day:2037-11-22"}])
async def test_settle_is_told_what_its_hold_has(store: Store, change: dict[str, str]) -> None:
    """S6: of an open hold, and nothing has ended."""
    own_id = await hold(store, idem_digest="i1")
    before = await store.contents()

    said = await call(store, "settle", own_id, **{"idem_digest": "i1", **change})

    assert said[:3] == [b"WINDOWS", b"total", b"i1"]
    assert await store.contents() == before


async def test_settle_is_told_what_its_end_has(store: Store) -> None:
    """S6: of an expired one, and nothing more is counted."""
    own_id = await hold(store)
    await store.at(60_000)
    await call(store, "expire", own_id, id=own_id)
    before = await store.contents()

    said = await call(store, "settle", own_id, windows="day:2037-11-22")

    assert said[:3] == [b"WINDOWS", b"total", b""]
    assert await store.contents() == before


async def test_entry_tells_the_settle(store: Store) -> None:
    """S7: every field of it, with both instants; an entry of another kind is not written."""
    own_id, reserved_ms = await hold(store), str(store.now_ms)
    await store.at(7)

    await call(store, "settle", own_id, reserved_ms=reserved_ms, detail='{"model":"m"}')

    assert await store.journal() == [
        {
            "v": "1",
            "kind": "settle",
            "id": own_id,
            "entry_id": "",
            "org": ORG,
            "agent": "researcher",
            "amount": "4",
            "counted": "4",
            "reserved_ms": reserved_ms,
            "at_ms": str(store.now_ms),
            "windows": "total",
            "epoch": "1",
            "detail": '{"model":"m"}',
        }
    ]


async def test_settle_over_the_hold_warns_once(store: Store) -> None:
    """S8: a cost above its hold that crosses warn_at is journaled as a warning."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(1))

    await store.settle(ask, held, cents(9))

    assert [entry["kind"] for entry in await store.journal()] == ["settle", "alert"]


@pytest.mark.parametrize("end", ["expired", "released", "void"])
async def test_settle_after_an_end_warns_once(store: Store, end: str) -> None:
    """S8: LATE and VOIDED cross warn_at as SETTLED does; contract section 3."""
    fields = {"status": "active", "org.month.limit_cents": "10"}
    await store.limits({**fields, "on_expiry": "charge" if end == "expired" else "release"})
    ask, held = await store.held(cents(4), ttl_ms=1000)
    if end == "void":
        await store.budgets.release(ORG, ask.agent, ask.id, held.windows)
    else:
        await store.at(2000)
        assert await store.budgets.expire(ORG, held.windows, [ask.id]) == [end]
    assert await store.journal("alert") == []

    await store.settle(ask, held, cents(9))

    assert ['"alert":"warned"' in entry["detail"] for entry in await store.journal("alert")] == [
        True
    ]


async def test_settle_tells_its_cost_to_the_idempotency_key(store: Store) -> None:
    """S9: the key is kept a day from its reserve on, and no longer for its settle."""
    own_id = await hold(store, idem_digest="i1")
    await store.client.pexpire("bg:{acme}:idem:-", 60_000)

    await call(store, "settle", own_id, idem_digest="i1")

    assert await store.client.get("bg:{acme}:idem:-") == f"{own_id}|b1|settled|4".encode()
    assert 0 < await store.client.pttl("bg:{acme}:idem:-") <= 60_000


async def test_late_settle_tells_its_cost_to_the_idempotency_key(store: Store) -> None:
    """S9: who repeats the call under its key is told the real cost, not the quote."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    await store.at(60_000)
    await store.budgets.expire(ORG, held.windows, [ask.id])
    expired = await store.reserve(cents(5), idempotency_digest="i1")

    await store.settle(ask, held, cents(3))
    settled = await store.reserve(cents(5), idempotency_digest="i1")

    assert expired == Replayed(ask.id, "b1", "expired", cents(5))
    assert settled == Replayed(ask.id, "b1", "settled", cents(3))
    assert await store.client.ttl("bg:{acme}:idem:i1") > 0


async def test_late_settle_leaves_the_idempotency_key_of_another(store: Store) -> None:
    """S9: an expiry that gave back freed the key, and the call that has it now keeps it."""
    await store.client.hset("bg:{acme}:limits", "on_expiry", "release")
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    await store.at(60_000)
    await store.budgets.expire(ORG, held.windows, [ask.id])
    other, _ = await store.held(cents(5), idempotency_digest="i1")

    late = await store.settle(ask, held, cents(3))

    assert late.status == "LATE"
    assert await store.client.get("bg:{acme}:idem:i1") == f"{other.id}|b1|held|0".encode()


async def test_request_tells_a_reservation(store: Store) -> None:
    """S10: what is known of a reservation: open, then ended, then nothing of another id."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    held_now = await store.budgets.request(ORG, ask.id)
    await store.settle(ask, held, cents(3))
    ended = await store.budgets.request(ORG, ask.id)

    assert held_now is not None
    assert ended is not None
    assert (held_now.state, held_now.windows) == ("held", held.windows)
    assert (ended.state, ended.cost_microcents, ended.ended_ms) == (
        "settled",
        cents(3),
        ms("2037-11-22T12:00:00Z"),
    )
    assert await store.budgets.request(ORG, store.id()) is None


async def test_end_of_a_settle_is_kept_15_minutes(store: Store) -> None:
    """S10: a repeat within them is known, and the key leaves by itself."""
    own_id = await hold(store)

    await call(store, "settle", own_id)

    assert 890 < await store.client.ttl(f"bg:{{acme}}:done:{own_id}") <= 900


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in ["-1", *AMOUNTS]),
        *((name, "") for name in ("id", "reserved_ms", "org", "agent", "windows", "epoch")),
        ("reserved_ms", "1x"),
        *((name, "a|b") for name in ("id", "org", "agent", "windows", "idem_digest", "epoch")),
        *((name, "a-b") for name in ("id", "idem_digest", "epoch")),
    ],
)
async def test_settle_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """S11: one argument is wrong, and the answer is which; what is held stays held."""
    own_id = await hold(store)
    before = await store.contents()

    said = await call(store, "settle", own_id, **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_settle_touches_its_reservation_only(store: Store) -> None:
    """S12: not the hold of another, a credit, the limits, or the windows that run."""
    await store.held(1)
    own_id, _ = await hold(store), await hold(store)
    await call(store, "credit", store.id())
    before = await store.contents()

    await call(store, "settle", own_id)

    ended = of_a_hold(own_id) | counters("spent") | {f"done:{own_id}", "journal"}
    assert changed(before, await store.contents()) == ended
