"""reserve.lua decides on money: precedence, modes, overrides, warnings, rates.

Who is admitted at all: R1 to R8, in test_reserve.py. Here:

R9 DENIED where limit + credit - spent is too small, BUSY where only holds are in the way
R10 the org refuses before the agent, the longer window before the shorter, DENIED before BUSY
R11 a hold is told the tightest budget; none is one without a limit
R12 soft and shadow budgets admit, and the journal says what a hard one would have denied
R13 the first denial and the first warning are journaled once per limit
R14 overrides only raise, and only until a valid instant in the future
R15 ceilings per call, open calls and calls per minute hold in the same call

The same decisions as the domain makes them: test_chain.py.
"""

import json

import pytest

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.reservation import Denied, Held, Refused
from tests.lua.calls import TOTAL, call, hold
from tests.lua.store import ORG, Store, cents

ACTIVE = {"status": "active"}


def limits(**fields: str) -> dict[str, str]:
    """Return a limits hash; `org_month` stands for `org.month.limit_cents`."""
    named = {name.replace("_", "."): value for name, value in fields.items()}
    return {**ACTIVE, **{f"{name}.limit_cents": value for name, value in named.items()}}


async def test_denied_and_busy_tell_what_is_missing(store: Store) -> None:
    """R9: a full budget is DENIED, one that waits for holds is BUSY, with its numbers."""
    await store.limits(limits(org_month="10"))
    ask, held = await store.held(cents(4))
    await store.settle(ask, held, cents(4))
    await store.held(cents(5))
    before = await store.spend()

    busy = await store.reserve(cents(6))
    denied = await store.reserve(cents(6.000001))

    ends_ms = held.resets_ms
    assert busy == Denied("BUSY", "org.month", cents(10), 0, cents(4), cents(5), ends_ms)
    assert denied == Denied("DENIED", "org.month", cents(10), 0, cents(4), cents(5), ends_ms)
    assert await store.spend() == before
    assert isinstance(await store.reserve(cents(1)), Held)


async def test_counter_never_passes_the_exact_range(store: Store) -> None:
    """R9: even without a limit, what would pass 2^53-1 microcents is DENIED."""
    await store.limits(limits(org_month="none"))
    await store.held(AMOUNT_MICROCENTS_MAX - 1)

    assert isinstance(await store.reserve(2), Denied)
    assert isinstance(await store.reserve(1), Held)


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        (limits(org_month="1", agent_researcher_total="1"), "org.month"),
        (limits(org_day="1", org_month="1", org_total="1"), "org.total"),
        (limits(org_day="1", org_month="1"), "org.month"),
        (limits(org_month="none", agent_researcher_day="1"), "agent.researcher.day"),
        ({**limits(org_month="9"), "agent.*.day.limit_cents": "1"}, "agent.researcher.day"),
    ],
)
async def test_precedence(store: Store, fields: dict[str, str], budget: str) -> None:
    """R10: the org refuses before the agent, and the longer window before the shorter."""
    await store.limits(fields)

    outcome = await store.reserve(cents(2))

    assert isinstance(outcome, Denied)
    assert (outcome.reason, outcome.budget) == ("DENIED", budget)


async def test_denied_outranks_busy(store: Store) -> None:
    """R10: an agent's full budget is told before the org's that only waits for holds."""
    await store.limits(limits(org_month="10", agent_researcher_day="3"))
    await store.held(cents(8), agent="writer")

    outcome = await store.reserve(cents(4))

    assert isinstance(outcome, Denied)
    assert (outcome.reason, outcome.budget) == ("DENIED", "agent.researcher.day")


async def test_tightest_budget_is_told(store: Store) -> None:
    """R11: a hold names the budget with the least left, and what is left of it."""
    await store.limits(limits(org_month="10", agent_researcher_day="3"))

    _, held = await store.held(cents(1))

    assert (held.budget, held.available_microcents) == ("agent.researcher.day", cents(2))


async def test_none_exempts_an_agent(store: Store) -> None:
    """R11: `none` is no limit: an agent's own none overrules the limit of agent.*."""
    await store.limits(
        {
            **ACTIVE,
            "org.month.limit_cents": "none",
            "agent.*.day.limit_cents": "1",
            "agent.researcher.day.limit_cents": "none",
        }
    )

    assert isinstance(await store.reserve(cents(500)), Held)
    assert isinstance(await store.reserve(cents(2), agent="writer"), Denied)


