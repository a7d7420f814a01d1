"""Credits: what raises, lowers or resets one budget in one window, with a cause."""

import orjson
from ulid import ULID

from gateway.budgets.changes import Credit
from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.window import WindowKind
from gateway.errors import BadRequest
from gateway.registry.clients import Clients
from gateway.registry.limits import Author


async def ask_credit(
    clients: Clients,
    org: str,
    budget: tuple[str, WindowKind, str],
    amount_microcents: int,
    author: Author,
) -> Credit:
    """Record a credit of (scope, window, window id) and ask for it; the outbox applies it once.

    The caller may apply the credit returned at once, too: it is known by its id.

    Raises:
        BadRequest: the amount is zero or beyond what can be counted.
    """
    if not 0 < abs(amount_microcents) <= AMOUNT_MICROCENTS_MAX:
        raise BadRequest(f"amount is {amount_microcents} microcents; expected 1 to 2^53-1.")
    scope, window, window_id = budget
    change = Credit(str(ULID()), org, scope, window, window_id, amount_microcents)
    async with clients.ledger.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO credit_entry (id, org, scope, window_kind, window_id, amount_microcents, "
            "cause, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            *change,
            author.cause,
            author.actor,
        )
        await connection.execute(
            "INSERT INTO outbox (kind, org, payload, source) VALUES ('credit', $1, $2, $3)",
            org,
            orjson.dumps(change._asdict()).decode(),
            f"credit/{change.id}",
        )
    return change
