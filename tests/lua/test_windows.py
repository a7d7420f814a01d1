"""The scripts open windows by the store's clock, so that no instant has two budgets.

W1 while a window runs, it is the only one accepted, whatever a gateway proposes
W2 the next window starts where the last one ended, also when the zone has changed between
W3 money lands in the windows of its reserve, however late it settles
W4 counters leave by themselves: 48 hours after the last end of a day, 40 days after a month's
W5 a limit on a window that the node no longer counts refuses
"""

import pytest
from msgspec import structs

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.node import Node
from gateway.budgets.proposals import Proposal
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Held, Refused
from gateway.domain.window import HOUR_MS
from tests.lua.store import FROZEN_CLOCK, ORG, Store, cents, ms

LIMITS = {"status": "active", "org.month.limit_cents": "1000"}


def day(held: Held) -> str:
    """Return the day that a hold is counted in."""
    return held.windows.split(",")[0]


async def in_zone(store: Store, zone: str) -> None:
    """Set the org's zone."""
    await store.limits({**LIMITS, "timezone": zone})


@pytest.mark.parametrize(
    ("zone", "last", "today", "tomorrow"),
    [
        ("UTC", "2037-11-22T23:59:59.999Z", "2037-11-22", "2037-11-23"),
        ("America/Santiago", "2037-09-06T03:59:59.999Z", "2037-09-05", "2037-09-06"),
        ("America/Santiago", "2037-04-05T03:59:59.999Z", "2037-04-04", "2037-04-05"),
        ("Australia/Lord_Howe", "2037-04-05T12:59:59.999Z", "2037-04-05", None),
        ("Australia/Lord_Howe", "2037-10-04T12:59:59.999Z", "2037-10-04", "2037-10-05"),
        ("America/New_York", "2037-03-09T03:59:59.999Z", "2037-03-08", "2037-03-09"),
        ("America/New_York", "2037-11-02T04:59:59.999Z", "2037-11-01", "2037-11-02"),
    ],
)
async def test_midnight_on_any_day(
    store: Store, zone: str, last: str, today: str, tomorrow: str | None
) -> None:
    """W2: the last millisecond belongs to today and the next one to tomorrow, DST days included."""
    await in_zone(store, zone)
    await store.at(last)
    _, before = await store.held(cents(1))
    await store.at(1)
    _, after = await store.held(cents(2))

    assert (day(before), day(after)) == (f"day:{today}", f"day:{tomorrow or today}")
    assert (await store.spend())["org.held"] == cents(3)


async def test_month_ends_with_its_last_day(store: Store) -> None:
    """W2: at the end of a month both the day and the month are new, and nothing of them is held."""
    await store.at("2037-11-30T23:59:59.999Z")
    await store.held(cents(1))
    await store.at(1)
    _, held = await store.held(cents(2))

    assert held.windows == "day:2037-12-01,month:2037-12,total"
    assert (await store.spend("month:2037-12"))["org.held"] == cents(2)


@pytest.mark.parametrize(
    ("zone", "next_day", "end"),
    [
        ("Asia/Tokyo", "day:2037-11-23", "2037-11-23T15:00:00Z"),
        ("Pacific/Honolulu", "day:2037-11-22", "2037-11-23T10:00:00Z"),
    ],
)
async def test_zone_change_at_noon(store: Store, zone: str, next_day: str, end: str) -> None:
    """W2: today runs on to its old end; the next day goes from there to the new zone's midnight."""
    await store.held(cents(1))
    await in_zone(store, zone)
    _, same_day = await store.held(cents(1))
    await store.at("2037-11-23T00:00:00Z")
    _, following = await store.held(cents(1))

    assert day(same_day) == "day:2037-11-22"
    assert day(following) == next_day
    meta = await store.client.hgetall("bg:{acme}:meta")
    assert int(meta[b"day.start"]) == ms("2037-11-23T00:00:00Z")
    assert int(meta[b"day.end"]) == ms(end)


async def test_two_gateways_of_different_zones_share_one_budget(store: Store) -> None:
    """W1: a gateway that learned another zone proposes in vain and lands in the running window."""
    await in_zone(store, "Asia/Tokyo")
    await store.held(cents(1))
    await in_zone(store, "UTC")
    other = Bookkeeping(store.wire, load_scripts(FROZEN_CLOCK), 60_000, 1_000)

    held = await other.reserve(store.ask(cents(2)))

    assert isinstance(held, Held)
    assert day(held) == "day:2037-11-22"
    days = [key async for key in store.client.scan_iter("bg:{acme}:spend:day:*")]
    assert days == [b"bg:{acme}:spend:day:2037-11-22"]


async def test_running_window_is_not_moved_by_other_bounds(store: Store) -> None:
    """W1: a proposal with the right name and other bounds is refused with the stored ones."""
    await store.held(cents(1))
    before = await store.client.hgetall("bg:{acme}:meta")
    other = Bookkeeping(store.wire, load_scripts(FROZEN_CLOCK), 60_000, 1_000)
    proposal = other.propose(ORG, store.now_ms)
    forged = structs.replace(proposal, bounds=proposal.bounds.replace("00|", "01|"))

    assert await _status(store, other, forged) == b"WINDOW"
    assert await store.client.hgetall("bg:{acme}:meta") == before


