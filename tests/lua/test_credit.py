"""credit.lua: what one budget may spend in one window is raised or lowered, and spent stays.

C1 a credit raises or lowers one budget in its running window; total needs none
C2 it is applied once, by its own id, which is kept for 7 days
C3 credits do not add up beyond what is exact
C4 a window that has ended or not begun takes no credit: GONE
C5 the first credit of a window may open it, by the rule of reserve
C6 an org that the store does not know is COLD
C7 one entry in the journal tells the credit
C8 a malformed argument is named, and nothing changes
C9 nothing but the credit of this budget is touched

Keys that somebody has damaged: test_damaged.py.
"""

import time

import pytest
from msgspec import structs

from gateway.budgets.changes import Credit
from gateway.domain.reservation import Denied, Held
from gateway.errors import StoreError
from tests.lua.calls import AMOUNTS, call, changed, hold
from tests.lua.store import ORG, Store, cents, ms

LIMITS = {"status": "active", "org.month.limit_cents": "10", "agent.*.day.limit_cents": "5"}
DAY_ENDS = str(ms("2037-11-23T00:00:00Z"))
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


async def test_repeated_credit_changes_nothing(store: Store) -> None:
    """C2: also with another amount."""
    own_id = store.id()
    await call(store, "credit", own_id)
    before = await store.contents()

    assert (await call(store, "credit", own_id, amount_microcents="9"))[0] == b"DONE"
    assert await store.contents() == before


async def test_applied_credit_is_known_for_7_days(store: Store) -> None:
    """C2: no outbox asks longer, and the key leaves by itself."""
    own_id = store.id()

    await call(store, "credit", own_id)

    assert 604_790 < await store.client.ttl(f"bg:{{acme}}:applied:{own_id}") <= 604_800


@pytest.mark.parametrize("sign", [1, -1])
async def test_credits_do_not_add_up_beyond_what_is_exact(store: Store, sign: int) -> None:
    """C3: beyond 2^53-1 no script could count them; what is refused changes nothing."""
    most = Credit(store.id(), ORG, "org", "total", "", sign * (2**53 - 1))
    assert await store.budgets.credit(most) == "OK"

    with pytest.raises(StoreError, match="amount_microcents"):
        await store.budgets.credit(structs.replace(most, id=store.id(), amount_microcents=sign))

    assert (await store.spend())["org.credit"] == sign * (2**53 - 1)
    assert len(await store.journal("credit")) == 1


@pytest.mark.parametrize("day", ["2037-11-21", "2037-11-23", "garbage"])
async def test_credit_of_another_window_is_gone(store: Store, day: str) -> None:
    """C4: yesterday has ended and tomorrow has not begun: nothing is credited."""
    change = structs.replace(credit(store, 3), window_id=day)

    assert await store.budgets.credit(change) == "GONE"
    assert await store.journal() == []


async def test_credit_that_is_gone_changes_nothing(store: Store) -> None:
    """C4: not even its id is kept: the day may still begin."""
    before = await store.contents()

    said = await call(store, "credit", store.id(), window="day:2037-11-23")

    assert said[0] == b"GONE"
    assert await store.contents() == before


async def test_credit_before_the_first_call_opens_the_day(store: Store) -> None:
    """C5: the day that a credit opens is the day that the next call finds."""
    await store.limits({**LIMITS, "timezone": "Asia/Tokyo"})
    await store.at("2037-11-22T16:00:00Z")

    word = await store.budgets.credit(structs.replace(credit(store, 3), window_id="2037-11-23"))
    _, held = await store.held(cents(8))

    assert word == "OK"
    assert held.windows.startswith("day:2037-11-23,")
    assert await store.client.ttl("bg:{acme}:spend:day:2037-11-23") > 0


async def test_window_that_a_credit_opens_leaves_with_it(store: Store) -> None:
    """C5: two days after its end, also where no call comes that would see to it."""
    await store.budgets.credit(credit(store, 3))

    left_ms = await store.client.pttl("bg:{acme}:spend:day:2037-11-22")
    assert abs(time.time() * 1000 + left_ms - ms("2037-11-25T00:00:00Z")) < 60_000


