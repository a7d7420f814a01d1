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
# So long gateways wait for a start of Redis that has lost nothing as far as anybody knows: a ledger
# that cannot book now must not keep them closed.
PATIENCE_S = 6.0
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


class Recovery:
    """Looks whether Redis was started again, and compares it. Several workers may."""

    def __init__(
        self,
        clients: Clients,
        budgets: Bookkeeping,
        run_id: Callable[[], bytes],
        metrics: RecoveryMetrics,
        learn_s: float = LEARN_S,
    ) -> None:
        self._clients = clients
        self._budgets = budgets
        self._run_id = run_id
        self._metrics = metrics
        self._learn_s = learn_s
        # The start of Redis that was in doubt last, and until when gateways wait for us.
        self._found, self._until_s = "", 0.0

    async def run(self) -> None:
        """Look until cancelled; any fault of a server is the supervisor's to repeat."""
        while True:
            await self._look()
            await asyncio.sleep(_EVERY_S)

    async def _look(self) -> None:
        if self._budgets.wire.node is None:
            return
        found = await run_in_doubt(self._clients, self._run_id().decode())
        if not found:
            return
        now_s = asyncio.get_running_loop().time()
        if found != self._found:
            self._found, self._until_s = found, now_s + PATIENCE_S
        sign_s = self._until_s - now_s
        recovered = await recover(self._clients, self._budgets, found, self._learn_s, sign_s)
        if recovered is not None:
            changed = bool(recovered.repaired or recovered.restored)
            self._metrics.recoveries.labels("repaired" if changed else "agrees").inc()
            _log.warning("redis_compared", run_id=found, **recovered._asdict())
