"""Which budgets a call must pay, as operators set them, and whether an amount fits into all."""

import pytest

from gateway.domain.budget import (
    Budget,
    Counters,
    Decision,
    Invalid,
    Mode,
    available,
    chain_of,
    decide,
    field_of,
    is_past_warning,
)
from gateway.domain.money import MICROCENTS_PER_CENT
from gateway.domain.window import WindowKind

WINDOWS: tuple[WindowKind, ...] = ("day", "month", "total")
NOW_MS = 1_795_348_800_000
AGENT_RPM = "agent.researcher.rpm"
LATER_S, NOW_S = str(NOW_MS // 1000 + 1), str(NOW_MS // 1000)
MONTH = {"status": "active", "org.month.limit_cents": "100"}


def cents(number: float) -> int:
    """Return microcents."""
    return round(number * MICROCENTS_PER_CENT)


def chain(fields: dict[str, str], agent: str = "researcher") -> tuple[Budget, ...]:
    """Return a chain and insist that it is valid."""
    budgets = chain_of(fields, agent, WINDOWS, NOW_MS)
    assert not isinstance(budgets, Invalid), budgets
    return budgets


def budget(name: str, limit_cents: float = 100, mode: Mode = "hard") -> Budget:
    """Return a budget that warns at 0.8."""
    scope, _, window = name.rpartition(".")
    [kind] = [kind for kind in WINDOWS if kind == window]
    return Budget(scope, kind, cents(limit_cents), mode, 8_000)


def numbers(spent: float = 0, held: float = 0, credit: float = 0) -> Counters:
    """Return counters of cents."""
    return Counters(cents(spent), cents(held), cents(credit))


def test_chain_is_in_the_order_of_refusal() -> None:
    """The org stands before the agent, the longer window before the shorter."""
    names = ["agent.*.day", "agent.researcher.total", "org.day", "org.total", "org.month"]

    budgets = chain({"status": "active", **{f"{name}.limit_cents": "5" for name in names}})

    assert [one.name for one in budgets] == [
        "org.total",
        "org.month",
        "org.day",
        "agent.researcher.total",
        "agent.researcher.day",
    ]


def test_agent_falls_back_field_by_field() -> None:
    """A limit of its own and the mode of agent.* make one budget; the org has none of them."""
    budgets = chain(
        {
            **MONTH,
            "agent.*.month.limit_cents": "7",
            "agent.researcher.month.limit_cents": "2.5",
            "agent.*.month.mode": "soft",
            "agent.*.month.warn_at": "0.5",
            "agent.researcher.month.warn_at": "0.25",
        }
    )

    assert budgets == (
        Budget("org", "month", cents(100), "hard", 8_000),
        Budget("agent.researcher", "month", cents(2.5), "soft", 2_500),
    )


def test_none_exempts() -> None:
    """`none` is no budget: of an agent it overrules agent.*, of the org it names a window."""
    fields = {"status": "active", "org.day.limit_cents": "none", "agent.*.day.limit_cents": "1"}

    assert chain({**fields, "agent.researcher.day.limit_cents": "none"}) == ()
    assert [one.name for one in chain(fields)] == ["agent.researcher.day"]


def test_without_an_agent_only_the_org_is_read() -> None:
    """What agents set, malformed or not, is no part of the org's own chain."""
    fields = {**MONTH, "agent.*.day.limit_cents": "oops", "agent.*.status": "off"}

    assert [one.name for one in chain(fields, agent="")] == ["org.month"]


@pytest.mark.parametrize(
    ("override", "until", "limit"),
    [
        ("150", LATER_S, 150),
        ("50", LATER_S, 100),
        ("150", NOW_S, 100),
        ("150", None, 100),
        ("150", "soon", 100),
        ("150", "9" * 12, 100),
        ("lots", NOW_S, 100),
    ],
)
def test_override_raises_until_its_end(override: str, until: str | None, limit: int) -> None:
    """An override only raises, and without a valid end ahead it is not even looked at."""
    fields = {**MONTH, "org.month.override_cents": override}
    if until is not None:
        fields["org.month.override_until"] = until

    [one] = chain(fields)

    assert one.limit_microcents == cents(limit)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "status"),
        ({**MONTH, "status": "on"}, "status"),
        ({"status": "active"}, "org.<window>.limit_cents"),
        ({"status": "active", "agent.*.day.limit_cents": "5"}, "org.<window>.limit_cents"),
        ({**MONTH, "org.month.limit_cents": "1e3"}, "org.month.limit_cents"),
        ({**MONTH, "org.week.limit_cents": "none"}, "org.week.limit_cents"),
        ({**MONTH, "agent.*.day.limit_cents": ""}, "agent.*.day.limit_cents"),
        ({**MONTH, "agent.researcher.day.limit_cents": "x"}, "agent.researcher.day.limit_cents"),
        ({**MONTH, "agent.*.status": "off"}, "agent.*.status"),
        ({**MONTH, "hold_ttl_ms": "0"}, "hold_ttl_ms"),
        ({**MONTH, "hold_ttl_ms": "100000000"}, "hold_ttl_ms"),
        ({**MONTH, "org.rpm": "many"}, "org.rpm"),
        ({**MONTH, "agent.*.concurrency": "x"}, "agent.*.concurrency"),
        ({**MONTH, "agent.*.per_call_cents": "x", "agent.researcher.rpm": "x"}, AGENT_RPM),
        ({**MONTH, "org.month.mode": "firm"}, "org.month.mode"),
        (
            {**MONTH, "org.month.override_cents": "none", "org.month.override_until": LATER_S},
            "org.month.override_cents",
        ),
    ],
)
def test_what_a_call_consults_must_be_valid(fields: dict[str, str], field: str) -> None:
    """Missing or malformed is named, never guessed and never wider."""
    assert chain_of(fields, "researcher", WINDOWS, NOW_MS) == Invalid(field)


