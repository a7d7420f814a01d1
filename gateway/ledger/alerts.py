"""Alerts: what people must hear of, kept until it is told."""

from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import orjson

from gateway.ledger.sql import statement

_INSERT = statement("insert_alert")


class Alert(NamedTuple):
    """One thing to tell; ``source`` names its cause, and is told once."""

    org: str
    kind: str
    detail: dict[str, object]
    source: str


async def raise_alerts(
    ledger: asyncpg.Pool | asyncpg.pool.PoolConnectionProxy, alerts: Sequence[Alert]
) -> list[Alert]:
    """Keep alerts and return those that are new."""
    if not alerts:
        return []
    rows = await ledger.fetch(
        _INSERT,
        [alert.org for alert in alerts],
        [alert.kind for alert in alerts],
        [orjson.dumps(alert.detail).decode() for alert in alerts],
        [alert.source for alert in alerts],
    )
    new = {row["source"] for row in rows}
    return [alert for alert in alerts if alert.source in new]
