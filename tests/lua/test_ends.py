"""settle.lua, release.lua, expire.lua and extend.lua: every reservation ends once.

E1 settle replaces the hold by all of the cost, also above the hold, and journals it once
E2 a repeated end answers the first result and changes nothing
E3 a settle after an expiry counts the difference, once
E4 money of a reservation that nothing is known of is journaled and left to the ledger
E5 a release gives back everything; of an unknown id it leaves a tombstone
E6 an expiry charges by default, at the deadline and not before
E7 an extension is absolute and never less
E8 an end that the journal cannot take changes nothing, and may be repeated
"""

from collections.abc import Awaitable, Callable

import pytest
from msgspec import structs
from redis.exceptions import ResponseError

from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Denied, Finished, Gone, Held, Replayed, Settled
from tests.lua.store import ORG, Store, cents, ms

WINDOWS = "day:2037-11-22,month:2037-11,total"


async def spent(store: Store) -> int:
    """Return what the org has spent in total."""
    return (await store.spend()).get("org.spent", 0)


@pytest.mark.parametrize(("cost", "over"), [(0, 0), (3, 0), (5, 0), (7.5, 2.5)])
async def test_settle_counts_all_of_the_cost(store: Store, cost: float, over: float) -> None:
    """E1: the hold is gone and the cost is spent, on every window of both scopes."""
    ask, held = await store.held(cents(5))

    settled = await store.settle(ask, held, cents(cost))

    assert settled == Settled("SETTLED", cents(cost), cents(over))
    counters = {"org.spent": cents(cost), "agent.researcher.spent": cents(cost)} if cost else {}
    for window in WINDOWS.split(","):
        assert await store.spend(window) == counters
    [entry] = await store.journal("settle")
    assert (entry["amount"], entry["counted"]) == (str(cents(cost)), str(cents(cost)))
    assert await store.client.zcard("bg:expiry") == await store.client.hlen("bg:{acme}:holds") == 0


