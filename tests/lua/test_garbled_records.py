"""Bytes that no script wrote, in any record that the scripts read.

Y1 a call that fails has changed nothing
Y2 a budget admits no more than it would without the damage
Y3 who is refused for the damage is told what is damaged

Counters and `seq` that are no integers: test_damaged.py says what their ends do.
A damage that reads as another record of the same form, such as another digit, cannot be seen. It
is left out where it changes an amount, a limit or a window; all else is drawn.
`GATEWAY_TEST_FUZZ=50 pytest tests/lua/test_garbled_records.py` searches for longer.
"""

import re
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec import structs
from redis.exceptions import ResponseError

from gateway.domain.reservation import Ask, Held, Refused, Released, Settled
from gateway.errors import GatewayError
from tests.fuzzing import examples
from tests.lua.store import KEY_DIGEST, NODE, ORG, Store, cents, open_store

IDEM = "1d" * 32
LIMITS = {"status": "active", "org.month.limit_cents": "10", "agent.*.day.limit_cents": "10"}
LIMIT_CENTS = 10
# Each alone, too: where one budget is damaged another one would refuse in its place.
ORG_ONLY = {"status": "active", "org.month.limit_cents": "10"}
AGENT_ONLY = {**LIMITS, "org.month.limit_cents": "none"}
META = "bg:{acme}:meta"
_WELL_FORMED = re.compile(
    rb"[1-9]?\d{1,15}(\.\d{1,6})?|none|\w[\w-]*(\|[\w:,*-]*)+|[\w:-]+|[\w|,:-]+|[\d/|;]+|status\n.*",
    re.DOTALL,
)


class Damage(NamedTuple):
    """Where bytes go: a key, a field of it where it is a hash, and what they are made of.

    ``is_seen`` says that no script writes such a record, though its form is that of one.
    """

    key: str
    field: str
    change: Callable[[bytes], bytes]
    is_seen: bool = False


def _cut(at: int, width: int, put: bytes) -> Callable[[bytes], bytes]:
    def change(text: bytes) -> bytes:
        place = at % (len(text) + 1)
        return text[:place] + put + text[place + width :]

    return change


_NUMBERS = [b"", b"nan", b"-inf", b"inf", b"-1", b"9" * 20, b"0x10", b"1e3", b"007", b"\0", b"|"]
_CHANGES = st.one_of(
    st.binary(max_size=20).map(lambda new: lambda _: new),
    st.sampled_from(_NUMBERS).map(lambda new: lambda _: new),
    st.builds(_cut, st.integers(0, 200), st.integers(0, 9), st.sampled_from(_NUMBERS)),
    st.builds(_cut, st.integers(0, 200), st.integers(0, 3), st.binary(max_size=3)),
    # One of the fields between the bars.
    st.tuples(st.integers(0, 9), st.sampled_from(_NUMBERS)).map(
        lambda drawn: (
            lambda text: b"|".join(
                [*(parts := text.split(b"|"))[: drawn[0]], drawn[1], *parts[drawn[0] + 1 :]]
            )
        )
    ),
)
_META = ["now", "running", "until", "zone", "billing_status", "limits", "chain", "schema"]
_WINDOWS = [f"{kind}.{part}" for kind in ("day", "month") for part in ("id", "start", "end")]
_LIMITS = [*LIMITS, "agent.researcher.month.limit_cents", "org.rpm", "agent.*.status", "timezone"]
_LIMITS += ["hold_ttl_ms", "on_expiry", "org.month.mode", "org.month.warn_at"]
_PLACES = st.one_of(
    st.sampled_from([("holds", "ID"), ("done:ID", ""), (f"idem:{IDEM}", ""), ("keys", KEY_DIGEST)]),
    st.sampled_from([*_META, *_WINDOWS]).map(lambda field: ("meta", field)),
    st.sampled_from(_LIMITS).map(lambda field: ("limits", field)),
)
DAMAGES = st.builds(lambda place, change: Damage(place[0], place[1], change), _PLACES, _CHANGES)

