"""Journal entries of any fields: a broken one is set aside and named, its neighbours are booked.

E1 whatever one entry of a batch holds, all others are booked once, and so is it or it is kept aside
E2 what is kept aside says which field is wrong, and holds what came
"""

import re

import asyncpg
import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.ledger.posting import post
from tests.fuzzing import examples
from tests.ledger.test_posting import RESERVED_MS, Pair, entry, new_id
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
# Keys of Redis are built of these, and the org's own sums stand under the agent ''.
_IDS = ("reservation_id", "org", "agent", "epoch")
_KINDS = st.sampled_from(["settle", "expire", "correct", "credit", "alert"])


def changed(kind: str, **changes: str) -> Pair:
    """Return an entry with some other fields."""
    journal_id, fields = entry(kind, new_id(), 7)
    return journal_id, {**fields, **changes}


@st.composite
def broken(draw: st.DrawFn) -> Pair:
    """Draw an entry in which some fields are missing or hold anything."""
    journal_id, fields = entry(draw(_KINDS), new_id(), draw(st.integers(0, 99)))
    told: dict[str, str] = {**fields, "detail": draw(_DETAILS)}
    if draw(st.booleans()):
        for name, value in draw(_CHANGES).items():
            told.pop(name, None)
            if value is not None:
                told[name] = value
    return journal_id, told


@examples(80)
@given(garbled=broken(), place=st.integers(0, 3))
@example(changed("settle", windows="day:2026-11-22,day:2026-11-22,total"), 0)
@example(changed("settle", amount="-5"), 1)
@example(changed("settle", amount="9007199254740992"), 2)
@example(changed("correct", counted="-9007199254740992"), 2)
@example(changed("settle", agent=""), 0)
@example(changed("expire", org="acme}:x"), 0)
@example(changed("expire", epoch="a/b"), 0)
@example(changed("settle", entry_id="K"), 0)
@example(changed("settle", reserved_ms="0"), 0)
@example(changed("settle", v="2"), 0)
@example(changed("settle", detail='{"model":"\\u0000","status":-1}'), 0)
@example(changed("alert", detail='{"alert":"x","y":"\\u0000"}'), 0)
@example(changed("alert", detail="[]"), 0)
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

    booked = await pool.fetch("SELECT * FROM usage_entry")
    dead = await pool.fetch("SELECT reason FROM dead_entry")
    sound_ids = {fields["id"] for _, fields in sound}
    amounts = {row["reservation_id"]: row["amount_microcents"] for row in booked}
    own = [row for row in booked if row["reservation_id"] not in sound_ids]
    assert {fields["id"]: int(fields["amount"]) for _, fields in sound}.items() <= amounts.items()
    assert len(booked) - len(own) == len(sound)
    assert kept_aside == again == len(dead) <= 1
    assert len(own) + len(dead) <= 1
    if dead:
        assert any(name in dead[0]["reason"] for name in _FIELDS), dead
    assert all(_is_fact(row) for row in own), own
    assert not own or garbled[1]["v"] == "1"
    windows = dict.fromkeys(["total", "day", "month"], 321)
    for row in own:
        named = [name.partition(":")[0] for name in garbled[1]["windows"].split(",")]
        windows |= {name: windows.get(name, 0) + row["amount_microcents"] for name in named}
    assert await _spent(pool) == windows


def _is_fact(row: asyncpg.Record) -> bool:
    """Say whether a row is one that a call can have made."""
    amount, kind = row["amount_microcents"], row["kind"]
    numbers = [row[name] for name in ("input_tokens", "status", "duration_ms")]
    return (
        abs(amount) < 2**53
        and abs(row["counted_microcents"]) < 2**53
        and (amount >= 0 or kind == "correct")
        and (kind == "correct") == bool(row["entry_id"])
        and all(re.fullmatch(r"[\w-]{1,48}", row[name], re.ASCII) for name in _IDS)
        and 2020 <= row["reserved_at"].year < 2100
        and all(number is None or 0 <= number < 2**31 for number in numbers)
    )


async def _spent(pool: asyncpg.Pool) -> dict[str, int]:
    """Return what all orgs have spent in all windows of a kind."""
    found = await pool.fetch(
        'SELECT "window", sum(spent_microcents)::bigint AS spent FROM spend_window '
        "WHERE agent = '' GROUP BY 1"
    )
    return {row["window"]: row["spent"] for row in found}


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