async def test_zero_quote_passes_the_money_checks(store: Store) -> None:
    """R9: a quote of zero is held even where nothing is left, and meets every other check."""
    await store.limits(limits(org_month="0"))

    assert isinstance(await store.reserve(0), Held)
    assert isinstance(await store.reserve(1), Denied)


@pytest.mark.parametrize("mode", ["soft", "shadow"])
async def test_soft_and_shadow_admit_and_are_journaled(store: Store, mode: str) -> None:
    """R12: the call goes through; the journal says once what a hard budget would have denied."""
    await store.limits({**limits(org_month="1"), "org.month.mode": mode})

    outcomes = [await store.reserve(cents(2)) for _ in range(3)]

    told = ("org.month",) if mode == "soft" else ()
    assert [outcome.warnings for outcome in outcomes if isinstance(outcome, Held)] == [told] * 3
    details = [json.loads(entry["detail"]) for entry in await store.journal("alert")]
    assert [(detail["alert"], detail["mode"]) for detail in details] == [
        ("denied", mode),
        ("warned", mode),
    ]


async def test_soft_budget_does_not_hide_a_hard_one(store: Store) -> None:
    """R12: a soft budget that is full leaves the decision to the hard ones."""
    await store.limits(
        {**limits(org_month="1", agent_researcher_day="2"), "org.month.mode": "soft"}
    )

    assert isinstance(await store.reserve(cents(2)), Held)
    assert isinstance(await store.reserve(cents(2)), Denied)
    assert (await store.budgets.inspect(ORG)).counters["total", "org"].held_microcents == cents(2)


async def test_first_denial_is_journaled_once_per_limit(store: Store) -> None:
    """R13: a raised limit arms the mark again; a repeat under the same limit stays silent."""
    await store.limits(limits(org_month="1"))
    await store.reserve(cents(2))
    await store.reserve(cents(2))
    await store.limits(limits(org_month="1.5"))
    await store.reserve(cents(2))

    entries = await store.journal()

    assert [json.loads(entry["detail"])["limit_microcents"] for entry in entries] == [
        cents(1),
        cents(1.5),
    ]


async def test_entry_tells_the_denial(store: Store) -> None:
    """R13: every field of it; it books nothing, and names the budget with its numbers."""
    await hold(store)
    await call(store, "credit", store.id(), amount_microcents="2")
    await store.client.delete("bg:journal")
    await store.limits({**TOTAL, "org.total.limit_cents": "0.000003"})
    own_id, reserved_ms = store.id(), str(store.now_ms)
    await store.at(7)

    await call(store, "reserve", own_id, amount_microcents="6", reserved_ms=reserved_ms)

    [entry] = await store.journal()
    assert json.loads(entry.pop("detail")) == {
        "alert": "denied",
        "budget": "org.total",
        "window_id": "",
        "mode": "hard",
        "limit_microcents": 3,
        "credit_microcents": 2,
        "spent_microcents": 0,
        "held_microcents": 5,
    }
    assert entry == {
        "v": "1",
        "kind": "alert",
        "id": own_id,
        "entry_id": "",
        "org": ORG,
        "agent": "researcher",
        "amount": "0",
        "counted": "0",
        "reserved_ms": reserved_ms,
        "at_ms": str(store.now_ms),
        "windows": "total",
        "epoch": "1",
    }


@pytest.mark.parametrize(
    ("warn_at", "amount", "warns"),
    [
        (None, cents(7.999999), False),
        (None, cents(8), True),
        ("0.5", cents(5), True),
        ("0.5", cents(4.999999), False),
        ("1", cents(9.999999), False),
        ("1.0", cents(10), True),
        ("0.0001", cents(0.001), True),
        # Malformed shares count as 0.8: a warning never closes the gate.
        ("0", cents(8), True),
        ("1.5", cents(8), True),
        ("eighty", cents(8), True),
        ("0.12345", cents(7.999999), False),
        ("05", cents(5), False),
        ("1.", cents(8), True),
    ],
)
async def test_warning_at_a_share_of_the_limit(
    store: Store, warn_at: str | None, amount: int, warns: bool
) -> None:
    """R13: spent and held together at the share or above it warn, on the answer and once."""
    settings = {"org.month.warn_at": warn_at} if warn_at is not None else {}
    await store.limits({**limits(org_month="10"), **settings})

    _, held = await store.held(amount)

    assert held.warnings == (("org.month",) if warns else ())
    assert len(await store.journal("alert")) == warns


