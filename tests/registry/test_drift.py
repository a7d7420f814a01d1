"""A look at many orgs in bulk names each whose counters are not what the ledger says.

F1 a counter that differs, that the ledger does not know, or that is lost while its window runs
F2 whether Redis has less than the ledger is told: then it has forgotten
F3 counters that left with their window are no difference
"""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.domain.window import WindowKind
from gateway.registry.clients import Clients
from gateway.registry.drift import drifting
from tests.registry.test_differences import CENT, day_and_month, post_all, pump, spend
from workers.journal_pump import JournalPump

__all__ = ["pump"]
KINDS: tuple[WindowKind, ...] = ("day", "month", "total")
TOTAL = "bg:{acme}:spend:total"


@pytest.fixture
async def redis_of_acme(clients: Clients, budgets: Bookkeeping, pump: JournalPump) -> Any:
    """Return the Redis of acme, which has spent a cent that is booked."""
    await spend(budgets, CENT)
    await post_all(pump)
    return clients.redis


async def found(clients: Clients) -> Mapping[str, bool]:
    """Look at acme."""
    return await drifting(clients, KINDS, ["acme"])


async def test_agreement_is_not_named(clients: Clients, redis_of_acme: Any) -> None:
    """F1: nor are agents that have spent nothing."""
    await redis_of_acme.hset(TOTAL, "agent.idle.spent", 0)

    assert await found(clients) == {}


@pytest.mark.parametrize(("drift", "is_behind"), [(1, False), (-1, True)])
async def test_microcent_is_named(
    clients: Clients, redis_of_acme: Any, drift: int, is_behind: bool
) -> None:
    """F1, F2: more, or less."""
    await redis_of_acme.hincrby(TOTAL, "agent.researcher.spent", drift)

    assert await found(clients) == {"acme": is_behind}


async def test_counter_that_the_ledger_does_not_know_is_named(
    clients: Clients, redis_of_acme: Any
) -> None:
    """F1: somebody has spent, and nobody has booked it."""
    await redis_of_acme.hset(TOTAL, "agent.ghost.spent", 5)

    assert await found(clients) == {"acme": False}


async def test_lost_counters_of_a_running_window_are_named(
    clients: Clients, redis_of_acme: Any
) -> None:
    """F1, F2: its budget would begin at nothing."""
    _, month = await day_and_month(redis_of_acme)
    await redis_of_acme.delete(f"bg:{{acme}}:spend:month:{month}")

    assert await found(clients) == {"acme": True}


async def test_counters_that_left_are_not_named(clients: Clients, redis_of_acme: Any) -> None:
    """F3: the ledger knows the day, and no window of that name runs any more."""
    day, _ = await day_and_month(redis_of_acme)
    await redis_of_acme.delete(f"bg:{{acme}}:spend:day:{day}")
    await redis_of_acme.hset("bg:{acme}:meta", mapping={"day.id": "2001-01-01", "day.end": 1})

    assert await found(clients) == {}
