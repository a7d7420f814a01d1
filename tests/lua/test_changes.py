"""credit.lua, correct.lua, repair.lua, inspect.lua and authenticate.lua.

C1 a credit raises or lowers one budget in its running window, once, and spent stays
C2 a window that does not run takes no credit; the first credit of a day may open it
C3 a correction changes every window of its reservation, once, and is journaled
C4 a repair changes counters only, once, and brings no key back
C5 what only looks changes nothing
"""

from typing import cast

import pytest
from msgspec import structs
from redis.exceptions import ResponseError
from ulid import ULID

from gateway.budgets.changes import Correction, Credit, Repair
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Denied, Held, KeyStatus
from gateway.errors import StoreError
from tests.lua.store import FROZEN_CLOCK, KEY_DIGEST, ORG, Store, cents

LIMITS = {"status": "active", "org.month.limit_cents": "10", "agent.*.day.limit_cents": "5"}
WINDOWS = "day:2037-11-22,month:2037-11,total"
CREDIT = Credit("C1", ORG, "agent.researcher", "day", "2037-11-22", cents(3))


def credit(store: Store, amount_cents: float) -> Credit:
    """Return a credit of the researcher's day."""
    return structs.replace(CREDIT, id=store.id(), amount_microcents=cents(amount_cents))


async def test_credit_raises_one_budget_once(store: Store) -> None:
    """C1: 5 and 3 more make room for 8, a repeat adds nothing, and it is journaled once."""
    await store.limits(LIMITS)
    change = credit(store, 3)

    words = [await store.budgets.credit(change), await store.budgets.credit(change)]

    assert words == ["OK", "DONE"]
    assert isinstance(await store.reserve(cents(8.000001)), Denied)
    assert isinstance(await store.reserve(cents(8)), Held)
    [entry] = await store.journal("credit")
    assert (entry["id"], entry["entry_id"], entry["amount"]) == (change.id, change.id, "3000000")


async def test_negative_credit_lowers(store: Store) -> None:
    """C1: a budget of 5 with a credit of -4 has room for 1."""
    await store.limits(LIMITS)

    assert await store.budgets.credit(credit(store, -4)) == "OK"
    assert isinstance(await store.reserve(cents(1.000001)), Denied)
    assert isinstance(await store.reserve(cents(1)), Held)


async def test_credit_of_the_total_needs_no_window(store: Store) -> None:
    """C1: a prepaid top-up is a credit on the total."""
    change = Credit(store.id(), ORG, "org", "total", "", cents(7))

    assert await store.budgets.credit(change) == "OK"
    assert (await store.spend())["org.credit"] == cents(7)
    assert await store.client.ttl("bg:{acme}:spend:total") == -1


@pytest.mark.parametrize("sign", [1, -1])
async def test_credits_do_not_add_up_beyond_what_is_exact(store: Store, sign: int) -> None:
    """C1: beyond 2^53-1 no script could count them; what is refused changes nothing."""
    most = Credit(store.id(), ORG, "org", "total", "", sign * (2**53 - 1))
    assert await store.budgets.credit(most) == "OK"

    with pytest.raises(StoreError, match="amount_microcents"):
        await store.budgets.credit(structs.replace(most, id=store.id(), amount_microcents=sign))

    assert (await store.spend())["org.credit"] == sign * (2**53 - 1)
    assert len(await store.journal("credit")) == 1


@pytest.mark.parametrize("day", ["2037-11-21", "2037-11-23", "garbage"])
async def test_credit_of_another_window_is_gone(store: Store, day: str) -> None:
    """C2: yesterday has ended and tomorrow has not begun: nothing is credited."""
    change = structs.replace(credit(store, 3), window_id=day)

    assert await store.budgets.credit(change) == "GONE"
    assert await store.journal() == []


async def test_credit_before_the_first_call_opens_the_day(store: Store) -> None:
    """C2: the day that a credit opens is the day that the next call finds."""
    await store.limits({**LIMITS, "timezone": "Asia/Tokyo"})
    await store.at("2037-11-22T16:00:00Z")

    word = await store.budgets.credit(structs.replace(credit(store, 3), window_id="2037-11-23"))
    _, held = await store.held(cents(8))

    assert word == "OK"
    assert held.windows.startswith("day:2037-11-23,")
    assert await store.client.ttl("bg:{acme}:spend:day:2037-11-23") > 0


async def test_credit_of_an_unknown_org_is_cold(store: Store) -> None:
    """C2: an org that the store does not know is not made by a credit."""
    await store.client.delete("bg:{acme}:meta")

    assert await store.budgets.credit(Credit(store.id(), ORG, "org", "total", "", 1)) == "COLD"
    assert await store.client.exists("bg:{acme}:spend:total") == 0


async def test_correction_changes_every_window_once(store: Store) -> None:
    """C3: the spend of one reservation goes down in all of its windows, with one entry."""
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


