"""Tables that nobody wrote: the model and the scripts agree on whatever may happen."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lua.store import Store, open_store
from tests.model import Books
from tests.scenario import KINDS, play
from tests.scenarios.engine import Engine
from tests.scenarios.redis_books import RedisBooks

SCOPES = ("org", "agent.*", "agent.writer")
# A name is a place: `@0` is the last reservation before the line, `@1` the one before that.
_names = st.sampled_from(["@0", "@0", "@1", "@2", "@3"])
_cents = st.sampled_from(["0", "0.000001", "1", "2.5", "4", "7", "12"])
_windows = st.sampled_from(KINDS)
_limits = st.one_of(
    st.builds(
        "budget {}.{} {}".format,
        st.sampled_from(SCOPES),
        _windows,
        st.sampled_from(["5", "10", "10", "20", "none", "unset", "oops"]),
    ),
    st.builds(
        "limit {}.{}.mode {}".format,
        st.sampled_from(SCOPES),
        _windows,
        st.sampled_from(["hard", "soft", "shadow", "unset"]),
    ),
    st.builds(
        "limit timezone {}".format,
        st.sampled_from(["UTC", "Asia/Tokyo", "Pacific/Honolulu", "America/Santiago"]),
    ),
    st.sampled_from(
        [
            "limit on_expiry release",
            "limit on_expiry charge",
            "limit hold_ttl_ms 1000",
            "limit status frozen",
            "limit status active",
            "limit agent.writer.status frozen",
            "limit agent.*.per_call_cents 7",
            "limit org.month.override_cents 30",
            "limit org.month.override_until 2142547200",
        ]
    ),
)
_agents = st.sampled_from(["researcher", "writer"])
_reserves = st.builds("reserve @new for {} {}  ...".format, _agents, _cents)
_repeats = st.one_of(
    st.builds("again {}".format, _names),
    st.builds("reserve {} for {} {}  ...".format, _names, _agents, _cents),
)
_ends = st.one_of(
    st.builds("settle {} at {}  ...".format, _names, _cents),
    st.builds("release {}  ...".format, _names),
    st.builds("expire {}  ...".format, _names),
    st.builds("extend {} to {} for {}  ...".format, _names, _cents, st.sampled_from(["1s", "90s"])),
)
_others = st.one_of(
    st.builds("tick {}".format, st.sampled_from(["1s", "60s", "60s", "4m", "13h"])),
    st.builds(
        "credit {} to {}.{} {}  ...".format,
        st.sampled_from(["c1", "c2"]),
        st.sampled_from(["org", "agent.writer"]),
        _windows,
        st.sampled_from(["3", "-2"]),
    ),
)
_lines = st.lists(
    st.sampled_from(
        [_reserves, _reserves, _reserves, _ends, _ends, _ends, _others, _limits, _repeats]
    ).flatmap(lambda lines: lines),
    min_size=8,
    max_size=40,
)


def playable(lines: list[str]) -> str:
    """Return a table with names for places, and without what is known to be taken differently.

    A cost that comes after a void release is left to the ledger where one of its windows is not
    open yet.
    """
    table, asks, released = ["budget org.month 20"], dict[str, str](), set[str]()
    for line in lines:
        verb, place, *_ = line.split()
        name = f"r{len(asks) + 1}" if place == "@new" else place
        if place in ("@0", "@1", "@2", "@3"):
            name = [*["r0"] * 4, *asks][-1 - int(place[1])]
        text = line.replace(place, name)
        if place == "@new":
            asks[name] = text
        released |= {name} if verb == "release" else set()
        if verb == "again":
            text = asks.get(name, "")
        if not (verb == "settle" and name in released):
            table.append(text)
    return "\n".join(table)


@settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines=_lines)
@pytest.mark.parametrize("store", ["fakeredis"], indirect=True)
async def test_any_table(store: Store, lines: list[str]) -> None:
    """Every answer and every counter is the same, after any lines in any order."""
    fresh = await open_store(store.client, flagged=False)
    await fresh.limits({"status": "active"})
    engines: dict[str, Engine] = {
        "the model": Books(KINDS, fresh.now_ms),
        "the scripts": RedisBooks(fresh),
    }

    await play(playable(lines), engines, fresh.now_ms)
