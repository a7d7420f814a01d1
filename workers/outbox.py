"""The outbox: tells Redis what Postgres has decided: credits, corrections and repairs."""

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import asyncpg
import orjson
import structlog
from prometheus_client import CollectorRegistry, Counter

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Correction, Credit, Repair
from gateway.errors import StoreError
from gateway.ledger.outbox import Due, bury, finish, lease, put_off

_log = structlog.get_logger()
_EVERY_S = 1.0
_ROWS_MAX = 500


class OutboxMetrics:
    """What the outbox counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.rows = Counter(
            "budget_gateway_outbox_rows",
            "Rows of the outbox by what became of them: the word of Redis, again, or dead.",
            ["end"],
            registry=registry,
        )


class End(NamedTuple):
    """What became of one try; ``text`` is the word of Redis, or the reason."""

    kind: Literal["done", "again", "dead"]
    text: str


async def deliver_forever(pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics) -> None:
    """Deliver until cancelled, every second or as long as there is more."""
    while True:
        if await deliver(pool, budgets, metrics) < _ROWS_MAX:
            await asyncio.sleep(_EVERY_S)


async def deliver(
    pool: asyncpg.Pool, budgets: Bookkeeping, metrics: OutboxMetrics | None = None
) -> int:
    """Deliver what is due and return how many rows were taken.

    A row is done once Redis has applied it, now or before: the scripts know it by its own id. What
    Redis cannot take yet is put off, for at most 72 hours. What it can never take is given up.
    """
    if budgets.wire.node is None:
        return 0
    rows = await lease(pool, _ROWS_MAX)
    ends = await asyncio.gather(*(_try(budgets, due) for due in rows))
    told = list(zip(rows, ends, strict=True))
    # All at once: after a loss there is a row for each end that gateways have told again.
    await finish(pool, [(due, end.text) for due, end in told if end.kind == "done"])
    for due, end in told:
        if end.kind == "again":
            await put_off(pool, due, end.text)
        elif end.kind == "dead":
            _log.error("outbox_row_dead", row=due.id, kind=due.kind, reason=end.text)
            await bury(pool, due, end.text)
        if metrics is not None:
            metrics.rows.labels(end.text if end.kind == "done" else end.kind).inc()
    return len(rows)


async def _try(budgets: Bookkeeping, due: Due) -> End:
    if due.is_over:
        return End("dead", "It was not delivered within 72 hours of its first try.")
    try:
        change = _change(due.kind, due.payload)
    except (KeyError, TypeError, ValueError) as error:
        return End("dead", f"The payload of a {due.kind} cannot be read: {error!r}.")
    try:
        word = await _apply(budgets, change)
    # Refusals too are tried again: a wrong password, permission or time zone is mended within
    # hours, and a credit given up is money.
    except (StoreError, KeyError, ValueError, OSError) as error:
        return End("again", str(error))
    return End("again", "Redis does not know the org yet.") if word == "COLD" else End("done", word)


def _change(kind: str, payload: Mapping[str, Any]) -> Credit | Correction | Repair:
    if kind == "credit":
        return Credit(**payload)
    if kind == "correct":
        fields = {name: value for name, value in payload.items() if name != "detail"}
        return Correction(**fields, detail=orjson.dumps(payload.get("detail", {})))
    changes = tuple((window, field, amount) for window, field, amount in payload["changes"])
    return Repair(payload["id"], payload["org"], changes)


async def _apply(budgets: Bookkeeping, change: Credit | Correction | Repair) -> str:
    if isinstance(change, Credit):
        return await budgets.credit(change)
    if isinstance(change, Correction):
        return await budgets.correct(change)
    return await budgets.repair(change)
