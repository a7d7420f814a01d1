"""Recovery: a worker compares each start of Redis once, and opens it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.until import until
from workers.outbox import OutboxMetrics, deliver_forever
from workers.recovery import Recovery, RecoveryMetrics

RUN = b"run-2"


@pytest.fixture
async def clients(pool: asyncpg.Pool, redis: Any, budgets: Bookkeeping) -> Clients:
    """Return the stores of acme, whose Redis was started again."""
    assert budgets.wire.node is not None
    stores = Clients(pool, redis)
    await add_org(stores, "acme", "UTC", {"org.month.limit_cents": "1000"}, Author("ops"))
    await redis.hset(NODE, "life", "run-1")
    return stores


@asynccontextmanager
async def looking(
    clients: Clients, budgets: Bookkeeping, registry: CollectorRegistry
) -> AsyncIterator[None]:
    """Run the loop, and the outbox beside it."""
    recovery = Recovery(clients, budgets, lambda: RUN, RecoveryMetrics(registry), 0.0)
    tasks = [
        asyncio.create_task(recovery.run()),
        asyncio.create_task(deliver_forever(clients.ledger, budgets, OutboxMetrics(registry))),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def recoveries(registry: CollectorRegistry, end: str) -> float:
    """Return how many starts came to this end."""
    labels = {"end": end}
    return registry.get_sample_value("budget_gateway_recoveries_total", labels) or 0.0


async def test_start_is_compared_and_opened_once(
    clients: Clients, budgets: Bookkeeping, registry: CollectorRegistry
) -> None:
    """While nothing is in doubt nothing is done; a loss that is noted later is looked at again."""
    async with looking(clients, budgets, registry):
        await until(lambda: recoveries(registry, "agrees") == 1, "the start to be compared")
        assert await clients.redis.hget(NODE, "life") == RUN.decode()

        await clients.redis.hset(NODE, "lost", RUN.decode())
        await until(lambda: recoveries(registry, "agrees") == 2, "the loss to be looked at")

    assert await clients.redis.hget(NODE, "lost") is None


async def test_repair_is_counted(
    clients: Clients, budgets: Bookkeeping, registry: CollectorRegistry
) -> None:
    """A start that has forgotten something is told from one that has not."""
    await clients.ledger.execute(
        'INSERT INTO spend_window (org, agent, "window", window_id, spent_microcents) '
        "VALUES ('acme', '', 'total', '', 7)"
    )

    async with looking(clients, budgets, registry):
        await until(lambda: recoveries(registry, "repaired") == 1, "the start to be repaired")

    assert await clients.redis.hget("bg:{acme}:spend:total", "org.spent") == "7"