async def test_running_window_is_not_made_longer(store: Store) -> None:
    """W1: a proposal that differs in nothing but an end is refused, too."""
    _, held = await store.held(cents(1))
    other = Bookkeeping(store.wire, load_scripts(FROZEN_CLOCK), 60_000, 1_000)
    proposal = other.propose(ORG, store.now_ms)
    longer = structs.replace(
        proposal,
        bounds=proposal.bounds.replace(str(ms("2037-11-23T00:00:00Z")), str(held.resets_ms)),
    )

    assert longer.bounds != proposal.bounds
    assert await _status(store, other, longer) == b"WINDOW"


async def test_window_of_another_zone_is_not_opened(store: Store) -> None:
    """W1: the first call of a day opens the window of the org's own zone, or none."""
    await in_zone(store, "Asia/Tokyo")
    other = Bookkeeping(store.wire, load_scripts(FROZEN_CLOCK), 60_000, 1_000)

    assert await _status(store, other, other.propose(ORG, store.now_ms)) == b"WINDOW"
    assert await store.spend() == {}


async def test_window_that_begins_before_the_last_one_ended_is_not_opened(store: Store) -> None:
    """W2: a millisecond that two windows share would be spent in either."""
    await store.held(cents(1))
    await store.at("2037-11-23T00:00:00Z")
    proposal = store.budgets.propose(ORG, store.now_ms)
    earlier = structs.replace(
        proposal, bounds=proposal.bounds.replace(f"|{store.now_ms}|", f"|{store.now_ms - 1}|")
    )

    assert earlier.bounds != proposal.bounds
    assert await _status(store, store.budgets, earlier) == b"WINDOW"
    assert await _status(store, store.budgets, proposal) == b"HELD"


async def _status(store: Store, budgets: Bookkeeping, proposal: Proposal) -> bytes:
    reply = await budgets.submit_reserve(store.ask(cents(1)), proposal)
    status: bytes = reply[0]
    return status


async def test_clock_that_steps_back_reopens_no_window(store: Store) -> None:
    """W1: after midnight a small step back counts in the new day."""
    await store.at("2037-11-23T00:00:01Z")
    await store.held(cents(1))
    await store.at(-2_000)

    _, held = await store.held(cents(2))

    assert day(held) == "day:2037-11-23"


async def test_clock_that_jumped_back_admits_nothing(store: Store) -> None:
    """W1: a server more than 5 minutes behind what it said before is not believed."""
    await store.held(cents(1))
    await store.at(-300_001)

    assert await store.reserve(cents(1)) == Refused("CLOCK")


async def test_late_settle_lands_where_it_was_reserved(store: Store) -> None:
    """W3: a call that runs over midnight is spent on the day it began."""
    await store.at("2037-11-22T23:59:59Z")
    ask, held = await store.held(cents(5))
    await store.at(2_000)

    await store.settle(ask, held, cents(4))

    assert (await store.spend("day:2037-11-22"))["org.spent"] == cents(4)
    assert await store.spend("day:2037-11-23") == {}


async def test_counters_leave_by_themselves(store: Store) -> None:
    """W4: a day's counters stay 48 hours after its end, a month's 40 days, the total's always."""
    # Keys expire by the server's own clock, so read the instant instead of waiting for it.
    await store.held(cents(1))
    _, held = await store.held(cents(1))
    real_ms = int((await store.client.time())[0]) * 1000

    for window, end, days in [
        (day(held), "2037-11-23T00:00:00Z", 2),
        ("month:2037-11", "2037-12-01T00:00:00Z", 40),
    ]:
        left_ms = await store.client.pttl(f"bg:{{acme}}:spend:{window}")
        assert abs(left_ms - (ms(end) + days * 24 * HOUR_MS - real_ms)) < 60_000
    assert await store.client.ttl("bg:{acme}:spend:total") == -1


async def test_counters_are_kept_48_hours_after_the_new_end(store: Store) -> None:
    """W4: the key was created for the first end; the second is 11 hours later."""
    await store.held(1)
    fields = {"status": "active", "org.month.limit_cents": "1000", "timezone": "Pacific/Niue"}
    await store.limits(fields)
    await store.at("2037-11-23T00:00:01Z")

    _, held = await store.held(1)

    assert held.windows.startswith("day:2037-11-22,")
    left_ms = await store.client.pttl("bg:{acme}:spend:day:2037-11-22")
    seconds, _ = await store.client.time()
    end_ms = int(await store.client.hget("bg:{acme}:meta", "day.end"))
    assert seconds * 1000 + left_ms >= end_ms + 48 * HOUR_MS - 5000


async def test_settle_after_the_counters_left_brings_no_key_back(store: Store) -> None:
    """W4: money of a window whose counters are gone is spent in the windows that are left."""
    ask, held = await store.held(cents(5))
    await store.client.delete("bg:{acme}:spend:day:2037-11-22")

    await store.settle(ask, held, cents(4))

    assert await store.client.exists("bg:{acme}:spend:day:2037-11-22") == 0
    assert await store.spend() == {"org.spent": cents(4), "agent.researcher.spent": cents(4)}


async def test_window_that_left_the_list_takes_its_limit_along(store: Store) -> None:
    """W5: after the node's list has changed, the next call is made with the new one."""
    await store.limits({"status": "active", "org.total.limit_cents": "5"})
    await store.held(0)
    store.wire.node = Node(1, "1", ("day", "month"))
    # The windows of the store's own time: those of the gateway's clock would be refused before.
    store.budgets.propose(ORG, store.now_ms)

    outcome = await store.reserve(0)

    assert outcome == Refused("LIMITS_INVALID", "org.total.limit_cents")
