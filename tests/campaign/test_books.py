"""The books of a campaign and its watch find what they look for."""

import time
from typing import Any

import asyncpg
import pytest
from ulid import ULID

from gateway.ledger.pool import open_pool
from gateway.ledger.posting import post
from tests.campaign.books import unsummed
from tests.campaign.watch import LATE_S_MAX, Watch
from tests.ledger.test_posting import entry


@pytest.fixture
async def pool(database_url: str) -> Any:
    """Yield a ledger in which two calls are booked."""
    opened = await open_pool(database_url)
    await post(opened, [entry("settle", str(ULID()), amount) for amount in (3, 4)])
    yield opened
    await opened.close()


async def test_aggregates_that_are_sums_are_no_finding(pool: asyncpg.Pool) -> None:
    """The org, its agent and each window: six aggregates, all of them the sums of their entries."""
    assert await pool.fetchval("SELECT count(*) FROM spend_window") == 6
    assert await unsummed(pool) == []


@pytest.mark.parametrize("agent", ["", "researcher"])
@pytest.mark.parametrize("window", ["day", "month", "total"])
async def test_each_aggregate_is_compared_with_its_entries(
    pool: asyncpg.Pool, agent: str, window: str
) -> None:
    """A microcent in any one of them is found, and named."""
    await pool.execute(
        "UPDATE spend_window SET spent_microcents = spent_microcents + 1 "
        'WHERE agent = $1 AND "window" = $2',
        agent,
        window,
    )

    [found] = await unsummed(pool)

    assert f"{agent or 'org'} {window}" in found
    assert "spent 8, and its entries sum up to 7" in found


async def test_entry_without_its_aggregate_is_found(pool: asyncpg.Pool) -> None:
    """What was booked and never summed up is as wrong as a false sum."""
    await pool.execute("DELETE FROM spend_window WHERE agent = '' AND \"window\" = 'total'")

    assert len(await unsummed(pool)) == 1


async def watched(redis: Any, overdue_s: float, looks: list[bool]) -> Watch:
    """Look at a hold that nobody ends; ``looks`` say each time whether the worker is ready."""
    now_s = time.time()
    await redis.zadd("bg:expiry", {"acme|R1": (now_s - overdue_s) * 1000})
    said = iter(looks)

    async def is_ready() -> bool:
        return next(said)

    watch = Watch(redis, is_ready)
    for _ in looks:
        await watch.look()
    return watch


async def test_watch_times_a_hold_from_when_the_worker_is_ready(redis: Any) -> None:
    """A hold that was overdue before has the worker's time from then on, not from its end."""
    watch = await watched(redis, 60.0, [False, True, True])

    assert watch.looks == 3
    assert 0 < watch.late_s < LATE_S_MAX
    assert watch.late == "acme|R1"


async def test_watch_lets_a_worker_that_is_away_off(redis: Any) -> None:
    """Nobody could have ended it."""
    assert (await watched(redis, 60.0, [False, False])).late_s == 0


async def test_watch_tells_of_a_hold_that_is_too_old(redis: Any) -> None:
    """By its name, and for how long it was there after its end; two seconds are a sweeper's."""
    watch = await watched(redis, 60.0, [True, True])
    before = watch.wrong
    watch.late_s = LATE_S_MAX + 0.5

    assert before == []
    assert watch.wrong == ["acme|R1 was held for 2.5 s after the end of its life."]
