"""Mending: counters that are not what they must be are repaired, once however many look.

Only by a repair, which is a difference: traffic goes on meanwhile, and what it changes stays.
"""

import orjson
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import RATE
from gateway.errors import StoreNotReady
from gateway.ledger.alerts import Alert, raise_alerts
from gateway.ledger.epochs import hold_epoch
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients
from gateway.registry.differences import Comparison, Difference, amount_text, compare

KIND = "counters_differ"
_ASK = statement("ask_outbox")
_LOCK = statement("lock_mending")


async def mend(clients: Clients, budgets: Bookkeeping, org: str, wait_s: float) -> Comparison:
    """Compare an org, and ask for a repair of what differs; the outbox tells it to Redis.

    ``is_mended`` of what is returned says that every difference is being repaired, by this look or
    by another one. Each look that asks raises an alert.

    Raises:
        StoreNotReady: the node marker is missing, or the counters were rebuilt meanwhile.
    """
    looked_at = budgets.wire.epoch
    async with clients.ledger.acquire() as connection, connection.transaction():
        # Two that saw the same difference would both add it. Until this one has committed the
        # other waits, and then finds its repair.
        await connection.execute(_LOCK, org)
        comparison = await compare(clients, budgets, org, wait_s)
        if not comparison.differences or comparison.is_mended:
            return comparison
        # Held until this has committed: a rebuild either sees the repair, or has begun before.
        epoch = await hold_epoch(connection)
        if epoch is not None and epoch.epoch != looked_at:
            raise StoreNotReady("The counters that were compared are lost; compare again.")
        change_id = str(ULID())
        source = f"mending/{change_id}"
        await connection.execute(
            _ASK, ["repair"], [org], [_repair(comparison, change_id)], [source]
        )
        await raise_alerts(connection, [_alert(comparison, source)])
    return comparison._replace(is_mended=True)


def _repair(comparison: Comparison, change_id: str) -> str:
    changes = [_change(comparison.org, difference) for difference in comparison.differences]
    payload = {"id": change_id, "org": comparison.org, "changes": changes}
    return orjson.dumps(payload).decode()


def _change(org: str, difference: Difference) -> tuple[str, str, int]:
    scope, _, kind = difference.budget_id.removeprefix(f"{org}:").rpartition(".")
    window = f"{kind}:{difference.window_id}" if difference.window_id else kind
    field = f"{scope}.{difference.counter}"
    change = difference.expected - difference.found
    return RATE if difference.counter == "open" else window, field, change


def _alert(comparison: Comparison, source: str) -> Alert:
    detail: dict[str, object] = {
        "journal_id": comparison.journal_id,
        "differences": [
            {
                "budget_id": difference.budget_id,
                "window_id": difference.window_id,
                "counter": difference.counter,
                "found": amount_text(difference.counter, difference.found),
                "expected": amount_text(difference.counter, difference.expected),
            }
            for difference in comparison.differences
        ],
    }
    return Alert(comparison.org, KIND, detail, source)