@pytest.mark.parametrize(("now", "word"), [(DAY_ENDS, "GONE"), ("inf", "OK"), ("1e15", "OK")])
async def test_credit_is_given_by_the_clock_of_the_org(store: Store, now: str, word: str) -> None:
    """C4: a clock that steps back gives nothing to a day that has ended; no instant is no clock."""
    await store.client.hset("bg:{acme}:meta", "now", now)

    assert await store.budgets.credit(credit(store, 3)) == word


async def test_credit_opens_the_name_that_goes_on(store: Store) -> None:
    """C5: a spent day goes on after the move; its reset is taken although every call is denied."""
    fields = {"status": "active", "org.day.limit_cents": "10"}
    await store.limits(fields)
    ask, held = await store.held(cents(10))
    await store.settle(ask, held, cents(10))
    await store.limits({**fields, "timezone": "America/Los_Angeles"})
    await store.at("2037-11-23T00:00:01Z")
    assert isinstance(await store.reserve(cents(1)), Denied)

    credit = Credit(store.id(), ORG, "org", "day", "2037-11-22", cents(10))

    assert await store.budgets.credit(credit) == "OK"
    assert isinstance(await store.reserve(cents(1)), Held)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "America", "/etc/passwd", "a b", b"\xff"])
async def test_credit_that_opens_a_window_names_a_bad_time_zone(
    store: Store, zone: str | bytes
) -> None:
    """C5: the sentence says which field of which org is to be mended; a running day needs none."""
    await store.client.hset("bg:{acme}:limits", "timezone", zone)
    change = credit(store, 3)

    with pytest.raises(StoreError, match="timezone of acme is "):
        await store.budgets.credit(change)
    await store.client.hdel("bg:{acme}:limits", "timezone")
    await store.held(cents(1))
    await store.client.hset("bg:{acme}:limits", "timezone", zone)

    assert await store.budgets.credit(change) == "OK"


async def test_credit_of_an_unknown_org_is_cold(store: Store) -> None:
    """C6: an org that the store does not know is not made by a credit."""
    await store.client.delete("bg:{acme}:meta")

    assert await store.budgets.credit(Credit(store.id(), ORG, "org", "total", "", 1)) == "COLD"
    assert await store.client.exists("bg:{acme}:spend:total") == 0


@pytest.mark.parametrize("scope", ["org", "agent.researcher"])
async def test_entry_tells_the_credit(store: Store, scope: str) -> None:
    """C7: every field of it; the agent is empty for the org."""
    own_id, reserved_ms = store.id(), str(store.now_ms)
    await store.at(7)

    await call(store, "credit", own_id, reserved_ms=reserved_ms, scope=scope)

    assert await store.journal() == [
        {
            "v": "1",
            "kind": "credit",
            "id": own_id,
            "entry_id": own_id,
            "org": ORG,
            "agent": scope.removeprefix("org").removeprefix("agent."),
            "amount": "3",
            "counted": "3",
            "reserved_ms": reserved_ms,
            "at_ms": str(store.now_ms),
            "windows": "total",
            "epoch": "1",
            "detail": f'{{"scope":"{scope}"}}',
        }
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in ["-0", "--1", "-", *AMOUNTS]),
        *((name, "") for name in ("id", "reserved_ms", "org", "scope", "zone", "epoch", "window")),
        *((name, "a|b") for name in ("id", "reserved_ms", "org", "scope", "zone", "epoch")),
        *(("scope", scope) for scope in ("foo", "agent.", "org.month", "agent.*")),
        ("window", "a|b"),
        ("proposal", "day|x y"),
    ],
)
async def test_credit_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """C8: one argument is wrong, and the answer is which; nothing is credited."""
    own_id, before = store.id(), await store.contents()

    said = await call(store, "credit", own_id, **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_credit_touches_its_budget_only(store: Store) -> None:
    """C9: not what is spent or held, and not the agents of an org that is credited."""
    await store.held(1)
    own_id = await hold(store)
    await call(store, "settle", own_id)
    credit_id, before = store.id(), await store.contents()

    await call(store, "credit", credit_id)

    touched = {"spend:total org.credit", f"applied:{credit_id}", "journal", "meta seq"}
    # Without these two the next reserve looks at each bound of its windows again.
    compared = {"meta running", "meta until"}
    assert changed(before, await store.contents()) - compared == touched
