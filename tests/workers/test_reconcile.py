"""Reconcile: every org is compared, what differs is mended in one cycle, and the drift is shown."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.workers.calls import held
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import deliver
from workers.reconcile import ReconcileMetrics, reconcile

TOTAL = "bg:{acme}:spend:total"


@pytest.fixture
async def clients(
    pool: asyncpg.Pool, redis_url: str, budgets: Bookkeeping
) -> AsyncIterator[Clients]:
    """Yield the stores of acme and evil; acme has spent a hundred microcents that are booked."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        stores = Clients(pool, redis)
        for org in ("acme", "evil"):
            await add_org(stores, org, "UTC", {"org.month.limit_cents": "1000"}, Author("ops"))
        await budgets.settle(await held(budgets, 100))
        pump = JournalPump(redis, pool, "w1", PumpMetrics(CollectorRegistry()))
        await pump.start()
        while await pump.step():
            pass
        yield stores


@pytest.fixture
def metrics(registry: CollectorRegistry) -> ReconcileMetrics:
    """Return the metrics of reconcile."""
    return ReconcileMetrics(registry)


def ends(registry: CollectorRegistry) -> dict[str, float]:
    """Return how many orgs came to which end."""
    (metric,) = (m for m in registry.collect() if m.name == "budget_gateway_reconciled_orgs")
    return {s.labels["end"]: s.value for s in metric.samples if s.name.endswith("_total")}


def drift(registry: CollectorRegistry) -> float | None:
    """Return the drift that is shown."""
    return registry.get_sample_value("budget_gateway_drift_microcents")


async def test_injected_microcent_is_mended_in_one_cycle(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics, registry: CollectorRegistry
) -> None:
    """It is shown as drift, repaired by the outbox, and gone at the next look."""
    await clients.redis.hincrby(TOTAL, "org.spent", 1)

    first = await reconcile(clients, budgets, metrics, 10)
    shown = drift(registry)
    await deliver(clients.ledger, budgets)
    second = await reconcile(clients, budgets, metrics, 10)

    assert (first, shown, second, drift(registry)) == (True, 1, True, 0)
    assert await clients.redis.hget(TOTAL, "org.spent") == "100"
    assert ends(registry) == {"agrees": 3, "differs": 1}


async def test_damaged_org_does_not_keep_the_others_from_it(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics, registry: CollectorRegistry
) -> None:
    """Its counter is no integer, which is told; the look is not whole, and comes again soon."""
    await clients.redis.hset(TOTAL, "org.spent", "abc")

    assert not await reconcile(clients, budgets, metrics, 0)
    assert ends(registry) == {"failed": 1, "agrees": 1}


async def test_late_ledger_is_tried_again_soon(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics, registry: CollectorRegistry
) -> None:
    """Where the pump is behind for one org it is for all, and nothing is repaired."""
    await budgets.settle(await held(budgets, 50))

    assert not await reconcile(clients, budgets, metrics, 0)
    assert ends(registry) == {"late": 1}
    assert await clients.ledger.fetchval("SELECT count(*) FROM outbox") == 0


async def test_store_without_its_marker_is_tried_again_soon(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics, registry: CollectorRegistry
) -> None:
    """An emptied Redis agrees with nothing, and counters that are gone are not for repairs."""
    await clients.redis.delete("bg:node")
    connection: Any = budgets.wire
    await connection.look()

    assert not await reconcile(clients, budgets, metrics, 0)
    assert ends(registry) == {}


async def test_nothing_is_repaired_before_a_start_of_redis_was_compared(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics
) -> None:
    """Recovery would find all of it in order, and take a Redis that has lost writes for whole."""
    await clients.redis.hset(NODE, "life", "run-1")
    await clients.redis.hset(TOTAL, "org.spent", "1")

    assert not await reconcile(clients, budgets, metrics, 10, "run-2")
    assert not await clients.ledger.fetchval("SELECT EXISTS (SELECT FROM outbox)")

    await clients.redis.hset(NODE, "life", "run-2")
    assert await reconcile(clients, budgets, metrics, 10, "run-2")
    assert await clients.ledger.fetchval("SELECT EXISTS (SELECT FROM outbox)")
