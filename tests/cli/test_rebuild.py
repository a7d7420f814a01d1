"""The command rebuild: what it says and how it ends; and what migrate and doctor say of a loss.

What is restored is told in tests/registry/test_rebuild.py.
"""

import pytest

from gateway.budgets.keys import NODE
from gateway.registry.clients import Clients
from tests.cli.conftest import Run
from workers.journal_pump import JournalPump


async def test_loss_is_told_and_rebuilt(command: Run, acme: JournalPump, clients: Clients) -> None:
    """Migrate and doctor name the way out; after it both are content, and so is reconcile."""
    await clients.redis.flushall()

    migrate = await command("migrate")
    doctor = await command("doctor", "--json")
    rebuilt = await command("rebuild", "--json")
    again = await command("migrate", "--json")
    healthy = await command("doctor", "--json")
    compared = await command("reconcile", "--json")

    assert migrate.code == 2
    assert "rebuild" in migrate.err
    assert "rebuild" in checks(doctor.document)["marker"]
    assert rebuilt.code == 0
    epoch = rebuilt.document["epoch"]
    assert rebuilt.document == {
        "epoch": epoch,
        "windows": ["day", "month", "total"],
        "orgs": 1,
        "counters": 0,
        "credits": 0,
        "closed": [],
    }
    assert again.document["node"]["epoch"] == epoch
    assert epoch in checks(healthy.document)["marker"]
    assert checks(healthy.document)["epoch"] == "Redis is the one that Postgres knows."
    assert compared.code == 0


async def test_rebuild_of_a_ready_redis_ends_with_2(command: Run, acme: JournalPump) -> None:
    """One sentence; differences are another command's."""
    said = await command("rebuild")

    assert (said.code, said.out) == (2, "")
    assert "reconcile --repair" in said.err
    assert len(said.err.splitlines()) == 1


async def test_closed_org_is_named(command: Run, acme: JournalPump, clients: Clients) -> None:
    """Its limits are asked for, in words to copy."""
    await clients.ledger.execute("DELETE FROM limits_mirror")
    await clients.ledger.execute("DELETE FROM limit_change")
    await clients.redis.flushall()

    said = await command("rebuild")

    assert said.code == 0
    assert "Restored 1 org, 0 counters, 0 credits." in said.out
    assert "limits set acme status=active" in said.err


async def test_half_a_rebuild_is_told(command: Run, acme: JournalPump, clients: Clients) -> None:
    """Migrate does not open the gate that a rebuild has left closed."""
    await clients.redis.flushall()
    await command("rebuild")
    await clients.redis.hset(NODE, "ready", "0")

    said = await command("migrate")

    assert said.code == 2
    assert "repeat rebuild" in said.err
    assert await clients.redis.hget(NODE, "ready") == "0"


@pytest.mark.parametrize("words", [("migrate",), ("doctor", "--json")])
async def test_redis_of_an_older_epoch_is_told(
    command: Run, acme: JournalPump, clients: Clients, words: tuple[str, ...]
) -> None:
    """The one that was lost came back after another was rebuilt: its counters are old."""
    await clients.redis.flushall()
    await command("rebuild")
    await clients.redis.hset(NODE, "epoch", "older")

    said = await command(*words)

    assert said.code in (2, 3)
    assert "older" in said.err + said.out


async def test_windows_that_were_counted_are_restored(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """The list is a decision of operators that only the marker had."""
    await command("migrate", "--windows", "day,month,total,week")
    await clients.redis.flushall()

    said = await command("rebuild", "--json")

    assert said.document["windows"] == ["day", "month", "total", "week"]
    assert await clients.redis.hget(NODE, "windows") == "day,month,total,week"


def checks(document: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    """Return what doctor says, by what it has looked at."""
    return {check["subject"]: check["says"] for check in document["checks"]}