@pytest.mark.parametrize(
    ("override", "until_s", "amount", "fits"),
    [
        ("20", 1, 20, True),
        ("20", 1, 21, False),
        ("20", 0, 11, False),
        ("5", 1, 10, True),
        ("20", None, 11, False),
    ],
)
async def test_override_raises_until_its_end(
    store: Store, override: str, until_s: int | None, amount: int, fits: bool
) -> None:
    """R14: an override is absolute, never lowers, and without a valid end it is ignored."""
    fields = {**limits(org_month="10"), "org.month.override_cents": override}
    if until_s is not None:
        fields["org.month.override_until"] = str(store.now_ms // 1000 + until_s)
    await store.limits(fields)

    assert isinstance(await store.reserve(cents(amount)), Held) is fits


@pytest.mark.parametrize("until", ["soon", "-1", "1e12", "999999999999", ""])
async def test_override_without_a_valid_end_is_ignored(store: Store, until: str) -> None:
    """R14: an end that cannot be read never makes a budget wider."""
    await store.limits(
        {
            **limits(org_month="10"),
            "org.month.override_cents": "20",
            "org.month.override_until": until,
        }
    )

    assert isinstance(await store.reserve(cents(11)), Denied)


async def test_quote_of_zero_needs_no_money(store: Store) -> None:
    """R9: also where more is spent than there was: it cannot cost anything."""
    await store.limits(limits(org_month="10"))
    ask, held = await store.held(cents(10))
    await store.settle(ask, held, cents(11))

    assert isinstance(await store.reserve(0), Held)
    assert isinstance(await store.reserve(1), Denied)


@pytest.mark.parametrize("budget", ["org.month", "agent.researcher.day", "agent.*.day"])
@pytest.mark.parametrize("text", ["1e3", "-5", "none", "nan", "9007199255", ""])
async def test_override_that_is_no_number_refuses(store: Store, budget: str, text: str) -> None:
    """R14: while it counts it is named, and nothing is admitted below it."""
    override = {f"{budget}.override_cents": text, f"{budget}.override_until": "2142504060"}
    await store.limits({**limits(org_month="10"), "agent.*.day.limit_cents": "10", **override})

    assert await store.reserve(cents(1)) == Refused("LIMITS_INVALID", f"{budget}.override_cents")


@pytest.mark.parametrize("scope", ["org", "agent.researcher"])
async def test_rate_of_zero_admits_nothing(store: Store, scope: str) -> None:
    """R15: not even the first call, which any other rate has room for."""
    await store.limits({**limits(org_month="10"), f"{scope}.rpm": "0"})

    assert await store.reserve(cents(1)) == Refused("RATE", scope, retry_ms=60_000)


@pytest.mark.parametrize("field", ["org.per_call_cents", "agent.*.per_call_cents"])
async def test_ceiling_per_call(store: Store, field: str) -> None:
    """R15: one call above the ceiling is refused, whatever the budgets have left."""
    await store.limits({**limits(org_month="10"), field: "2"})

    outcome = await store.reserve(cents(2.000001))

    scope = "org" if field.startswith("org") else "agent.researcher"
    assert outcome == Refused("PER_CALL", scope, limit=cents(2))
    assert isinstance(await store.reserve(cents(2)), Held)


async def test_concurrency_counts_open_calls(store: Store) -> None:
    """R15: the call beyond the number of open ones is refused until one of them ends."""
    await store.limits({**limits(org_month="10"), "agent.*.concurrency": "2"})
    ask, held = await store.held(0)
    await store.held(0)

    full = await store.reserve(0)
    other = await store.reserve(0, agent="writer")
    await store.settle(ask, held, 0)

    assert full == Refused("CONCURRENCY", "agent.researcher", limit=2)
    assert isinstance(other, Held)
    assert isinstance(await store.reserve(0), Held)


async def test_rate_admits_a_full_minute_at_once(store: Store) -> None:
    """R15: rpm calls may come at once; the next one fits when its share of the minute is over."""
    await store.limits({**limits(org_month="10"), "org.rpm": "3"})
    ask, _ = await store.held(0)
    await store.held(0)
    await store.held(0)

    full = await store.reserve(0)
    again = await store.budgets.reserve(ask)
    await store.at(20_000)

    assert full == Refused("RATE", "org", retry_ms=20_000)
    assert isinstance(again, Held)
    assert isinstance(await store.reserve(0), Held)
    assert isinstance(await store.reserve(0), Refused)


async def test_refusal_uses_no_rate(store: Store) -> None:
    """R15: only admissions consume; a denied call leaves the rate as it was."""
    await store.limits({**limits(org_month="1"), "org.rpm": "1"})

    assert isinstance(await store.reserve(cents(2)), Denied)
    assert isinstance(await store.reserve(cents(1)), Held)