_LONG = b"9" * 20
_LONG_HOLD = Damage("holds", "ID", lambda text: text.replace(b"4000000", _LONG), True)
_ZERO_HOLD = Damage("holds", "ID", lambda text: text.replace(b"4000000", b"007"), True)
_X_HOLD = Damage("holds", "ID", lambda text: b"x" + text, True)
_LONG_END = Damage("done:ID", "", lambda text: text.replace(b"4000000", _LONG), True)
# What it counted is as it was: that is looked at by itself.
_LONG_COST = Damage("done:ID", "", lambda text: text.replace(b"4000000", _LONG, 2), True)
_DEAR_END = Damage("done:ID", "", lambda text: text.replace(b"|4000000|4", b"|9000000|4"), True)
# A settle would give back what was never charged.
_DEAR_COST = Damage("done:ID", "", lambda text: text.replace(b"0|4000000|", b"0|9000000|", 1), True)

Step = Callable[[Store, Ask, Held], Awaitable[object]]


async def _again(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.reserve(ask)


async def _other_id(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.reserve(structs.replace(ask, id=store.id()))


async def _settle(store: Store, ask: Ask, held: Held) -> object:
    return await store.settle(ask, held, cents(4))


async def _release(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.release(ORG, ask.agent, ask.id, held.windows)


async def _extend(store: Store, ask: Ask, held: Held) -> object:
    more = structs.replace(ask, amount_microcents=cents(4), ttl_ms=90_000)
    return await store.budgets.extend(more, held.windows)


async def _expire(store: Store, ask: Ask, held: Held) -> object:
    await store.at(60_001)
    return await store.budgets.expire(ORG, held.windows, [ask.id])


STEPS: dict[str, Step] = {
    "again": _again,
    "other_id": _other_id,
    "settle": _settle,
    "release": _release,
    "extend": _extend,
    "expire": _expire,
}
_ORDERS = st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=4)


async def damaged(store: Store, damage: Damage, own_id: str) -> bool:
    """Do the damage; return whether it can be seen: what is there reads as no sound record."""
    key = f"bg:{{{ORG}}}:{damage.key.replace('ID', own_id)}"
    field = damage.field.replace("ID", own_id)
    client = store.client
    before = (await client.hget(key, field)) if field else await client.get(key)
    new = damage.change(before or b"")
    if field:
        await client.hset(key, field, new)
    else:
        await client.set(key, new)
    is_other = bool(before and _WELL_FORMED.fullmatch(new)) and damage.key != "meta"
    return new != before and (damage.is_seen or not is_other)


async def attempt(store: Store, step: Step, ask: Ask, held: Held) -> object:
    """Take one step; where Redis refuses it, look that nothing has changed."""
    before = await store.contents()
    try:
        return await step(store, ask, held)
    except GatewayError as fault:
        return fault
    except ResponseError as error:
        refusal = error
    assert await store.contents() == before, refusal
    return refusal


async def filled(store: Store) -> int:
    """Reserve cent by cent until a call is refused; return how many were admitted."""
    for count in range(3 * LIMIT_CENTS):
        try:
            outcome = await store.reserve(cents(1))
        except (ResponseError, GatewayError):
            return count
        if not isinstance(outcome, Held):
            return count
    return 3 * LIMIT_CENTS


def _is_free(told: list[object]) -> bool:
    """Say whether the reservation was given back, whatever was told before."""
    ends = [end for end in told if isinstance(end, (Settled, Released))]
    return bool(ends) and isinstance(ends[0], Released) and ends[0].status == "RELEASED"


@examples(20)
@given(
    limits=st.sampled_from([LIMITS, ORG_ONLY, AGENT_ONLY]),
    damage=DAMAGES,
    before=st.sampled_from(["", "expire", "settle", "release"]),
    order=_ORDERS,
)
@example(ORG_ONLY, _LONG_HOLD, "", ["settle"])
@example(ORG_ONLY, _ZERO_HOLD, "", ["settle"])
@example(ORG_ONLY, _X_HOLD, "", ["again", "settle"])
@example(ORG_ONLY, _LONG_END, "expire", ["settle"])
@example(ORG_ONLY, _LONG_COST, "expire", ["settle"])
@example(ORG_ONLY, _DEAR_END, "expire", ["settle"])
@example(ORG_ONLY, _DEAR_COST, "expire", ["settle"])
@example(ORG_ONLY, Damage("done:ID", "", lambda _: b""), "settle", ["again"])
@example(ORG_ONLY, Damage("spend:month:2037-11", "org.spent", lambda _: b"nan"), "", ["again"])
@example(ORG_ONLY, Damage("spend:month:2037-11", "org.spent", lambda _: b"-inf"), "", ["again"])
@example(ORG_ONLY, Damage("meta", "now", lambda _: b"inf"), "", ["again"])
@example(ORG_ONLY, Damage("meta", "seq", lambda _: b"x"), "", ["other_id"])
async def test_damage_widens_nothing(
    store: Store, limits: dict[str, str], damage: Damage, before: str, order: list[str]
) -> None:
    """Y1 Y2: what fails has changed nothing, and the limit is kept by all that were admitted."""
    store = await open_store(store.client, store.wire.form == 1)
    await store.limits(limits)
    ask, held = await store.held(cents(4), idempotency_digest=IDEM)
    await store.held(cents(3))
    told: list[object] = [await STEPS[before](store, ask, held)] if before else []
    assume(await damaged(store, damage, ask.id))

    for name in order:
        told.append(await attempt(store, STEPS[name], ask, held))
    # Another gateway, which has learned nothing yet.
    fresh = Store(store.client, store.wire.form == 1, NODE)
    fresh.now_ms = store.now_ms
    later = zip(told[bool(before) :], order, strict=True)
    others = [end for end, name in later if name == "other_id" and isinstance(end, Held)]
    admitted = await filled(fresh) + 3 + 4 * (not _is_free(told)) + 4 * len(others)
    assert admitted <= LIMIT_CENTS, told


_NAMED = [
    (Damage("holds", "ID", lambda _: b"x"), "", "again", ("BADARG", "holds")),
    (_LONG_HOLD, "", "again", ("BADARG", "holds")),
    (Damage("done:ID", "", lambda _: b"x"), "settle", "again", ("BADARG", "done")),
    (Damage(f"idem:{IDEM}", "", lambda _: b"x"), "", "other_id", ("BADARG", "idem")),
    (Damage("meta", "month.id", lambda _: b"2037-1"), "", "other_id", ("BADARG", "meta.month")),
    (Damage("meta", "day.end", lambda _: b"nan"), "", "other_id", ("BADARG", "meta.day")),
    (Damage("meta", "billing_status", lambda _: b"x"), "", "other_id", ("FROZEN", "billing")),
    (
        Damage("spend:month:2037-11", "org.spent", lambda _: b"nan"),
        "",
        "other_id",
        ("BADARG", "org.month"),
    ),
    (
        Damage("limits", "org.month.limit_cents", lambda _: b"\xff"),
        "",
        "other_id",
        ("LIMITS_INVALID", "org.month.limit_cents"),
    ),
]


@pytest.mark.parametrize(("damage", "before", "step", "named"), _NAMED)
async def test_damage_is_named(
    store: Store, damage: Damage, before: str, step: str, named: tuple[str, str]
) -> None:
    """Y3: a call that is refused for it says what, to a gateway that has learned nothing yet."""
    await store.limits({**LIMITS, "timezone": "Asia/Tokyo"})
    digest = IDEM if "idem" in damage.key else ""
    ask, held = await store.held(cents(4), idempotency_digest=digest)
    if before:
        await STEPS[before](store, ask, held)
    await damaged(store, damage, ask.id)
    fresh = Store(store.client, store.wire.form == 1, NODE)
    fresh.now_ms = store.now_ms

    outcome = await STEPS[step](fresh, ask, held)

    assert isinstance(outcome, Refused)
    assert (outcome.reason, outcome.detail) == named


@pytest.mark.parametrize("end", ["nan", "-1", "9" * 20])
async def test_end_of_a_window_that_is_none_is_named(store: Store, end: str) -> None:
    """Y3: also where a credit has opened a window, and its bounds are written once only."""
    await store.held(cents(1))
    await store.client.hset(META, mapping={"running": "", "day.end": end})
    fresh = Store(store.client, store.wire.form == 1, NODE)
    fresh.now_ms = store.now_ms

    assert await fresh.reserve(cents(1)) == Refused("BADARG", "meta.day")


async def test_settle_of_an_unreadable_hold_is_the_ledgers(store: Store) -> None:
    """Y2: its cost is journaled and counted as nothing, for the ledger; its hold stays held."""
    ask, held = await store.held(cents(4))
    await damaged(store, _LONG_HOLD, ask.id)

    settled = await store.settle(ask, held, cents(3))

    [entry] = await store.journal("settle")
    assert settled.status == "JOURNALED"
    assert (entry["amount"], entry["counted"]) == (str(cents(3)), "0")
    assert (await store.spend("month:2037-11"))["org.held"] == cents(4)
