"""Standings: with which word the next call of a budget is answered, and what a change would do.

S1 the word of a budget is that of the script: refused limits before frozen scopes before money
S2 an agent's status falls back to that of all agents; billing freezes an org like operators do
S3 a zone that is none refuses where a window opens, not while all of them run
S4 a change that is not made yet is part of the picture, and Redis stays as it is
"""

import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.domain.reservation import Ask, Denied, Held, Refused
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from gateway.registry.standings import Standings, read_standings, standing_of

CENT = 1_000_000
LIMITS = {"org.month.limit_cents": "10", "agent.*.day.limit_cents": "5"}


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add acme with one agent."""
    await add_org(clients, "acme", "UTC", LIMITS, Author("tester"))
    await clients.redis.hset("bg:{acme}:agents", "researcher", "{}")


def ask(amount_microcents: int) -> Ask:
    """Return an ask of the researcher."""
    return Ask(str(ULID()), "acme", "researcher", amount_microcents)


def words(standings: Standings) -> dict[str, str]:
    """Return the word of each budget."""
    return {f"{found.scope}.{found.window.kind}": found.next_call for found in standings.standings}


@pytest.mark.parametrize(
    ("changes", "org", "agent"),
    [
        ({}, "HELD", "HELD"),
        ({"agent.*.status": "frozen"}, "HELD", "FROZEN"),
        ({"agent.researcher.status": "active", "agent.*.status": "frozen"}, "HELD", "HELD"),
        ({"status": "frozen"}, "FROZEN", "FROZEN"),
        ({"status": "frozen", "org.month.limit_cents": "x"}, "none", "none"),
        ({"org.month.limit_cents": "0"}, "DENIED", "HELD"),
        ({"org.month.limit_cents": "0", "org.month.mode": "soft"}, "HELD", "HELD"),
        ({"agent.*.day.limit_cents": "0.000001"}, "HELD", "HELD"),
        ({"agent.*.day.limit_cents": "0"}, "HELD", "DENIED"),
        ({"timezone": "Mars/Olympus"}, "LIMITS_INVALID", "LIMITS_INVALID"),
    ],
)
async def test_word_is_that_of_the_script(
    clients: Clients, budgets: Bookkeeping, changes: dict[str, str], org: str, agent: str
) -> None:
    """S1 S2 S4: told beforehand, and then, once the change is made, answered so."""
    found = words(await read_standings(clients.redis, "acme", changes))
    before = await clients.redis.hgetall("bg:{acme}:limits")
    if changes:
        await clients.redis.hset("bg:{acme}:limits", mapping=changes)

    outcome = await budgets.reserve(ask(1))

    assert before == {"status": "active", "timezone": "UTC", **LIMITS}
    assert (found.get("org.month", "none"), found.get("agent.researcher.day", "none")) == (
        org,
        agent,
    )
    answers = {"HELD": Held, "DENIED": Denied}
    refused = next((word for word in (org, agent) if word != "HELD"), "HELD")
    assert isinstance(outcome, answers.get(refused, Refused))


async def test_billing_freezes_an_org(clients: Clients) -> None:
    """S2: as the reserve script sees it."""
    await clients.redis.hset("bg:{acme}:meta", "billing_status", "frozen")

    assert set(words(await read_standings(clients.redis, "acme")).values()) == {"FROZEN"}


async def test_zone_refuses_only_where_a_window_opens(
    clients: Clients, budgets: Bookkeeping
) -> None:
    """S3: day and month run to their stored ends, whatever the zone says meanwhile."""
    await budgets.reserve(ask(CENT))
    await clients.redis.hset("bg:{acme}:limits", "timezone", "Mars/Olympus")

    found = await read_standings(clients.redis, "acme")

    assert found.invalid == {}
    assert isinstance(await budgets.reserve(ask(CENT)), Held)


async def test_budget_of_a_scope_without_a_limit_stands_too(clients: Clients) -> None:
    """S1: it may be credited before it is limited, and nothing of it is available or not."""
    standing = standing_of(await read_standings(clients.redis, "acme"), "org.total")

    assert (standing.budget, standing.available_microcents, standing.next_call) == (
        None,
        None,
        "HELD",
    )
