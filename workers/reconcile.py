"""Reconcile: every hour Redis is compared with the ledger, and what differs is repaired."""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.errors import GatewayError, StoreNotReady
from gateway.registry.clients import Clients
from gateway.registry.differences import Comparison
from gateway.registry.mending import mend
from gateway.registry.recovery import run_in_doubt

_EVERY_S = 3600.0
# Where the ledger had not posted so far, or Redis is not ready, an hour would be long.
_AGAIN_S = 60.0
_WAIT_S = 10.0

_log = structlog.get_logger()


class ReconcileMetrics:
    """What reconcile shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.drift = Gauge(
            "budget_gateway_drift_microcents",
            "By how much counters were wrong when they were last compared, in all orgs.",
            registry=registry,
        )
        self.orgs = Counter(
            "budget_gateway_reconciled_orgs",
            "Orgs that were compared, by what came of it: agrees, differs, late or failed.",
            ["end"],
            registry=registry,
        )


async def reconcile_forever(
    clients: Clients,
    budgets: Bookkeeping,
    metrics: ReconcileMetrics,
    run_id: Callable[[], bytes],
) -> None:
    """Reconcile now and every hour until cancelled. Several workers may."""
    while True:
        is_whole = await reconcile(clients, budgets, metrics, _WAIT_S, run_id().decode())
        await asyncio.sleep((_EVERY_S if is_whole else _AGAIN_S) * random.uniform(0.9, 1.1))


async def reconcile(
    clients: Clients,
    budgets: Bookkeeping,
    metrics: ReconcileMetrics,
    wait_s: float,
    run_id: str = "",
) -> bool:
    """Compare every org once and ask for repairs; return whether every one could be compared.

    It waits up to ``wait_s`` per org for the ledger; where that is late for one it is for all.
    Nothing is compared before recovery has compared this start of Redis, ``run_id``: once counters
    are repaired it could not tell any more that Redis has lost writes.
    """
    if await run_in_doubt(clients, run_id):
        return False
    rows = await clients.ledger.fetch("SELECT org FROM org ORDER BY org")
    compared = list[Comparison]()
    try:
        for row in rows:
            comparison = await _reconciled(clients, budgets, metrics, row["org"], wait_s)
            if comparison is not None:
                compared.append(comparison)
                if not comparison.is_posted:
                    break
    except StoreNotReady:
        return False
    metrics.drift.set(_drift(compared))
    return len(compared) == len(rows) and all(comparison.is_posted for comparison in compared)


async def _reconciled(
    clients: Clients, budgets: Bookkeeping, metrics: ReconcileMetrics, org: str, wait_s: float
) -> Comparison | None:
    try:
        comparison = await mend(clients, budgets, org, wait_s)
    except StoreNotReady:
        raise
    except GatewayError as error:
        # One org whose counters somebody has damaged must not keep the others from it.
        _log.error("reconcile_failed", org=org, error=str(error))
        metrics.orgs.labels("failed").inc()
        return None
    for difference in comparison.differences:
        _log.warning("counter_differs", org=org, **difference._asdict())
    end = "differs" if comparison.differences else "agrees"
    metrics.orgs.labels(end if comparison.is_posted else "late").inc()
    return comparison


def _drift(comparisons: Sequence[Comparison]) -> int:
    return sum(
        abs(difference.found - difference.expected)
        for comparison in comparisons
        for difference in comparison.differences
        if difference.counter != "open"
    )
