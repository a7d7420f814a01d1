"""Recovery: when Redis was started again, it is compared with the ledger before it is used."""

import asyncio
from collections.abc import Callable

import structlog
from prometheus_client import CollectorRegistry, Counter

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.registry.clients import Clients
from gateway.registry.recovery import recover, run_in_doubt

# A gateway takes at most a second to connect again.
LEARN_S = 1.0
_EVERY_S = 0.25

_log = structlog.get_logger()


class RecoveryMetrics:
    """What recovery counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.recoveries = Counter(
            "budget_gateway_recoveries",
            "Starts of Redis that were compared with the ledger: agrees, or repaired.",
            ["end"],
            registry=registry,
        )


async def recover_forever(
    clients: Clients,
    budgets: Bookkeeping,
    run_id: Callable[[], bytes],
    metrics: RecoveryMetrics,
    learn_s: float = LEARN_S,
) -> None:
    """Look until cancelled whether Redis was started again. Several workers may."""
    while True:
        is_marked = budgets.wire.node is not None
        found = await run_in_doubt(clients, run_id().decode()) if is_marked else ""
        if found:
            recovered = await recover(clients, budgets, found, learn_s)
            if recovered is not None:
                changed = bool(recovered.repaired or recovered.restored)
                metrics.recoveries.labels("repaired" if changed else "agrees").inc()
                _log.warning("redis_compared", run_id=found, **recovered._asdict())
        await asyncio.sleep(_EVERY_S)
