"""Credits: what raises, lowers or resets one budget in one window, with a cause."""

import orjson
from msgspec import structs
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping, CreditWord
from gateway.budgets.changes import Credit
from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.window import WindowKind
from gateway.errors import BadRequest, StoreError, StoreUnavailable
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
            *structs.astuple(change),
            author.cause,
            author.actor,
        )
        await connection.execute(
            "INSERT INTO outbox (kind, org, payload, source) VALUES ('credit', $1, $2, $3)",
            org,
            orjson.dumps(structs.asdict(change)).decode(),
            f"credit/{change.id}",
        )
    return change


async def give_credit(
    clients: Clients,
    budgets: Bookkeeping,
    org: str,
    budget: tuple[str, WindowKind, str],
    amount_microcents: int,
    author: Author,
) -> tuple[Credit, CreditWord]:
    """Record a credit and apply it at once, so that the next call obeys; the outbox finds it done.

    ``GONE`` is the word where the window has ended in between.

    Raises:
        BadRequest: the amount is zero or beyond what can be counted.
        StoreUnavailable: it is recorded and Redis did not take it; the worker applies it.
    """
    change = await ask_credit(clients, org, budget, amount_microcents, author)
    try:
        return change, await budgets.credit(change)
    except StoreError as error:
        raise StoreUnavailable(
            f"Credit {change.id} is recorded and the worker will apply it; do not repeat it. "
            f"Redis did not take it now: {error}"
        ) from error
