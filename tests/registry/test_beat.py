"""The beat: an older file is found out where no call has ended since.

T1 it rises in Redis with each look of the watch and each change of a limit, and Postgres keeps it
T2 a Redis whose number is smaller has lost something: limits are put back, by no other proof
T3 afterwards it goes on from what was kept: the next start is in no doubt of it
T4 it never makes a marker, nor rises in one that is not ready
"""

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.registry.beat import beat, forgotten_beat
from gateway.registry.clients import Clients
from gateway.registry.limits import set_limits, unset_limits
from tests.registry.rebuilding import AUTHOR
from tests.registry.test_recovery import forget, pump, recovered, remembered
from workers.journal_pump import JournalPump
from workers.limits_watch import LimitsMetrics, look

__all__ = ["pump"]
LIMIT = "org.month.limit_cents"


@pytest.fixture(autouse=True)
async def epoch(clients: Clients) -> None:
    """Note the epoch of the marker in Postgres, as migrate does."""
    await clients.ledger.execute(
        "INSERT INTO node_epoch (epoch, windows, began_ms, cause) VALUES ($1, '', 0, 'migrate')",
        await clients.redis.hget(NODE, "epoch"),
    )


async def numbers(clients: Clients) -> tuple[int, int]:
    """Return the number in Redis and that which is kept."""
    found: Any = await clients.redis.hget(NODE, "beat")
    return int(found or 0), await clients.ledger.fetchval("SELECT beat FROM node_epoch")


async def test_it_rises_with_what_must_not_be_forgotten(
    clients: Clients, pump: JournalPump
) -> None:
    """T1: a look of the watch, a limit that is set, and one that is removed."""
    server = await clients.redis.info("server")
    await clients.redis.hset(NODE, "life", server["run_id"])
    seen = [await numbers(clients)]
    await look(clients, LimitsMetrics(CollectorRegistry()))
    seen.append(await numbers(clients))
    await set_limits(clients, "acme", {"org.day.limit_cents": "5"}, AUTHOR)
    seen.append(await numbers(clients))
    await unset_limits(clients, "acme", ["org.day.limit_cents"], AUTHOR)
    seen.append(await numbers(clients))

    first, _ = seen[0]
    assert seen == [(first + more, first + more) for more in range(4)]


async def test_watch_of_a_start_that_was_not_compared_keeps_it(
    clients: Clients, pump: JournalPump
) -> None:
    """T1: an older file would rise to what is kept, and be believed."""
    before = await numbers(clients)

    await look(clients, LimitsMetrics(CollectorRegistry()))

    assert await numbers(clients) == before


async def test_limit_that_was_lowered_without_a_call_is_put_back(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """T2, T3: nothing has been spent since, so no counter and no sequence tells."""
    before = await remembered(redis_url)
    await set_limits(clients, "acme", {LIMIT: "5"}, AUTHOR)
    kept = await numbers(clients)
    await forget(redis_url, before)

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert found.restored == ("acme",)
    assert await clients.redis.hget("bg:{acme}:limits", LIMIT) == "5"
    assert await numbers(clients) == kept

    # Somebody sets it by hand, and Redis is started again: that was no loss.
    await clients.redis.hset("bg:{acme}:limits", LIMIT, "7")
    again = await recovered(clients, budgets, pump)
    assert again is not None
    assert again.restored == ()


@pytest.mark.parametrize("ready", [None, "0"])
async def test_marker_that_is_not_ready_is_left_alone(clients: Clients, ready: str | None) -> None:
    """T4: a rebuild must find it as it is."""
    await (clients.redis.hset(NODE, "ready", ready) if ready else clients.redis.delete(NODE))
    before = await clients.redis.hgetall(NODE)

    await beat(clients)

    assert await clients.redis.hgetall(NODE) == before


async def test_garbage_is_a_loss(clients: Clients) -> None:
    """T2: whoever has written it has overwritten the number."""
    await beat(clients)
    assert await forgotten_beat(clients) is None
    await clients.redis.hset(NODE, "beat", "many")

    assert await forgotten_beat(clients) == 1
