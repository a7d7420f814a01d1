"""Journal entries of any fields: a broken one is set aside and named, its neighbours are booked.

E1 whatever one entry of a batch holds, all others are booked once, and so is it or it is kept aside
E2 what is kept aside says which field is wrong, and holds what came
"""

from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ledger.posting import post
from tests.fuzzing import examples
from tests.ledger.test_posting import RESERVED_MS, Pair, aggregates, entry, new_id
from tests.ledger.test_replay import clear

_FIELDS = [*entry("correct", "X", 1)[1], "extra"]
_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
    st.sampled_from(["settle", "expire", "correct", "credit", "alert", "acme", "0", "-1", "007"]),
    st.sampled_from(
        ["9007199254740991", "9007199254740992", "-0", "٣", "1e3", "nan", "\0", "\ufffd"]
    ),
    st.sampled_from(["total", "total,total", "day:2026-11-22,total", "day:x", ",", "day:\0,total"]),
    st.sampled_from([str(RESERVED_MS), "1577836800000", "4102444799999", "4102444800000", "0"]),
)
_DETAILS = st.one_of(
    st.sampled_from(
        [
            "[" * 3_000,
            '{"a":' * 500 + "1" + "}" * 500,
            '{"model":"\\u0000"}',
            '{"model":"\\ud800"}',
            '{"alert":"\\\\u0000","x":"\\u0000"}',
            '{"input_tokens":1e999,"status":-1,"duration_ms":99999999999999999999}',
            '{"model":[],"key_id":{"a":1},"source":null}',
            '"text"',
        ]
    ),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.text(max_size=9)),
        lambda parts: st.dictionaries(
            st.sampled_from(["model", "input_tokens", "status", "key_id", "alert"]), parts
        ),
        max_leaves=6,
    ).map(lambda value: orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()),
)
_CHANGES = st.dictionaries(
    st.sampled_from(_FIELDS), st.one_of(st.none(), _TEXTS), min_size=1, max_size=3
)
_KINDS = st.sampled_from(["settle", "expire", "correct", "credit", "alert"])


@st.composite
def broken(draw: st.DrawFn) -> Pair:
    """Draw an entry in which some fields are missing or hold anything."""
    journal_id, fields = entry(draw(_KINDS), new_id(), draw(st.integers(0, 99)))
    changed: dict[str, str] = {**fields, "detail": draw(_DETAILS)}
    if draw(st.booleans()):
        for name, value in draw(_CHANGES).items():
            changed.pop(name, None)
            if value is not None:
                changed[name] = value
    return journal_id, changed


@examples(80)
@given(garbled=broken(), place=st.integers(0, 3))
@example(("1-1", {}), 0)
@example(("1-2", {"hello": "w\0rld", "epoch": "\0"}), 3)
async def test_one_entry_spoils_no_other(pool: asyncpg.Pool, garbled: Pair, place: int) -> None:
    """E1 E2: the others are booked, and a second delivery of all changes nothing."""
    await clear(pool)
    await pool.execute("DELETE FROM dead_entry; DELETE FROM alert")
    sound = [entry("settle", new_id(), amount) for amount in (1, 20, 300)]
    batch = [*sound[:place], garbled, *sound[place:]]

    kept_aside = await post(pool, batch)
    again = await post(pool, batch)

    booked = await pool.fetch("SELECT reservation_id, amount_microcents FROM usage_entry")
    amounts = {row["reservation_id"]: row["amount_microcents"] for row in booked}
    dead = await pool.fetch("SELECT reason FROM dead_entry")
    own: Any = amounts.pop(garbled[1].get("id", ""), None)
    assert amounts == {fields["id"]: int(fields["amount"]) for _, fields in sound}
    assert kept_aside == again == len(dead) <= 1
    assert len(booked) - 3 == (own is not None)
    assert not (dead and own is not None)
    if dead:
        assert any(name in dead[0]["reason"] for name in _FIELDS), dead
    if own is None:
        assert (await aggregates(pool))["", "total"] == 321


@pytest.mark.parametrize("field", ["v", "kind", "id", "org", "agent", "amount", "counted", "epoch"])
async def test_missing_field_is_named(pool: asyncpg.Pool, field: str) -> None:
    """E2: the reason names it, and every other field of the entry is kept."""
    journal_id, fields = entry("settle", new_id(), 5)
    rest = {name: value for name, value in fields.items() if name != field}

    assert await post(pool, [(journal_id, rest)]) == 1

    row = await pool.fetchrow("SELECT fields, reason FROM dead_entry")
    assert row is not None
    assert row["reason"].startswith(f"{field} is ")
    assert orjson.loads(row["fields"]) == rest
