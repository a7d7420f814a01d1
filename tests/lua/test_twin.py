"""Two orgs that are alike: one has its memory of the limits, the other is without at every call.

Limits, edits of them, calls and the clock are drawn. Whatever comes, each call has one answer, and
in the end both orgs have counted the same.
"""

from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.domain.reservation import Held
from tests.lua.store import KEY_DIGEST, NOON, ORG, Store, cents

OTHER = "twin"

# Few values, so that budgets are roomy, tight and equal; one in five is of no use.
_LIMITS = ["none", "3", "3", "5", "10", "10", "1000", "9007199254.740991"]
_PLAIN = {
    f"{scope}.{kind}.limit_cents": _LIMITS
    for scope in ("org", "agent.*")
    for kind in ("day", "month", "total")
}
_VALUES = {
    **_PLAIN,
    "status": ["active", "active", "active", "frozen", "off"],
    "agent.*.status": ["active", "active", "frozen"],
    "hold_ttl_ms": ["5000", "7000", "0"],
    "timezone": ["UTC", "Asia/Tokyo", "UTC\nstatus"],
    "on_expiry": ["charge", "release"],
    "agent.researcher.day.limit_cents": ["none", "2"],
    "agent.writer.day.limit_cents": ["1"],
    "agent.researcher.status": ["active", "frozen"],
    "org.month.mode": ["soft", "shadow", "hard"],
    "org.day.warn_at": ["0.1"],
    "org.month.override_cents": ["20"],
    "org.month.override_until": ["2142504060"],
    "org.per_call_cents": ["2"],
    "agent.*.rpm": ["3"],
    "org.concurrency": ["4"],
    "org.hour.limit_cents": ["5"],
    "org.mnth.limit_cents": ["5"],
}


class Edit(NamedTuple):
    """One field of the limits is set, or deleted where there is no value."""

    field: str
    value: str | None


class Call(NamedTuple):
    """The clock moves on, and an agent reserves; the call may end at once."""

    forward_ms: int
    agent: str
    cents: int
    settles: bool


_edits = st.one_of(
    st.sampled_from(list(_PLAIN)), st.sampled_from(list(_PLAIN)), st.sampled_from(list(_VALUES))
).flatmap(
    lambda field: st.builds(
        Edit,
        st.just(field),
        st.one_of(
            st.sampled_from(_VALUES[field]),
            st.sampled_from([*_VALUES[field], None, "", "nan", "1e3"]),
        ),
    )
)
_calls = st.builds(
    Call,
    st.sampled_from([0, 0, 0, 1, 999, 61_000, 15 * 3_600_000]),
    st.sampled_from(["researcher", "researcher", "writer"]),
    st.sampled_from([0, 0, 1, 1, 2, 4]),
    st.booleans(),
)
_begins = st.fixed_dictionaries(
    {
        "status": st.just("active"),
        **{name: st.sampled_from([None, *values]) for name, values in _PLAIN.items()},
        "org.month.limit_cents": st.sampled_from(_LIMITS),
    }
)


async def begin(store: Store, limits: dict[str, str | None]) -> None:
    """Write two orgs that are alike."""
    fields = {name: value for name, value in limits.items() if value is not None}
    await store.client.flushall()
    await store.at(NOON)
    for org in (ORG, OTHER):
        await store.client.hset(f"bg:{{{org}}}:limits", mapping=fields)
        await store.client.hset(f"bg:{{{org}}}:meta", "schema", "1")
        await store.client.hset(f"bg:{{{org}}}:keys", KEY_DIGEST, "k1|active||*")


async def apply(store: Store, org: str, step: Edit | Call) -> object:
    """Do one step in one org, and return the answer to a call."""
    limits = f"bg:{{{org}}}:limits"
    if isinstance(step, Edit):
        if step.value is None:
            return bool(await store.client.hdel(limits, step.field))
        await store.client.hset(limits, step.field, step.value)
        return None
    ask = store.ask(cents(step.cents), org=org, agent=step.agent)
    outcome = await store.budgets.reserve(ask)
    if isinstance(outcome, Held) and step.settles:
        return outcome, await store.settle(ask, outcome, cents(step.cents) // 2)
    return outcome


async def counted(store: Store, org: str) -> dict[str, Any]:
    """Return every counter of an org, and how long each is kept."""
    found = {}
    for key in sorted([key async for key in store.client.scan_iter(f"bg:{{{org}}}:spend:*")]):
        name = key.decode().partition("}")[2]
        found[name] = await store.client.hgetall(key), await store.client.pttl(key) > 0
    return found


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(fields=_begins, steps=st.lists(st.one_of(_edits, _calls, _calls), min_size=4, max_size=16))
async def test_memory_changes_no_answer(
    store: Store, fields: dict[str, str | None], steps: list[Edit | Call]
) -> None:
    """A reserve with memory and one without answer and count alike, on every server."""
    await begin(store, fields)

    for step in steps:
        if isinstance(step, Call):
            await store.at(step.forward_ms)
        await store.client.hdel(f"bg:{{{OTHER}}}:meta", "limits", "chain")
        assert await apply(store, ORG, step) == await apply(store, OTHER, step)

    assert await counted(store, ORG) == await counted(store, OTHER)
