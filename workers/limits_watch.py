"""The limits watch: what operators set and no script can use is noticed within seconds.

Why: a malformed limit refuses calls, and a misspelt one limits nobody. Whoever set it by hand sees
neither, because Redis takes any field. What is set is kept in Postgres too, for a rebuild.
"""

import asyncio
import hashlib
import random
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry, Gauge

from gateway.budgets.keys import org_key
from gateway.ledger.alerts import Alert, raise_alerts
from gateway.registry.beat import beat
from gateway.registry.clients import Clients
from gateway.registry.limits import LimitField, deployment_windows, judged
from gateway.registry.limits_mirror import keep_limits, look_at_limits

KIND = "limits_invalid"
# With the time of a look this stays below the ten seconds that are promised.
_EVERY_S = 5.0
_ORGS_PER_LOOK = 200

_log = structlog.get_logger()


class LimitsMetrics:
    """What the limits watch shows."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.invalid = Gauge(
            "budget_gateway_invalid_limits",
            "Fields of limits that are unknown, malformed or missing, in all orgs.",
            registry=registry,
        )


async def watch_forever(clients: Clients, metrics: LimitsMetrics) -> None:
    """Look until cancelled. Several workers may: an alert has one source."""
    while True:
        await look(clients, metrics)
        await asyncio.sleep(_EVERY_S * random.uniform(0.8, 1.2))


async def look(clients: Clients, metrics: LimitsMetrics) -> None:
    """Check and keep the limits of every org once; raise an alert for each fault of today."""
    rows = await clients.ledger.fetch("SELECT org FROM org ORDER BY org")
    orgs, faults = [row["org"] for row in rows], list[Alert]()
    windows = await deployment_windows(clients)
    now_s, _ = await clients.redis.time()
    today, is_believed = datetime.now(UTC).date().isoformat(), True
    for first in range(0, len(orgs), _ORGS_PER_LOOK):
        some = orgs[first : first + _ORGS_PER_LOOK]
        seen = await look_at_limits(clients, some)
        await keep_limits(clients, seen)
        is_believed = is_believed and seen.epoch is not None
        async with clients.redis.pipeline(transaction=False) as pipe:
            for org in some:
                pipe.hkeys(org_key(org, "agents"))
            found = await pipe.execute(raise_on_error=False)
        for org, values, known in zip(some, seen.limits, found, strict=True):
            # Whoever put something else in the place of one org's agents hides no other's faults.
            agents = known if isinstance(known, list) else []
            faults += [
                _alert(org, field, today)
                for field in judged(values, agents, windows, now_s)
                if field.problem is not None
            ]
    if is_believed:
        await beat(clients)
    metrics.invalid.set(len(faults))
    for alert in await raise_alerts(clients.ledger, faults):
        _log.warning(KIND, org=alert.org, **alert.detail)


def _alert(org: str, field: LimitField, today: str) -> Alert:
    # The value may be anything, so it is not in the source as it is.
    value = hashlib.sha256(repr(field.value).encode()).hexdigest()[:16]
    detail: dict[str, object] = {"field": field.field, "problem": field.problem}
    return Alert(org, KIND, detail, f"{KIND}/{today}/{org}/{field.field}/{value}")
