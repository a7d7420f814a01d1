"""extend.lua: an open hold is given more money, more time or both, and never less.

E1 the target and the time are absolute: a repeat changes nothing, and nothing is made smaller
E2 more money is refused as by a reserve: LIMITS_INVALID, FROZEN, PER_CALL, DENIED, BUSY
E3 more time alone is never refused
E4 what has ended, and what nothing is known of, is GONE
E5 other windows than the hold has are answered by its own: WINDOWS
E6 it tells when the budget's window ends, where that still runs
E7 counters that left by their TTL are not brought back
E8 it counts for the agent that reserved
E9 the first denial and the first warning are journaled, once per limit; else nothing is
E10 a malformed argument is named, and nothing changes
E11 nothing but this hold and what is held is touched, by a refusal only a first denial's mark

Keys that somebody has damaged: test_damaged.py.
"""

import json

import pytest
from msgspec import structs

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.reservation import Denied, Gone, Held
from tests.lua.calls import AMOUNTS, TOTAL, call, changed, counters, hold
from tests.lua.store import Store, cents, ms

REFUSALS: list[tuple[dict[str, str], list[bytes]]] = [
    ({"status": "off"}, [b"LIMITS_INVALID", b"status"]),
    ({"org.total.limit_cents": "1e3"}, [b"LIMITS_INVALID", b"org.total.limit_cents"]),
    ({"status": "frozen"}, [b"FROZEN", b"org"]),
    ({"agent.*.status": "frozen"}, [b"FROZEN", b"agent.researcher"]),
    ({"org.per_call_cents": "0.000007"}, [b"PER_CALL", b"org", b"7"]),
    ({"agent.*.per_call_cents": "0.000007"}, [b"PER_CALL", b"agent.researcher", b"7"]),
    ({"org.total.limit_cents": "0.000007"}, [b"DENIED", b"org.total", b"7"]),
]


async def test_extension_is_absolute_and_never_less(store: Store) -> None:
    """E1: the hold becomes the target, a smaller one changes nothing, a deadline only moves on."""
    ask, held = await store.held(cents(5))

    raised = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(8), ttl_ms=90_000), held.windows
    )
    lowered = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(2), ttl_ms=1), held.windows
    )

    assert isinstance(raised, Held)
    assert isinstance(lowered, Held)
    assert lowered.deadline_ms == raised.deadline_ms == store.now_ms + 90_000
    assert (await store.spend())["org.held"] == cents(8)
    assert (await store.settle(ask, held, cents(9))).over_microcents == cents(1)
    assert await store.spend() == {"org.spent": cents(9), "agent.researcher.spent": cents(9)}


async def test_repeated_extension_changes_no_money(store: Store) -> None:
    """E1: the same target again holds nothing more; only its write is counted."""
    own_id = await hold(store)
    await call(store, "extend", own_id)
    before = await store.contents()

    again = await call(store, "extend", own_id)

    assert again[0] == b"HELD"
    assert changed(before, await store.contents()) == {"meta seq"}


