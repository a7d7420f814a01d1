"""The commands of limits: what is set, who set it, what it would do, and what is wrong with it.

L1 set and unset change all fields or none, with a record, and the next call obeys
L2 a dry run writes nothing and tells the changes and where each budget would stand
L3 get and check show what redis-cli set past the record; check ends with 3 where it is wrong
L4 what cannot be set is a sentence and exit code 2
L5 get needs Redis only
"""

from typing import Any

import pytest

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.domain.reservation import Denied, Held
from gateway.registry.clients import Clients
from tests.cli.calls import CENT, reserve, spend
from tests.cli.conftest import Run
from workers.journal_pump import JournalPump


async def test_set_is_obeyed_and_recorded(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """L1: the limit falls for the next call, and the history has who, why, from what to what."""
    before = await reserve(budgets, 4 * CENT)

    said = await command(
        *("limits", "set", "acme", "org.month.limit_cents=5", "agent.writer.day.limit_cents=1.5"),
        *("--actor", "ada", "--cause", "too much", "--json"),
    )

    assert said.code == 0
    assert said.document == {
        "dry_run": False,
        "changes": [
            {"field": "org.month.limit_cents", "before": "10", "after": "5"},
            {"field": "agent.writer.day.limit_cents", "before": None, "after": "1.5"},
        ],
    }
    assert isinstance(before, Held)
    assert isinstance(await reserve(budgets, 6 * CENT), Denied)
    history = await command("limits", "history", "acme", "org.month.limit_cents", "--json")
    newest, first = history.document["changes"]
    assert (newest["old_value"], newest["new_value"]) == ("10", "5")
    assert (newest["actor"], newest["cause"]) == ("ada", "too much")
    assert (first["old_value"], first["actor"]) == (None, "tester")


async def test_unset_removes(command: Run, acme: JournalPump, clients: Clients) -> None:
    """L1: a field goes, with a record; one that is not there is no change."""
    await clients.redis.hset("bg:{acme}:limits", "org.rpm", "60")

    said = await command("limits", "unset", "acme", "org.rpm", "org.concurrency", "--json")

    assert said.document["changes"] == [{"field": "org.rpm", "before": "60", "after": None}]
    assert not await clients.redis.hexists("bg:{acme}:limits", "org.rpm")
    history = await command("limits", "history", "acme", "org.rpm", "--json")
    assert [change["new_value"] for change in history.document["changes"]] == [None]


async def everything(clients: Clients) -> tuple[dict[str, str], Any]:
    """Return the limits of acme and how many changes are recorded."""
    limits = await clients.redis.hgetall("bg:{acme}:limits")
    return limits, await clients.ledger.fetchval("SELECT count(*) FROM limit_change")


async def test_dry_run_writes_nothing_and_tells_the_effect(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """L2: a limit below what is spent denies the next call, one below what is held waits."""
    await spend(budgets, 3 * CENT)
    await reserve(budgets, 2 * CENT, "writer")
    before = await everything(clients)

    said = await command(
        *("limits", "set", "acme", "org.month.limit_cents=3", "agent.*.day.limit_cents=2"),
        *("org.total.limit_cents=100", "--dry-run", "--json"),
    )

    assert said.code == 0
    assert await everything(clients) == before
    assert said.document["dry_run"] is True
    assert said.document["changes"][0] == {
        "field": "org.month.limit_cents",
        "before": "10",
        "after": "3",
    }
    effect = {
        row["budget_id"]: (
            *(row[f"{name}_cents"] for name in ("limit", "credit", "spent", "held", "available")),
            row["next_call"],
        )
        for row in said.document["budgets"]
    }
    assert effect == {
        "acme:org.total": ("100", "0", "3", "2", "95", "HELD"),
        "acme:org.month": ("3", "0", "3", "2", "-2", "DENIED"),
        "acme:agent.researcher.day": ("2", "0", "3", "0", "-1", "DENIED"),
        "acme:agent.writer.day": ("2", "0", "0", "2", "0", "BUSY"),
    }


async def test_dry_run_of_unset_tells_the_effect(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """L2: a budget whose limit would go is no longer told of."""
    await command("limits", "set", "acme", "org.day.limit_cents=1")
    before = await everything(clients)

    said = await command("limits", "unset", "acme", "org.day.limit_cents", "--dry-run", "--json")

    assert await everything(clients) == before
    assert [row["budget_id"] for row in said.document["budgets"]] == ["acme:org.month"]


async def test_dry_run_of_freezing_tells_that_calls_are_refused(
    command: Run, acme: JournalPump
) -> None:
    """L2: the word is that of the script."""
    said = await command("limits", "set", "acme", "status=frozen", "--dry-run", "--json")

    assert [row["next_call"] for row in said.document["budgets"]] == ["FROZEN"]


async def test_what_redis_cli_set_is_shown_and_checked(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """L3: get has every field with its note; check ends with 3 and names each, then with 0."""
    wrong = {
        "org.day.limit_cent": "5",
        "org.month.warn_at": "80%",
        "agent.reseacher.day.limit_cents": "5",
    }
    await clients.redis.hset("bg:{acme}:limits", mapping=wrong)

    shown = await command("limits", "get", "acme", "--json")
    checked = await command("limits", "check", "--json")
    await clients.redis.hdel("bg:{acme}:limits", *wrong)
    mended = await command("limits", "check", "acme", "--json")

    problems = {field["field"]: field["problem"] for field in shown.document["fields"]}
    assert {field for field, problem in problems.items() if problem} == set(wrong)
    assert problems["org.month.limit_cents"] is None
    assert "there is no agent reseacher" in problems["agent.reseacher.day.limit_cents"]
    assert (shown.code, checked.code, mended.code) == (0, 3, 0)
    assert {row["field"] for row in checked.document["problems"]} == set(wrong)
    assert mended.document == {"ok": True, "orgs": ["acme"], "problems": []}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("set", "acme", "org.month.limit_cents=1e3"), "org.month.limit_cents is '1e3'"),
        (("set", "acme", "org.month.limit_cents"), "expected FIELD=VALUE"),
        (("set", "acme", "org.rpm="), "expected FIELD=VALUE"),
        (("set", "acme", "org.rpm=1", "org.rpm=2"), "org.rpm is given twice"),
        (("set", "acme", "org.dai.limit_cents=1", "--dry-run"), "org.dai.limit_cents"),
        (("set", "nobody", "org.rpm=1"), "org nobody is not known"),
        (("set", "nobody", "org.rpm=1", "--dry-run"), "org nobody is not known"),
        (("unset", "acme", "status"), "must stay"),
        (("unset", "nobody", "org.rpm"), "org nobody is not known"),
        (("get", "nobody"), "Redis has no limits of org nobody"),
        (("check", "nobody"), "org nobody is not known"),
        (("history", "nobody"), "org nobody is not known"),
    ],
)
async def test_what_cannot_be_done_is_a_sentence(
    command: Run, acme: JournalPump, clients: Clients, arguments: tuple[str, ...], sentence: str
) -> None:
    """L4: exit code 2, one line on standard error, and no org comes to be."""
    said = await command("limits", *arguments)

    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert await clients.redis.keys("bg:{nobody}*") == []


async def test_get_needs_redis_only(
    command: Run, acme: JournalPump, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: what is obeyed can be read while Postgres is away; what is recorded cannot be set."""
    monkeypatch.setenv("GATEWAY_DATABASE_URL", "postgresql://127.0.0.1:1/nothing")

    shown = await command("limits", "get", "acme")
    refused = await command("limits", "set", "acme", "org.rpm=1")

    assert shown.code == 0
    assert "org.month.limit_cents" in shown.out
    assert refused.code == 4
