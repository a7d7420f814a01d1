"""The command migrate: windows are only added, and a Redis that lost its counters is no new one."""

import pytest
from ulid import ULID

from gateway.budgets.keys import NODE
from gateway.ledger.posting import post
from gateway.registry.clients import Clients
from tests.cli.conftest import Run
from tests.ledger.test_posting import entry

COUNTED = "day,month,total"


async def test_repeated_migrate_changes_nothing(command: Run, clients: Clients) -> None:
    """Tables and marker are made once; the marker keeps its epoch."""
    await clients.redis.delete(NODE)
    await command("migrate")
    marker = await clients.redis.hgetall(NODE)

    said = await command("migrate", "--json")

    assert (said.code, said.document["migrations"]) == (0, [])
    assert await clients.redis.hgetall(NODE) == marker
    assert marker["windows"] == COUNTED


async def test_windows_are_added(command: Run, clients: Clients) -> None:
    """The list is the whole list, with what is counted already."""
    await command("migrate")

    said = await command("migrate", "--windows", f"{COUNTED},week")

    assert said.code == 0
    assert set((await clients.redis.hget(NODE, "windows")).split(",")) == {
        *COUNTED.split(","),
        "week",
    }


@pytest.mark.parametrize("windows", ["week", "day,month", "fortnight"])
async def test_window_that_is_counted_is_not_dropped(
    command: Run, clients: Clients, windows: str
) -> None:
    """Every limit on it would refuse from then on; what is not a window is named."""
    await command("migrate")

    said = await command("migrate", "--windows", windows)

    assert said.code == 2
    assert COUNTED in said.err or windows in said.err
    assert await clients.redis.hget(NODE, "windows") == COUNTED


async def test_redis_that_lost_its_counters_is_not_marked(command: Run, clients: Clients) -> None:
    """With spend in the ledger an empty Redis would start from zero: only if asked to."""
    await clients.redis.delete(NODE)
    await post(clients.ledger, [entry("settle", str(ULID()), 1)])

    refused = await command("migrate")
    marked = await command("migrate", "--from-zero")

    assert (refused.code, marked.code) == (2, 0)
    assert "--from-zero" in refused.err
    assert await clients.redis.hget(NODE, "ready") == "1"