async def test_extension_is_checked_like_a_reserve(store: Store) -> None:
    """E2: more money than a budget has left is denied; more time is not."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(5))

    assert isinstance(
        await store.budgets.extend(structs.replace(ask, amount_microcents=cents(11)), held.windows),
        Denied,
    )
    await store.limits({})
    assert isinstance(await store.budgets.extend(ask, held.windows), Held)


@pytest.mark.parametrize(("fields", "said"), REFUSALS)
async def test_extension_is_refused_by_the_limits(
    store: Store, fields: dict[str, str], said: list[bytes]
) -> None:
    """E2: by what operators have set since its reserve, with the field or the scope."""
    own_id = await hold(store)
    await store.limits({**TOTAL, **fields})

    reply = await call(store, "extend", own_id)

    assert reply[: len(said)] == said


async def test_extension_is_refused_by_billing(store: Store) -> None:
    """E2: an org that billing has frozen holds nothing more."""
    own_id = await hold(store)
    await store.client.hset("bg:{acme}:meta", "billing_status", "frozen")

    assert (await call(store, "extend", own_id))[:2] == [b"FROZEN", b"billing"]


async def test_extension_never_passes_the_exact_range(store: Store) -> None:
    """E2: even without a limit, what would pass 2^53-1 microcents is DENIED."""
    own_id = await hold(store)
    await store.limits({**TOTAL, "org.total.limit_cents": "none"})
    await call(store, "reserve", store.id(), amount_microcents=str(AMOUNT_MICROCENTS_MAX - 6))

    beyond = await call(store, "extend", own_id, target_microcents="7")
    within = await call(store, "extend", own_id, target_microcents="6")

    assert (beyond[0], within[0]) == (b"DENIED", b"HELD")


async def test_extension_beyond_the_limit_is_denied_not_busy(store: Store) -> None:
    """E2: what the reservation holds itself is not in its own way: no wait would make room."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(5))

    beyond = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(11)), held.windows
    )
    await store.held(cents(1))
    full = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(10)), held.windows
    )

    assert isinstance(beyond, Denied)
    assert isinstance(full, Denied)
    assert (beyond.reason, full.reason) == ("DENIED", "BUSY")


@pytest.mark.parametrize("target", ["5", "0"])
@pytest.mark.parametrize("fields", [fields for fields, _ in REFUSALS])
async def test_more_time_is_never_refused(
    store: Store, fields: dict[str, str], target: str
) -> None:
    """E3: the money is held already, and the call is running."""
    own_id = await hold(store)
    await store.limits({**TOTAL, **fields})
    await store.client.hset("bg:{acme}:meta", "billing_status", "frozen")

    said = await call(store, "extend", own_id, target_microcents=target, ttl_ms="90000")

    assert said[:2] == [b"HELD", str(store.now_ms + 90_000).encode()]
    assert (await store.spend())["org.held"] == 5


