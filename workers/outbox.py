"""The outbox: tells Redis what Postgres has decided: credits, corrections and repairs."""

import asyncio
from typing import Any

import asyncpg
import orjson

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Correction, Credit, Repair
from gateway.errors import StoreError, StoreUnavailable

_EVERY_S = 1.0
_BATCH = 100
# Less than the seven days for which Redis remembers what it has applied.
_DRIVE_H = 72

# A lease keeps other workers away; the fence keeps a worker whose lease has run out from marking.
_LEASE = f"""
UPDATE outbox SET lease_until = now() + interval '30 s', fence = fence + 1, attempts = attempts + 1
WHERE id IN (
    SELECT id FROM outbox
    WHERE done_at IS NULL AND due_at <= now() AND (lease_until IS NULL OR lease_until < now())
    ORDER BY id LIMIT {_BATCH} FOR UPDATE SKIP LOCKED
)
RETURNING id, kind, payload, fence, attempts, created_at < now() - interval '{_DRIVE_H} h' AS is_old
"""
_DONE = """
UPDATE outbox SET done_at = now(), result = $3, last_error = $4, lease_until = NULL
WHERE id = $1 AND fence = $2
"""
_AGAIN = """
UPDATE outbox SET due_at = now() + make_interval(secs => least(300, power(2, least($4, 9)))),
    last_error = $3, lease_until = NULL
WHERE id = $1 AND fence = $2
"""
_GONE = "UPDATE credit_entry SET state = 'gone' WHERE id = $1 AND state = 'asked'"


async def deliver_forever(pool: asyncpg.Pool, budgets: Bookkeeping) -> None:
    """Deliver until cancelled, every second or as long as there is more."""
    while True:
        if await deliver(pool, budgets) < _BATCH:
            await asyncio.sleep(_EVERY_S)


async def deliver(pool: asyncpg.Pool, budgets: Bookkeeping) -> int:
    """Deliver what is due and return how many rows were taken.

    A row is done once Redis has applied it, now or before: the scripts know it by its own id. An
    unreachable Redis puts it off; a refusal, or 72 hours without success, ends it as ``dead``.
    """
    rows = await pool.fetch(_LEASE)
    for row in sorted(rows, key=lambda row: row["id"]):
        payload = orjson.loads(row["payload"])
        try:
            result = await _apply(budgets, row["kind"], payload)
        except StoreUnavailable as error:
            if row["is_old"]:
                await pool.execute(_DONE, row["id"], row["fence"], "dead", str(error))
            else:
                await pool.execute(_AGAIN, row["id"], row["fence"], str(error), row["attempts"])
            continue
        except (StoreError, KeyError, TypeError, ValueError) as error:
            await pool.execute(_DONE, row["id"], row["fence"], "dead", repr(error))
            continue
        if result == "GONE":
            await pool.execute(_GONE, payload["id"])
        await pool.execute(_DONE, row["id"], row["fence"], result, None)
    return len(rows)


async def _apply(budgets: Bookkeeping, kind: str, payload: dict[str, Any]) -> str:
    if kind == "credit":
        word = await budgets.credit(Credit(**payload))
        if word == "COLD":
            raise StoreUnavailable("The org is not in Redis yet.")
        return word
    if kind == "correct":
        detail = orjson.dumps(payload.pop("detail", {}))
        return await budgets.correct(Correction(**payload, detail=detail))
    changes = tuple((window, scope, amount) for window, scope, amount in payload["changes"])
    return await budgets.repair(Repair(payload["id"], payload["org"], changes))
