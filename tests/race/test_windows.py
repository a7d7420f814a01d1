"""Calls around the end of a window, through two gateways that disagree on which one runs.

The instants and the zones are drawn; the clock is that of the store and moves in steps. Whatever
comes, every call that was admitted is counted in exactly one window of each kind.
"""

from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ulid import ULID

from gateway.budgets.address import read_address
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Held
from tests.lua.store import FROZEN_CLOCK, ms

ORG = "acme"
LIMITS = {"status": "active", "org.month.limit_cents": "1000"}
_KINDS = ("day", "month")
_MINUTE_MS = 60_000

# Ends of days and months, and the jumps of the clock around them, in the org's first zone.
BOUNDARIES = [
    ("UTC", "2037-11-23T00:00:00Z"),
    ("UTC", "2037-12-01T00:00:00Z"),
    ("UTC", "2038-01-01T00:00:00Z"),
    ("America/Santiago", "2037-09-06T04:00:00Z"),
    ("America/Santiago", "2037-04-05T03:00:00Z"),
    ("America/Santiago", "2037-04-05T04:00:00Z"),
    ("Australia/Lord_Howe", "2037-04-04T15:00:00Z"),
    ("Australia/Lord_Howe", "2037-10-03T15:30:00Z"),
    ("Australia/Lord_Howe", "2037-10-04T13:00:00Z"),
    ("America/New_York", "2037-03-08T07:00:00Z"),
    ("America/New_York", "2037-03-09T04:00:00Z"),
    ("America/New_York", "2037-11-01T06:00:00Z"),
    ("America/New_York", "2037-11-02T05:00:00Z"),
    ("America/New_York", "2037-12-01T05:00:00Z"),
]
ZONES = sorted({zone for zone, _ in BOUNDARIES} | {"Asia/Tokyo", "Pacific/Kiritimati"})


class Step(NamedTuple):
    """What happens next: the clock moves, the zone may change, one of the gateways is called."""

    forward_ms: int
    zone: str | None
    gateway: int
    settles: bool


_STEPS = st.lists(
    st.builds(
        Step,
        st.one_of(
            st.integers(0, 3),
            st.integers(0, 20 * _MINUTE_MS),
            st.integers(0, 26 * 60 * _MINUTE_MS),
        ),
        st.one_of(st.none(), st.none(), st.none(), st.sampled_from(ZONES)),
        st.integers(0, 1),
        st.booleans(),
    ),
    min_size=2,
    max_size=25,
)


@pytest.fixture
async def gateways(redis_url: str) -> AsyncIterator[list[Budgets]]:
    """Yield the budgets of two gateways, which keep their own idea of the running windows."""
    scripts = load_scripts(FROZEN_CLOCK)
    connections = [Connection(read_address(redis_url), scripts, 5_000) for _ in range(2)]
    for connection in connections:
        await connection.start()
        await connection.tried()
    yield [Budgets(connection, scripts, 60_000, 1_000_000) for connection in connections]
    for connection in connections:
        await connection.close()


class Walk:
    """One history of calls, and what must be true of it."""

    def __init__(self, redis: Any, gateways: list[Budgets], zone: str, now_ms: int) -> None:
        self._redis = redis
        self._gateways = gateways
        self._zone = zone
        self.now_ms = now_ms
        self.calls = 0
        self.seen: dict[tuple[str, str], set[tuple[int, int]]] = {}

    async def begin(self) -> None:
        """Forget everything, the windows that a gateway has cached excepted."""
        stale = [key async for key in self._redis.scan_iter("bg:{acme}:*")]
        await self._redis.delete("bg:journal", "bg:expiry", *stale)
        await self._redis.hset("bg:{acme}:meta", "schema", "1")
        await self._redis.hset("bg:{acme}:limits", mapping={**LIMITS, "timezone": self._zone})

    async def take(self, step: Step) -> None:
        """Take one step; its call is admitted, in the windows that run."""
        self.now_ms += step.forward_ms
        await self._redis.set("test:now", self.now_ms)
        if step.zone is not None:
            await self._redis.hset("bg:{acme}:limits", "timezone", step.zone)
        budgets = self._gateways[step.gateway]
        ask = Ask(str(ULID.from_timestamp(self.now_ms)), ORG, "researcher", 1)
        held = await budgets.reserve(ask)
        assert isinstance(held, Held), held
        self.calls += 1
        if step.settles:
            await budgets.settle(Settlement(ORG, ask.agent, ask.id, held.windows, 1, b"{}"))
        await self._note_windows(held)

    async def _note_windows(self, held: Held) -> None:
        meta = await self._redis.hgetall("bg:{acme}:meta")
        for kind, packed in zip(_KINDS, held.windows.split(","), strict=False):
            start_ms, end_ms = int(meta[f"{kind}.start"]), int(meta[f"{kind}.end"])
            assert packed == f"{kind}:{meta[f'{kind}.id']}"
            assert start_ms <= self.now_ms < end_ms
            self.seen.setdefault((kind, meta[f"{kind}.id"]), set()).add((start_ms, end_ms))

    async def counted(self, kind: str) -> int:
        """Return what all windows of a kind have counted, spent or held."""
        total = 0
        async for key in self._redis.scan_iter(f"bg:{{acme}}:spend:{kind}*"):
            fields = await self._redis.hmget(key, "org.spent", "org.held")
            total += sum(int(field or 0) for field in fields)
        return total

    def overlaps(self) -> list[tuple[int, int]]:
        """Return the windows that begin before another one of their kind has ended."""
        found = []
        for kind in _KINDS:
            bounds = sorted(
                bound for (of, _), bounds in self.seen.items() if of == kind for bound in bounds
            )
            found += [second for first, second in pairwise(bounds) if second[0] < first[1]]
        return found


@settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    boundary=st.sampled_from(BOUNDARIES),
    before_ms=st.one_of(st.integers(0, 3), st.integers(0, 120 * _MINUTE_MS)),
    steps=_STEPS,
)
async def test_every_call_is_counted_in_one_window_of_each_kind(
    redis: Any,
    gateways: list[Budgets],
    boundary: tuple[str, str],
    before_ms: int,
    steps: list[Step],
) -> None:
    """No call is counted twice or not at all, and no instant belongs to two budgets."""
    zone, instant = boundary
    walk = Walk(redis, gateways, zone, ms(instant) - before_ms)

    await walk.begin()
    for step in steps:
        await walk.take(step)

    assert {kind: await walk.counted(kind) for kind in (*_KINDS, "total")} == {
        "day": walk.calls,
        "month": walk.calls,
        "total": walk.calls,
    }
    assert walk.overlaps() == []
