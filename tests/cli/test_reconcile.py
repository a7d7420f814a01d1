"""The command reconcile: exit code 0 where Redis and ledger agree, 3 where not, and what differs.

What is compared, and when, is told in tests/registry/test_differences.py.
"""

import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.cli.calls import CENT, post_all, spend
from tests.cli.conftest import Run
from workers.journal_pump import JournalPump
from workers.outbox import deliver


async def test_agreement_ends_with_0(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """Every org is looked at, also one that has spent nothing."""
    await add_org(clients, "evil", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))
    await spend(budgets, CENT)
    await post_all(acme)

    said = await command("reconcile", "--json")

    assert said.code == 0
    assert said.document["ok"] is True
    assert said.document["differences"] == []
    assert {row["org"]: row["compared"] for row in said.document["orgs"]} == {"acme": 13, "evil": 0}


async def test_difference_ends_with_3(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """The budget, both amounts and the difference are told; nothing is repaired."""
    await spend(budgets, CENT)
    await post_all(acme)
    await clients.redis.hincrby("bg:{acme}:spend:total", "org.spent", -1)

    said = await command("reconcile", "acme", "--json")
    text = await command("reconcile", "acme")

    assert (said.code, text.code) == (3, 3)
    assert said.document["differences"] == [
        {
            "budget_id": "acme:org.total",
            "window_id": "",
            "counter": "spent",
            "found": "0.999999",
            "expected": "1",
            "difference": "-0.000001",
        }
    ]
    assert "acme: 1 of 13 counters differ" in text.out
    assert await clients.redis.hget("bg:{acme}:spend:total", "org.spent") == "999999"


async def test_repair_is_asked_for(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """What differs is mended by the worker; the exit code is that of a second look."""
    await spend(budgets, CENT)
    await post_all(acme)
    await clients.redis.hincrby("bg:{acme}:spend:total", "org.spent", -1)

    asked = await command("reconcile", "acme", "--repair", "--wait-s", "0")
    await deliver(clients.ledger, budgets)
    again = await command("reconcile", "acme", "--repair")

    assert (asked.code, again.code) == (3, 0)
    assert "1 of 13 counters differ" in asked.err
    assert "A repair was asked for." in asked.err
    assert (again.err, again.out.splitlines()[0][:21]) == ("", "acme: all 13 counters")


async def test_start_in_doubt_is_left_to_the_worker(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """Counters that are repaired by hand would hide from it that Redis has lost writes."""
    await spend(budgets, CENT)
    await post_all(acme)
    await clients.redis.hincrby("bg:{acme}:spend:total", "org.spent", -1)
    await clients.redis.hset(NODE, "life", "another")

    said = await command("reconcile", "acme", "--repair")
    looked = await command("reconcile", "acme")

    assert (said.code, looked.code) == (4, 3)
    assert "no worker has compared it yet" in said.err
    assert await clients.ledger.fetchval("SELECT count(*) FROM outbox") == 0


async def test_damaged_org_is_named_and_the_others_are_compared(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """Exit code 3: somebody must look after it."""
    await add_org(clients, "evil", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))
    await clients.redis.set("bg:{acme}:spend:total", "garbage")

    said = await command("reconcile")
    document = (await command("reconcile", "--json")).document

    assert said.code == 3
    assert "acme: not compared." in said.err
    assert "evil: all 0 counters agree" in said.out
    assert [row["org"] for row in document["failed"]] == ["acme"]


async def test_ledger_that_is_behind_ends_with_3(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """Without a worker there is nothing to compare with; it is waited for once, not per org."""
    await add_org(clients, "evil", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))
    await spend(budgets, CENT)

    said = await command("reconcile", "--wait-s", "0")

    assert said.code == 3
    (line,) = said.out.splitlines()
    assert line.endswith("is the worker running?")


async def test_unknown_org_ends_with_2(command: Run, acme: JournalPump) -> None:
    """A name that nobody added is a mistake, not an agreement."""
    said = await command("reconcile", "nobody")

    assert said.code == 2
    assert "org nobody is not known" in said.err


async def test_missing_marker_ends_with_4(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """A Redis that forgot what it is has no counters to compare."""
    await clients.redis.delete("bg:node")

    said = await command("reconcile", "acme")

    assert said.code == 4
    assert "migrate" in said.err


@pytest.mark.parametrize("words", [("reconcile", "acme"), ("budget", "show", "acme")])
async def test_counter_that_is_no_integer_is_named(
    command: Run, acme: JournalPump, clients: Clients, words: tuple[str, ...]
) -> None:
    """Whoever wrote it did what only the scripts may do; it is told in one sentence."""
    await clients.redis.hset("bg:{acme}:spend:total", "org.spent", "abc")

    said = await command(*words)

    assert said.code not in (0, 1)
    assert "'abc'" in said.err + said.out
    assert "total" in said.err + said.out