async def test_repeated_settle_answers_the_first_result(store: Store) -> None:
    """E2: DONE with the same amount, DONE_OTHER with another; nothing is spent twice."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(3))

    assert await store.settle(ask, held, cents(3)) == Settled("DONE", cents(3), 0)
    assert await store.settle(ask, held, cents(4)) == Settled("DONE_OTHER", cents(3), 0)
    assert await spent(store) == cents(3)
    assert len(await store.journal()) == 1


async def test_settle_under_other_windows_finds_its_own(store: Store) -> None:
    """A settle that names the windows of another day lands where the money was reserved."""
    ask, held = await store.held(cents(5))

    await store.settle(
        ask, structs.replace(held, windows="day:2037-11-23,month:2037-11,total"), cents(3)
    )

    assert (await store.spend("day:2037-11-22"))["org.spent"] == cents(3)
    assert await store.client.exists("bg:{acme}:spend:day:2037-11-23") == 0


@pytest.mark.parametrize(("cost", "counted"), [(7, 2), (5, 0), (1, -4)])
async def test_late_settle_counts_the_difference(store: Store, cost: int, counted: int) -> None:
    """E3: after an expiry that charged 5 the counters end at the real cost, and once."""
    ask, held = await store.held(cents(5))
    await store.at(60_000)
    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    late = await store.settle(ask, held, cents(cost))
    again = await store.settle(ask, held, cents(cost))

    assert (late.status, again.status) == ("LATE", "DONE")
    assert await spent(store) == cents(cost)
    entries = await store.journal("settle")
    assert [entry["counted"] for entry in entries] == [str(cents(counted))]


async def test_settle_of_nothing_known_is_left_to_the_ledger(store: Store) -> None:
    """E4: no hold and no tombstone: journaled with counted 0, and a repeat is DONE."""
    settlement = Settlement(ORG, "researcher", store.id(), WINDOWS, cents(5), b"{}")

    first = await store.budgets.settle(settlement)
    again = await store.budgets.settle(settlement)

    assert (first.status, again.status) == ("JOURNALED", "DONE")
    assert await spent(store) == 0
    [entry] = await store.journal()
    assert (entry["amount"], entry["counted"]) == (str(cents(5)), "0")


async def test_settle_after_release_is_charged(store: Store) -> None:
    """A cost that turns up after its release is charged all the same, and told apart."""
    ask, held = await store.held(cents(5))
    await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert (await store.settle(ask, held, 0)).status == "DONE"
    assert (await store.settle(ask, held, cents(2))).status == "VOIDED"
    assert await spent(store) == cents(2)


async def test_settle_after_a_void_release_counts_everywhere_or_nowhere(store: Store) -> None:
    """E4: with a window that is not open the entry says that nothing was counted."""
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


async def test_late_settle_tells_its_cost_to_the_idempotency_key(store: Store) -> None:
    """E3: who repeats the call under its key is told the real cost, not the quote."""
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
    """E3: an expiry that gave back freed the key, and the call that has it now keeps it."""
    await store.client.hset("bg:{acme}:limits", "on_expiry", "release")
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    await store.at(60_000)
    await store.budgets.expire(ORG, held.windows, [ask.id])
    other, _ = await store.held(cents(5), idempotency_digest="i1")

    late = await store.settle(ask, held, cents(3))

    assert late.status == "LATE"
    assert await store.client.get("bg:{acme}:idem:i1") == f"{other.id}|b1|held|0".encode()


async def test_release_gives_everything_back(store: Store) -> None:
    """E5: nothing is held or spent, the open count falls, and a repeat is DONE."""
    ask, held = await store.held(cents(5))

    first = await store.budgets.release(ORG, ask.agent, ask.id, held.windows)
    again = await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert (first.status, first.state) == ("RELEASED", "released")
    assert (again.status, again.state) == ("DONE", "released")
    assert await store.spend() == {}
    assert await store.client.hget("bg:{acme}:rate", "agent.researcher.open") == b"0"
    assert await store.journal() == []


async def test_release_that_came_first_meets_its_reserve(store: Store) -> None:
    """E5: a reserve that was still in a socket when it was released holds nothing."""
    ask = store.ask(cents(5))

    voided = await store.budgets.release(ORG, ask.agent, ask.id, "")
    outcome = await store.budgets.reserve(ask)

    assert voided.status == "VOID"
    assert isinstance(outcome, Finished)
    assert outcome.state == "void"
    assert await store.spend() == {}


async def test_expiry_charges_at_the_deadline(store: Store) -> None:
    """E6: one millisecond early nothing happens; at the deadline the hold is charged, once."""
    ask, _ = await store.held(cents(5))

    await store.at(59_999)
    early = await store.budgets.expire(ORG, WINDOWS, [ask.id])
    await store.at(1)
    due = await store.budgets.expire(ORG, WINDOWS, [ask.id])
    again = await store.budgets.expire(ORG, WINDOWS, [ask.id])

    assert (early, due, again) == (["held"], ["expired"], ["expired"])
    assert await store.spend() == {"org.spent": cents(5), "agent.researcher.spent": cents(5)}
    [entry] = await store.journal()
    assert (entry["kind"], entry["amount"], entry["counted"]) == ("expire", "5000000", "5000000")


@pytest.mark.parametrize(
    ("on_expiry", "charged"), [("release", 0), ("charge", cents(5)), ("none", cents(5))]
)
async def test_expiry_by_the_orgs_choice(store: Store, on_expiry: str, charged: int) -> None:
    """E6: only `release` gives back; any other word charges, and both are journaled."""
    await store.client.hset("bg:{acme}:limits", "on_expiry", on_expiry)
    ask, _ = await store.held(cents(5))
    await store.at(60_000)

    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    assert await spent(store) == charged
    assert [entry["amount"] for entry in await store.journal("expire")] == [str(charged)]


async def test_expiry_leaves_what_it_cannot_read(store: Store) -> None:
    """E6: unknown ids leave the index, a corrupt record is kept, and the rest still expires."""
    ask, _ = await store.held(cents(5))
    await store.client.zadd("bg:expiry", {"acme|GONE1": 1, "acme|BAD1": 1})
    await store.client.hset("bg:{acme}:holds", "BAD1", "1|x")
    await store.at(60_000)

    states = await store.budgets.expire(ORG, WINDOWS, ["GONE1", "BAD1", ask.id])

    assert states == ["gone", "corrupt", "expired"]
    assert await store.client.zcard("bg:expiry") == 0
    assert await store.client.hget("bg:{acme}:holds", "BAD1") == b"1|x"


async def test_expiry_that_ends_nothing_writes_nothing(store: Store) -> None:
    """E6: the sequence counts ends, not looks."""
    ask, _ = await store.held(cents(5))

    await store.budgets.expire(ORG, WINDOWS, [ask.id])
    looked = await store.client.hget("bg:{acme}:meta", "seq")
    await store.at(60_000)
    await store.budgets.expire(ORG, WINDOWS, [ask.id, ask.id])

    assert looked == b"1"
    assert await store.client.hget("bg:{acme}:meta", "seq") == b"2"


async def test_extension_is_absolute_and_never_less(store: Store) -> None:
    """E7: the hold becomes the target, a smaller one changes nothing, a deadline only moves on."""
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


async def test_extension_is_checked_like_a_reserve(store: Store) -> None:
    """E7: more money than a budget has left is denied; more time is not."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(5))

    assert isinstance(
        await store.budgets.extend(structs.replace(ask, amount_microcents=cents(11)), held.windows),
        Denied,
    )
    await store.limits({})
    assert isinstance(await store.budgets.extend(ask, held.windows), Held)


@pytest.mark.parametrize(("budget", "day_ends"), [("day", True), ("month", False), ("total", True)])
async def test_extension_tells_when_its_window_ends(
    store: Store, budget: str, day_ends: bool
) -> None:
    """E7: the end of the running window; none of the total, nor where another window runs."""
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


async def test_extension_beyond_the_limit_is_denied_not_busy(store: Store) -> None:
    """E7: what the reservation holds itself is not in its own way: no wait would make room."""
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


async def test_extension_is_held_by_the_agent_that_reserved(store: Store) -> None:
    """E7: an extension that names another agent still counts where its settle will give back."""
    ask, held = await store.held(cents(5))

    more = structs.replace(ask, agent="writer", amount_microcents=cents(8))
    await store.budgets.extend(more, held.windows)

    assert await store.spend() == {"org.held": cents(8), "agent.researcher.held": cents(8)}


async def test_extension_of_an_ended_reservation_is_gone(store: Store) -> None:
    """E7: what has ended is not raised again."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))

    assert await store.budgets.extend(ask, held.windows) == Gone()


@pytest.mark.parametrize("verb", ["settle", "expire", "extend"])
async def test_end_waits_for_a_journal(store: Store, verb: str) -> None:
    """E8: with a journal of another type nothing ends; afterwards the same call ends it, once."""
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


async def test_settle_over_the_hold_warns_once(store: Store) -> None:
    """A cost above its hold that crosses warn_at is journaled as a warning."""
    await store.limits({"status": "active", "org.month.limit_cents": "10"})
    ask, held = await store.held(cents(1))

    await store.settle(ask, held, cents(9))

    assert [entry["kind"] for entry in await store.journal()] == ["settle", "alert"]


async def test_request_tells_a_reservation(store: Store) -> None:
    """What is known of a reservation: open, then ended, then nothing of another id."""
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
