"""Credits that are given by a command: recorded first, applied at once, counted once.

C1 a credit that Redis does not take is recorded, and the outbox applies it
C2 a credit of a window that has ended is recorded as gone, and changes nothing
"""

import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.errors import StoreUnavailable
from gateway.registry.clients import Clients
from gateway.registry.credits import give_credit
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from workers.outbox import deliver

CENT = 1_000_000
AUTHOR = Author("tester", "a test")


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, AUTHOR)


async def test_credit_that_redis_does_not_take_is_recorded(
    clients: Clients, budgets: Bookkeeping
) -> None:
    """C1: the sentence says that it must not be repeated, and the row waits for the worker."""
    assert isinstance(budgets.wire, Connection)
    await budgets.wire.close()

    with pytest.raises(StoreUnavailable, match=r"is recorded .* do not repeat it"):
        await give_credit(clients, budgets, "acme", ("org", "total", ""), CENT, AUTHOR)

    rows = await clients.ledger.fetch(
        "SELECT done_at, payload ->> 'id' = credit_entry.id AS is_it FROM outbox, credit_entry"
    )
    assert [(row["done_at"], row["is_it"]) for row in rows] == [(None, True)]


async def test_credit_of_an_ended_window_is_gone(clients: Clients, budgets: Bookkeeping) -> None:
    """C2: at once and for the outbox."""
    _, word = await give_credit(
        clients, budgets, "acme", ("org", "day", "2020-01-01"), CENT, AUTHOR
    )
    await deliver(clients.ledger, budgets)

    assert word == "GONE"
    assert await clients.ledger.fetchval("SELECT state FROM credit_entry") == "gone"