async def test_repair_changes_counters_only(store: Store) -> None:
    """C4: the differences are applied once, and no entry says so."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(5))
    changes = (("total", "org", cents(-1)), ("day:2037-11-22", "agent.researcher", cents(2)))
    change = Repair(store.id(), ORG, changes)

    words = [await store.budgets.repair(change), await store.budgets.repair(change)]

    assert words == ["OK", "DONE"]
    assert (await store.spend())["org.spent"] == cents(4)
    assert (await store.spend("day:2037-11-22"))["agent.researcher.spent"] == cents(7)
    assert len(await store.journal()) == 1


async def test_repair_brings_no_key_back(store: Store) -> None:
    """C4: counters that left by their TTL stay gone."""
    change = Repair(store.id(), ORG, (("day:2037-10-01", "org", 5),))

    assert await store.budgets.repair(change) == "OK"
    assert await store.client.exists("bg:{acme}:spend:day:2037-10-01") == 0


@pytest.mark.parametrize("verb", ["credit", "correct", "repair"])
async def test_change_that_fails_is_not_taken_for_applied(store: Store, verb: str) -> None:
    """C1 C3 C4: after a fault of the store the same change is applied, once."""
    await store.held(cents(1))
    total = await store.client.dump("bg:{acme}:spend:total")
    await store.client.set("bg:{acme}:spend:total", "not a hash")
    id = store.id()
    changes = {
        "credit": Credit(id, ORG, "org", "total", "", 5),
        "correct": Correction(id, ORG, "researcher", store.id(), WINDOWS, 5, b"{}"),
        "repair": Repair(id, ORG, (("total", "org", 5),)),
    }
    apply = getattr(store.budgets, verb)

    with pytest.raises(ResponseError):
        await apply(changes[verb])
    await store.client.delete("bg:{acme}:spend:total")
    await store.client.restore("bg:{acme}:spend:total", 0, total)

    assert [await apply(changes[verb]) for _ in range(2)] == ["OK", "DONE"]
    assert 5 in (await store.spend()).values()


@pytest.mark.parametrize("verb", ["credit", "correct"])
async def test_change_waits_for_a_journal(store: Store, verb: str) -> None:
    """C1 C3: with a journal of another type nothing changes; afterwards it is applied, once."""
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


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "/etc/passwd", "a b", b"\xff"])
async def test_credit_that_opens_a_window_names_a_bad_time_zone(
    store: Store, zone: str | bytes
) -> None:
    """C2: the sentence says which field of which org is to be mended; a running day needs none."""
    await store.client.hset("bg:{acme}:limits", "timezone", zone)
    change = credit(store, 3)

    with pytest.raises(StoreError, match="timezone of acme is "):
        await store.budgets.credit(change)
    await store.client.hdel("bg:{acme}:limits", "timezone")
    await store.held(cents(1))
    await store.client.hset("bg:{acme}:limits", "timezone", zone)

    assert await store.budgets.credit(change) == "OK"


@pytest.mark.parametrize("place", ["-1", "0", "1", "2", "2.5", "4", "x", ""])
async def test_repair_changes_spend_keys_only(store: Store, place: str) -> None:
    """C4: a place that is not one of a spend key is refused, and nothing is applied."""
    keys = ["bg:{acme}:meta", "bg:{acme}:applied:R1", "bg:{acme}:spend:total"]
    repair = load_scripts(FROZEN_CLOCK).repair

    reply = await store.wire.submit(repair, keys, ["R1", place, "org", "5"])

    assert reply[:2] == [b"BADARG", b"changes"]
    assert await store.client.exists("bg:{acme}:applied:R1") == 0
    assert await store.client.hget("bg:{acme}:meta", "org.spent") is None


@pytest.mark.parametrize("amount", ["-0", "1e3", "", "--1", "9007199254740992"])
async def test_malformed_change_is_refused(store: Store, amount: str) -> None:
    """C1 C3 C4: an amount that is not a signed integer within the range changes nothing."""
    change = Repair(store.id(), ORG, (("total", "org", cast(int, amount)),))

    with pytest.raises(StoreError, match="changes"):
        await store.budgets.repair(change)


async def test_inspect_tells_counters_and_the_journal_at_once(store: Store) -> None:
    """C5: what is spent, held and credited per scope, and the id of the last entry."""
    empty = await store.budgets.inspect(ORG, "total")
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(4))
    await store.held(cents(1), agent="writer")
    last_id = (await store.client.xinfo_stream("bg:journal"))["last-generated-id"].decode()

    seen = await store.budgets.inspect(ORG, "total")

    assert (empty.journal_id, empty.counters) == ("0-0", {})
    assert seen.journal_id == last_id
    assert seen.counters["total", "org"] == (cents(4), cents(1), 0)
    assert seen.counters["total", "agent.researcher"] == (cents(4), 0, 0)
    assert seen.counters["total", "agent.writer"] == (0, cents(1), 0)


@pytest.mark.parametrize(
    ("record", "agent", "status"),
    [
        ("k1|active||*", "", KeyStatus("OK", "k1", "*")),
        ("k1|active||writer", "", KeyStatus("OK", "k1", "writer")),
        ("k1|active||writer", "researcher", KeyStatus("AGENT_NOT_ALLOWED")),
        ("k1|revoked||*", "", KeyStatus("UNKNOWN_KEY")),
        ("k1|active|1|*", "", KeyStatus("KEY_EXPIRED")),
    ],
)
async def test_authenticate_tells_of_a_key(
    store: Store, record: str, agent: str, status: KeyStatus
) -> None:
    """C5: the status of a key before a large body is read."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, record)

    assert await store.budgets.authenticate(ORG, KEY_DIGEST, agent) == status


async def test_sequence_rises_with_every_write(store: Store) -> None:
    """A store that lost writes is found by its sequence: each writing verb adds one."""
    ask, held = await store.held(cents(1))
    await store.settle(ask, held, 0)
    await store.budgets.credit(Credit(str(ULID()), ORG, "org", "total", "", 1))
    await store.reserve(cents(5_000))

    # The denial wrote its mark, so it counts as well.
    assert await store.client.hget("bg:{acme}:meta", "seq") == b"4"
