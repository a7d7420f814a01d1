"""The end of a day and of a month under load, through two gateways that keep different zones.

Tests cannot wait for midnight, but a change of zone lets a window end at any instant: the ones
here end while the calls come. What happens at each boundary of the calendar is in ``tests/lua``
and ``tests/race``, where the clock can be set.
"""

import asyncio
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until

PATH = "/agents/researcher/invoke"
CALLERS = 8
_ENDS_IN_MS = 800
_OLD = {"day": "2001-02-03", "month": "2001-02"}
_PRICE_MICROCENTS = 2_000_000


async def _run_out(redis: Any) -> None:
    """Let the org's day and month be such that both end in a moment."""
    seconds, microseconds = await redis.time()
    now_ms = seconds * 1000 + microseconds // 1000
    fields = {
        f"{kind}.{name}": value
        for kind, window_id in _OLD.items()
        for name, value in (
            ("id", window_id),
            ("start", now_ms - 1000),
            ("end", now_ms + _ENDS_IN_MS),
        )
    }
    await redis.hset("bg:{acme}:meta", mapping=fields)


async def _spent(redis: Any, kind: str) -> dict[str, int]:
    """Return what the org has spent in each window of a kind."""
    keys = [key async for key in redis.scan_iter(f"bg:{{acme}}:spend:{kind}:*")]
    return {key.split(":")[-1]: int(await redis.hget(key, "org.spent")) for key in keys}


async def _call_again_and_again(gateway: PlaneGateway, enough: asyncio.Event) -> list[int]:
    statuses = []
    async with gateway.client() as client:
        while not enough.is_set():
            statuses.append((await client.post(PATH)).status_code)
    return statuses


@pytest.mark.parametrize(
    "zone", ["UTC", "America/Santiago", "Australia/Lord_Howe", "America/New_York", "Asia/Tokyo"]
)
async def test_window_ends_while_two_gateways_admit(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane, zone: str
) -> None:
    """Every call is admitted and counted once: in the windows that end or in those that begin."""
    await org.hset("bg:{acme}:limits", "org.month.limit_cents", "1000000")
    gateways = [await start(redis_url) for _ in range(2)]
    await _run_out(org)
    first = await _call_once(gateways[0])
    await org.hset("bg:{acme}:limits", "timezone", zone)
    second = await _call_once(gateways[1])
    enough = asyncio.Event()
    callers = [
        asyncio.create_task(_call_again_and_again(gateways[number % 2], enough))
        for number in range(CALLERS)
    ]

    async def has_ended() -> bool:
        days = await _spent(org, "day")
        return any(
            spent > 50 * _PRICE_MICROCENTS for day, spent in days.items() if day != _OLD["day"]
        )

    await until(has_ended, "the next day to be under way")
    enough.set()
    statuses = [
        first,
        second,
        *(status for seen in await asyncio.gather(*callers) for status in seen),
    ]
    for gateway in gateways:
        await gateway.settled()
    days, months = await _spent(org, "day"), await _spent(org, "month")

    total = len(statuses) * _PRICE_MICROCENTS
    assert set(statuses) == {200}
    assert upstream.executions == len(statuses)
    assert sum(days.values()) == sum(months.values()) == total
    assert (await acme.counters(org))["org.spent"] == total
    assert days[_OLD["day"]] == months[_OLD["month"]] > 0


async def _call_once(gateway: PlaneGateway) -> int:
    async with gateway.client() as client:
        return (await client.post(PATH)).status_code