@pytest.mark.parametrize(
    "field",
    [
        "agent.writer.day.limit_cents",
        "agent.*.rpm",
        "org.day.mode",
        "org.month.warn_at",
        "org.month.limit_cent",
    ],
)
def test_what_a_call_does_not_consult_refuses_nothing(field: str) -> None:
    """Other agents, settings of no budget and shares of a warning do not close the gate."""
    fields = {**MONTH, "agent.researcher.rpm": "5", field: "oops"}

    assert [one.name for one in chain(fields)] == ["org.month"]


@pytest.mark.parametrize(
    ("warn_at", "share_bp"),
    [
        ("1", 10_000),
        ("1.0", 10_000),
        ("0.0001", 1),
        ("0.95", 9_500),
        ("0", 8_000),
        ("0.00", 8_000),
        ("1.1", 8_000),
        ("0.01234", 8_000),
        ("05", 8_000),
        ("1.", 8_000),
        ("", 8_000),
    ],
)
def test_share_that_cannot_be_read_is_the_default(warn_at: str, share_bp: int) -> None:
    """A share above 0 and at most 1, with at most 4 digits; anything else warns at 0.8."""
    [one] = chain({**MONTH, "org.month.warn_at": warn_at})

    assert one.warn_at_bp == share_bp


def test_field_that_decides_is_named() -> None:
    """An agent's own field decides where it is there; the org never falls back."""
    fields = {"agent.researcher.day.mode": "soft"}

    assert field_of(fields, "agent.researcher", "day.mode") == "agent.researcher.day.mode"
    assert field_of(fields, "agent.writer", "day.mode") == "agent.*.day.mode"
    assert field_of(fields, "org", "day.mode") == "org.day.mode"


def test_available_may_be_below_zero() -> None:
    """Limit and credit, less what is spent and held."""
    assert available(budget("org.month", 10), numbers(4, 5, 2)) == cents(3)
    assert available(budget("org.month", 10), numbers(14)) == cents(-4)


@pytest.mark.parametrize(
    ("counters", "amount", "is_past"),
    [
        (numbers(spent=79.999999), 0, False),
        (numbers(spent=80), 0, True),
        (numbers(spent=70, held=10), 0, True),
        (numbers(spent=70), 10, True),
        (numbers(spent=80, credit=1), 0, False),
        (numbers(credit=-100), 0, False),
        (numbers(credit=-100), 0.000001, True),
    ],
)
def test_warning_at_a_share(counters: Counters, amount: float, is_past: bool) -> None:
    """Spent, held and the amount together, of limit and credit; nothing used never warns."""
    assert is_past_warning(budget("org.month"), counters, cents(amount)) is is_past


ORG, AGENT = budget("org.month", 10), budget("agent.researcher.day", 5)


@pytest.mark.parametrize(
    ("org", "agent", "amount", "word", "refusing"),
    [
        (numbers(), numbers(), 5, "HELD", AGENT),
        (numbers(held=5), numbers(), 5, "HELD", ORG),
        (numbers(held=6), numbers(), 5, "BUSY", ORG),
        (numbers(spent=6), numbers(), 5, "DENIED", ORG),
        (numbers(held=6), numbers(held=1), 5, "BUSY", ORG),
        (numbers(held=6), numbers(spent=1), 5, "DENIED", AGENT),
        (numbers(spent=6), numbers(spent=1), 5, "DENIED", ORG),
        (numbers(spent=6, credit=1), numbers(), 5, "HELD", ORG),
        (numbers(spent=20), numbers(spent=20), 0, "HELD", AGENT),
    ],
)
def test_first_budget_that_is_full_refuses(
    org: Counters, agent: Counters, amount: float, word: str, refusing: Budget
) -> None:
    """DENIED outranks BUSY, then the order of the chain; what fits names the tightest budget."""
    decision = decide((ORG, AGENT), (org, agent), cents(amount))

    assert (decision.word, decision.budget) == (word, refusing)


def test_decision_tells_what_is_left() -> None:
    """With the amount held where it fits, without it where it is refused."""
    fits = decide((ORG, AGENT), (numbers(1), numbers(1)), cents(2))
    refused = decide((ORG, AGENT), (numbers(1), numbers(1)), cents(5))

    assert fits == Decision("HELD", AGENT, cents(2), ())
    assert refused == Decision("DENIED", AGENT, cents(4), ())


def test_soft_and_shadow_budgets_admit() -> None:
    """A soft budget may be the tightest and warns when full; a shadow one is never told."""
    soft, shadow = budget("org.month", 10, "soft"), budget("org.day", 1, "shadow")

    both = decide((soft, shadow), (numbers(10), numbers(10)), cents(1))
    alone = decide((shadow,), (numbers(10),), cents(1))

    assert both == Decision("HELD", soft, cents(-1), (soft,))
    assert alone == Decision("HELD", None, 0, ())


def test_full_soft_budget_warns_though_nothing_is_used() -> None:
    """A budget without room is told even where corrections have brought its spend below zero."""
    soft = budget("org.month", 10, "soft")

    decision = decide((soft,), (numbers(spent=-5, credit=-15),), cents(1))

    assert decision.warned == (soft,)
