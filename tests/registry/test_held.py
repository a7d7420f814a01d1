"""What is held against the open reservations: what differs is found, named and mended.

H1 open reservations whose counters hold them are no difference
H2 a microcent too much or too little, of org or agent, in one window, is one; so is a number of
   open calls that the limit of concurrency counts wrongly
H3 it is mended by a repair, while calls go on
H4 a lost key of a running window holds again what is open
H5 where a record cannot be read, nothing is given back; the rest is compared
"""

import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.domain.reservation import Ask, Held
from gateway.domain.window import WindowKind
from gateway.registry.clients import Clients
from gateway.registry.differences import Difference, compare
from gateway.registry.drift import drifting
from gateway.registry.mending import mend
from tests.registry.test_differences import CENT, day_and_month, post_all, pump, spend
from workers.journal_pump import JournalPump
from workers.outbox import deliver

__all__ = ["pump"]
KINDS: tuple[WindowKind, ...] = ("day", "month", "total")
TOTAL, RATE, HOLDS = "bg:{acme}:spend:total", "bg:{acme}:rate", "bg:{acme}:holds"


async def reserve(budgets: Bookkeeping, agent: str = "researcher") -> tuple[Ask, Held]:
    """Reserve two cents."""
    ask = Ask(str(ULID()), "acme", agent, 2 * CENT)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held), held
    return ask, held


@pytest.fixture
async def books(clients: Clients, budgets: Bookkeeping, pump: JournalPump) -> Clients:
    """Yield the stores of acme: a cent is spent and booked, and two agents have two calls open."""
    await spend(budgets, CENT)
    await post_all(pump)
    await reserve(budgets)
    await reserve(budgets, "writer")
    return clients


async def differences(books: Clients, budgets: Bookkeeping) -> tuple[Difference, ...]:
    """Compare acme; both looks find something, or none does."""
    found = (await compare(books, budgets, "acme", 0)).differences
    assert bool(await drifting(books, KINDS, ["acme"])) == bool(found)
    return found


async def test_open_reservations_are_no_difference(books: Clients, budgets: Bookkeeping) -> None:
    """H1: nor is one that was extended, or is over."""
    ask, held = await reserve(budgets, "writer")
    await budgets.extend(Ask(ask.id, "acme", "writer", 3 * CENT), held.windows)

    assert await differences(books, budgets) == ()


@pytest.mark.parametrize("scope", ["org", "agent.writer", "agent.idle"])
@pytest.mark.parametrize("drift", [1, -7 * CENT])
async def test_held_that_differs_is_found(
    books: Clients, budgets: Bookkeeping, scope: str, drift: int
) -> None:
    """H2: more, or less than nothing; also of an agent that holds nothing."""
    day, _ = await day_and_month(books.redis)
    key = f"bg:{{acme}}:spend:day:{day}"
    held = int(await books.redis.hget(key, f"{scope}.held") or 0)
    await books.redis.hincrby(key, f"{scope}.held", drift)

    assert await differences(books, budgets) == (
        Difference(f"acme:{scope}.day", day, held + drift, held, "held"),
    )


@pytest.mark.parametrize(("agent", "found", "expected"), [("writer", 2, 1), ("idle", 1, 0)])
async def test_number_of_open_calls_that_differs_is_found(
    books: Clients, budgets: Bookkeeping, agent: str, found: int, expected: int
) -> None:
    """H2: the limit of concurrency would refuse a call too early for ever."""
    await books.redis.hincrby(RATE, f"agent.{agent}.open", 1)

    assert await differences(books, budgets) == (
        Difference(f"acme:agent.{agent}.concurrency", "", found, expected, "open"),
    )


async def test_what_differs_is_mended(
    books: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """H3: calls that begin and end in between stay counted."""
    ask, held = await reserve(budgets)
    await books.redis.hincrby(TOTAL, "org.held", -5)
    await books.redis.hincrby(TOTAL, "agent.writer.held", 9)
    await books.redis.hincrby(RATE, "agent.writer.open", -1)

    found = await mend(books, budgets, "acme", 30)
    await budgets.settle(Settlement("acme", ask.agent, ask.id, held.windows, CENT, b"{}"))
    await reserve(budgets, "writer")
    await post_all(pump)
    await deliver(books.ledger, budgets)

    assert (len(found.differences), found.is_mended) == (3, True)
    assert await differences(books, budgets) == ()
    assert await books.redis.hget(TOTAL, "org.held") == str(6 * CENT)
    assert await books.redis.hget(RATE, "agent.writer.open") == "2"


@pytest.mark.parametrize("gone", [TOTAL, RATE])
async def test_lost_key_holds_again_what_is_open(
    books: Clients, budgets: Bookkeeping, gone: str
) -> None:
    """H4: whoever deleted it gave the room of every open call away."""
    before = await books.redis.hgetall(gone)
    await books.redis.delete(gone)

    await mend(books, budgets, "acme", 30)
    await deliver(books.ledger, budgets)

    after = await books.redis.hgetall(gone)
    assert after == {name: before[name] for name in after}
    assert await differences(books, budgets) == ()


async def test_record_that_cannot_be_read_gives_nothing_back(
    books: Clients, budgets: Bookkeeping
) -> None:
    """H5: its call may run, and nobody knows what it may cost."""
    id = (await books.redis.hkeys(HOLDS))[0]
    await books.redis.hset(HOLDS, id, "garbage")
    await books.redis.hincrby(TOTAL, "org.held", 1)
    assert await differences(books, budgets) == ()
    await books.redis.hincrby(TOTAL, "org.spent", 1)

    (found,) = await differences(books, budgets)
    assert (found.budget_id, found.counter) == ("acme:org.total", "spent")
