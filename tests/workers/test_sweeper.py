"""Overdue holds are ended.

S1 each is charged once, and an open one stays
S2 what is no hold, or cannot be read, leaves the index
S3 nothing that cannot be ended keeps the rest from being ended
"""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.bookkeeping import Bookkeeping
from tests.until import until
from tests.workers.calls import held, spent_and_held
from workers.sweeper import SweeperMetrics, sweep


@pytest.fixture
def metrics(registry: CollectorRegistry) -> SweeperMetrics:
    """Return the counts of the sweeper."""
    return SweeperMetrics(registry)


async def overdue(redis: Any, budgets: Bookkeeping, amount: int, org: str = "acme") -> str:
    """Return the id of a hold whose deadline has passed by the clock of Redis."""
    settlement = await held(budgets, amount, ttl_ms=1, org=org)
    member = f"{org}|{settlement.id}"

    async def has_passed() -> bool:
        seconds, microseconds = await redis.time()
        return bool(await redis.zscore("bg:expiry", member) < seconds * 1000 + microseconds // 1000)

    await until(has_passed, "the deadline to pass")
    return settlement.id


async def test_overdue_hold_is_charged_and_an_open_one_stays(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics
) -> None:
    """S1: the money of the overdue hold moves from held to spent, once."""
    await overdue(redis, budgets, 100)
    await held(budgets, 200)

    await sweep(budgets, metrics)
    await sweep(budgets, metrics)

    assert await spent_and_held(budgets) == (100, 200)
    assert await redis.zcard("bg:expiry") == 1


async def test_age_of_the_oldest_overdue_hold_is_shown(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics, registry: CollectorRegistry
) -> None:
    """S1: the metric is what operators see when no sweeper has run; an open hold is not overdue."""
    name = "budget_gateway_overdue_seconds"
    await redis.zadd("bg:expiry", {"acme|UNKNOWN": 1})

    await sweep(budgets, metrics)
    before = registry.get_sample_value(name)
    await held(budgets, 100)
    await sweep(budgets, metrics)

    assert before is not None
    assert before > 1_000_000
    assert registry.get_sample_value(name) == 0


async def test_litter_leaves_the_index(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics
) -> None:
    """S2: members that are no hold, have no record, or a record of another layout are removed."""
    names = ["garbage", "acme|UNKNOWN", "acme|BAD1", "acme|BAD2", "a b|X", "acme|x y"]
    await redis.zadd("bg:expiry", dict.fromkeys(names, 1))
    await redis.execute_command("ZADD", "bg:expiry", 1, b"\xff|\x00")
    good = "1|5|proxy|researcher|k1|1|1|b|i"
    await redis.hset("bg:{acme}:holds", mapping={"BAD1": "nonsense", "BAD2": f"{good}|day 1"})

    await sweep(budgets, metrics)

    assert await redis.zcard("bg:expiry") == 0


async def test_org_that_cannot_be_swept_does_not_stop_the_others(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics, registry: CollectorRegistry
) -> None:
    """S3: holds of the wrong type fail and are met first; those of acme are ended all the same."""
    await overdue(redis, budgets, 100)
    await redis.delete("bg:{evil}:holds")
    await redis.set("bg:{evil}:holds", "no hash")
    await redis.zadd("bg:expiry", {"evil|STUCK": 1})

    await sweep(budgets, metrics)

    assert await spent_and_held(budgets) == (100, 0)
    assert registry.get_sample_value("budget_gateway_overdue_holds_total", {"end": "failed"}) == 1


async def test_more_stuck_members_than_a_page_do_not_stop_the_others(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics
) -> None:
    """S3: what stays is passed over, page by page, and one sweep ends what lies behind it."""
    await overdue(redis, budgets, 100)
    await redis.set("bg:{evil}:holds", "no hash")
    await redis.zadd("bg:expiry", {f"evil|STUCK{number}": 1 for number in range(2_500)})

    await sweep(budgets, metrics)

    assert await spent_and_held(budgets) == (100, 0)


async def test_store_without_its_marker_is_left_alone(
    redis: Any, budgets: Bookkeeping, metrics: SweeperMetrics
) -> None:
    """S1: while the node is not ready nothing is charged: a rebuild may be bringing it back."""
    await overdue(redis, budgets, 100)
    await redis.delete("bg:node")
    await until(lambda: budgets.wire.node is None, "the marker to be missed")

    await sweep(budgets, metrics)

    assert await redis.zcard("bg:expiry") == 1