async def test_extension_of_an_ended_reservation_is_gone(store: Store) -> None:
    """E4: what has ended is not raised again."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))

    assert await store.budgets.extend(ask, held.windows) == Gone()


@pytest.mark.parametrize("org", ["acme", "globex"])
async def test_extension_of_nothing_known_is_gone(store: Store, org: str) -> None:
    """E4: neither an id nor an org is made by it."""
    await hold(store)
    before = await store.contents()

    assert (await call(store, "extend", store.id(), org=org))[0] == b"GONE"
    assert await store.contents() == before


async def test_extension_is_told_what_its_hold_has(store: Store) -> None:
    """E5: its windows and its idempotency key, and nothing more is held."""
    own_id = await hold(store, idem_digest="i1")
    before = await store.contents()

    said = await call(store, "extend", own_id, windows="day:2037-11-22")

    assert said[:3] == [b"WINDOWS", b"total", b"i1"]
    assert await store.contents() == before


@pytest.mark.parametrize(("budget", "day_ends"), [("day", True), ("month", False), ("total", True)])
async def test_extension_tells_when_its_window_ends(
    store: Store, budget: str, day_ends: bool
) -> None:
    """E6: the end of the running window; none of the total, nor where another window runs."""
    await store.limits({"status": "active", f"org.{budget}.limit_cents": "10"})
    ask, held = await store.held(cents(5))
    if day_ends:
        await store.at("2037-11-23T00:00:00Z")
        await store.held(cents(1))

    raised = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(6)), held.windows
    )
    denied = await store.budgets.extend(
        structs.replace(ask, amount_microcents=cents(11)), held.windows
    )

    assert isinstance(raised, Held)
    assert isinstance(denied, Denied)
    ends_ms = 0 if day_ends else ms("2037-12-01T00:00:00Z")
    assert (raised.resets_ms, denied.resets_ms) == (ends_ms, ends_ms)


@pytest.mark.parametrize("target", [14, 20])
async def test_extension_brings_no_key_back(store: Store, target: int) -> None:
    """E7: neither a warning nor a denial is marked where the day has left by its TTL."""
    await store.limits({"status": "active", "org.day.limit_cents": "10"})
    ask, held = await store.held(cents(5))
    await store.at("2037-11-25T00:00:00Z")
    await store.client.delete("bg:{acme}:spend:day:2037-11-22")
    await store.held(cents(1))

    await store.budgets.extend(structs.replace(ask, amount_microcents=cents(target)), held.windows)

    assert await store.client.exists("bg:{acme}:spend:day:2037-11-22") == 0


async def test_extension_is_held_by_the_agent_that_reserved(store: Store) -> None:
    """E8: an extension that names another agent still counts where its settle will give back."""
    ask, held = await store.held(cents(5))

    more = structs.replace(ask, agent="writer", amount_microcents=cents(8))
    await store.budgets.extend(more, held.windows)

    assert await store.spend() == {"org.held": cents(8), "agent.researcher.held": cents(8)}


async def test_extension_journals_its_first_denial(store: Store) -> None:
    """E9: once per limit; a raised limit arms the mark again."""
    own_id = await hold(store)

    for limit in ("0.000006", "0.000006", "0.000007"):
        await store.limits({**TOTAL, "org.total.limit_cents": limit})
        await call(store, "extend", own_id)

    details = [json.loads(entry["detail"]) for entry in await store.journal()]
    told = [(detail["alert"], detail["limit_microcents"]) for detail in details]
    assert told == [("denied", 6), ("denied", 7)]


async def test_extension_journals_its_first_warning(store: Store) -> None:
    """E9: 8 of 10 are held: the answer says so each time, the journal once."""
    own_id = await hold(store)
    await store.limits({**TOTAL, "org.total.limit_cents": "0.00001"})

    replies = [await call(store, "extend", own_id, target_microcents=str(n)) for n in (7, 8, 9)]

    assert [reply[6] for reply in replies] == [b"", b"org.total", b"org.total"]
    [entry] = await store.journal()
    detail = json.loads(entry["detail"])
    assert (entry["id"], entry["kind"], detail["alert"]) == (own_id, "alert", "warned")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("target_microcents", amount) for amount in ["-1", *AMOUNTS]),
        *((name, "") for name in ("id", "org", "agent", "ttl_ms", "windows", "epoch")),
        *((name, "a|b") for name in ("id", "org", "agent", "ttl_ms", "windows", "epoch")),
        ("ttl_ms", "9" * 16),
    ],
)
async def test_extend_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """E10: one argument is wrong, and the answer is which; the hold stays as it is."""
    own_id = await hold(store)
    before = await store.contents()

    said = await call(store, "extend", own_id, **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_extension_touches_its_hold_only(store: Store) -> None:
    """E11: what is spent stays, as does the rate, which only an admission consumes."""
    await store.held(1)
    own_id, _ = await hold(store), await hold(store)
    await store.limits({**TOTAL, "org.rpm": "1", "org.concurrency": "1"})
    before = await store.contents()

    said = await call(store, "extend", own_id, ttl_ms="90000")

    assert said[0] == b"HELD"
    touched = {f"holds {own_id}", f"expiry acme|{own_id}", "meta seq", *counters("held")}
    assert changed(before, await store.contents()) == touched


@pytest.mark.parametrize(("fields", "said"), REFUSALS)
async def test_refused_extension_changes_no_hold(
    store: Store, fields: dict[str, str], said: list[bytes]
) -> None:
    """E11: the hold keeps its deadline too; only a first denial leaves its mark and entry."""
    own_id = await hold(store)
    await store.limits({**TOTAL, **fields})
    before = await store.contents()

    await call(store, "extend", own_id, ttl_ms="90000")

    marked = {"spend:total org.denied", "journal", "meta seq"} if said[0] == b"DENIED" else set()
    assert changed(before, await store.contents()) == marked
