"""The scripts and the domain read the same budgets out of a limits hash, and decide the same."""

from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import structs

from gateway.domain.budget import Budget, Counters, Invalid, chain_of, decide
from gateway.domain.reservation import Denied, Held, Refused
from gateway.domain.window import WindowKind
from tests.lua.store import Store

KINDS: tuple[WindowKind, ...] = ("day", "month", "total")
KEYS = {"day": "day:2037-11-22", "month": "month:2037-11", "total": "total"}
NOON_S = 2142504000
SCOPES = ("org", "agent.researcher", "agent.*")
RULES = ("per_call_cents", "concurrency", "rpm")

_VALUES = {
    "limit_cents": ["none", "0", "1", "2.5", "5.000001", "8", "10", "9007199244.740991"],
    "mode": ["hard", "hard", "soft", "shadow"],
    "warn_at": ["0.5", "0.0001", "1", "1.0", "0", "1.5", "05", "1.", "0.12345", "eighty", ""],
    "override_cents": ["0", "4", "12.5"],
    "override_until": [str(NOON_S + 1), str(NOON_S), "0", "soon", "1e12", "999999999999", ""],
}
_BUDGET_FIELDS = {
    f"{scope}.{kind}.{setting}": values
    for scope in SCOPES
    for kind in KINDS
    for setting, values in _VALUES.items()
}
# Wide enough to refuse nothing: what they refuse is not a question of budgets.
_RULE_FIELDS = {f"{scope}.{rule}": ["none", "1000"] for scope in SCOPES for rule in RULES}
_OTHER_FIELDS = {
    "hold_ttl_ms": ["60000"],
    "agent.researcher.status": ["active"],
    "agent.*.status": ["active"],
    "agent.writer.day.limit_cents": ["oops"],
}
_FIELDS = {**_OTHER_FIELDS, **_RULE_FIELDS, **_BUDGET_FIELDS}
# Malformed in nearly every field, and right in some only.
_GARBAGE = ["", "nan", "-1", "1e3", " 5 ", "1.2345678", "9007199254.740992", "٣"]
_MISPLACED = ["none", "5", "100000000"]

_valid = st.fixed_dictionaries(
    {name: st.sampled_from([None, None, *values]) for name, values in _FIELDS.items()}
)
_spoiled = st.dictionaries(
    st.sampled_from(["status", *_FIELDS, "org.hour.limit_cents", "agent.*.week.limit_cents"]),
    st.sampled_from([*_GARBAGE, *_MISPLACED]),
    max_size=2,
)
_missing = st.sampled_from([*[()] * 8, ("status",), tuple(f"org.{k}.limit_cents" for k in KINDS)])
_hashes = st.builds(
    lambda valid, spoiled, missing: {
        name: value
        for name, value in {"status": "active", **valid, **spoiled}.items()
        if value is not None and name not in missing
    },
    _valid,
    st.one_of(st.just({}), st.just({}), _spoiled),
    _missing,
)
MONTH = {"status": "active", "org.month.limit_cents": "10"}
NO_COUNTERS = {
    (scope, kind): Counters(0, 0, 0) for scope in ("org", "agent.researcher") for kind in KINDS
}
_cents, _holds = st.integers(0, 4_000_000), st.integers(0, 9_000_000)
_counters = st.fixed_dictionaries(
    {
        place: st.builds(Counters, _cents, _holds, st.integers(-3_000_000, 5_000_000))
        for place in NO_COUNTERS
    }
)
_amounts = st.one_of(st.just(0), st.integers(1, 5_000_000))


async def begin(store: Store, fields: dict[str, str], counters: dict[Any, Counters]) -> None:
    """Give the store these limits and counters, and nothing else."""
    await store.client.delete("bg:{acme}:rate", "bg:{acme}:holds", "bg:journal")
    await store.limits(fields)
    for kind, window in KEYS.items():
        numbers = {
            f"{scope}.{name}": number
            for (scope, of_kind), count in counters.items()
            if of_kind == kind
            for name, number in zip(("spent", "held", "credit"), count, strict=True)
        }
        await store.client.delete(f"bg:{{acme}}:spend:{window}")
        await store.client.hset(f"bg:{{acme}}:spend:{window}", mapping=numbers)


def expected(chain: tuple[Budget, ...], counters: dict[Any, Counters], amount: int) -> object:
    """Return what the domain expects of a reserve, in the members that a test can know."""
    numbers = [counters[budget.scope, budget.window] for budget in chain]
    decision = decide(chain, numbers, amount)
    if decision.word == "HELD":
        name = decision.budget.name if decision.budget else ""
        return name, decision.available_microcents, tuple(b.name for b in decision.warned)
    assert decision.budget is not None
    spent, held, credit = numbers[chain.index(decision.budget)]
    limit = decision.budget.limit_microcents
    return decision.word, decision.budget.name, limit, credit, spent, held


@settings(
    max_examples=500,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example({**MONTH, "org.hour.limit_cents": "5"}, NO_COUNTERS, 1)
@example({**MONTH, "hold_ttl_ms": "100000000"}, NO_COUNTERS, 1)
@given(fields=_hashes, counters=_counters, amount=_amounts)
@pytest.mark.parametrize("store", ["fakeredis"], indirect=True)
async def test_chain_is_the_one_of_the_scripts(
    store: Store, fields: dict[str, str], counters: dict[Any, Counters], amount: int
) -> None:
    """Field that refuses, budget that refuses, its limit, the tightest one, warnings: all agree."""
    await begin(store, fields, counters)

    outcome = await store.reserve(amount)

    chain = chain_of(fields, "researcher", KINDS, store.now_ms)
    if isinstance(chain, Invalid):
        assert outcome == Refused("LIMITS_INVALID", chain.field)
    elif isinstance(outcome, Held):
        told = (outcome.budget, outcome.available_microcents, outcome.warnings)
        assert told == expected(chain, counters, amount)
    else:
        assert isinstance(outcome, Denied)
        assert structs.astuple(outcome)[:-1] == expected(chain, counters, amount)
