"""The commands of budgets: where they stand, what a credit or a reset does to the next call.

B1 show has a row for the org and each agent that is limited or has spent, in exact cents
B2 show names what refuses every call
B3 show --watch draws anew until Ctrl-C, which is no fault
B4 top orders agents by what they spent this month
B5 a credit is recorded, obeyed by the next call, and counts once whoever applies it
B6 a reset frees the whole limit, however often it is repeated, and spent stays
B7 what names no budget, or no amount, is a sentence and exit code 2
"""

import asyncio
import contextlib
import os
import pty
import signal
import sys

import pytest
import typer

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Credit
from gateway.cli.budget import Given, tell
from gateway.domain.budget import Counters
from gateway.domain.reservation import Denied, Held
from gateway.domain.window import Window
from gateway.registry.clients import Clients
from gateway.registry.standings import Standing
from tests.cli.calls import CENT, reserve, spend
from tests.cli.conftest import Run
from tests.house.sources import ROOT
from tests.until import until
from workers.journal_pump import JournalPump
from workers.outbox import deliver


async def test_show_has_every_budget(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """B1: to the microcent, unlimited spend included, an agent without either left out."""
    await clients.redis.hset(
        "bg:{acme}:limits",
        mapping={"agent.writer.day.limit_cents": "2.5", "agent.writer.day.mode": "soft"},
    )
    await spend(budgets, 1)
    await reserve(budgets, 3 * CENT, "writer")
    day, month, ends_ms = await clients.redis.hmget(
        "bg:{acme}:meta", "day.id", "month.id", "month.end"
    )

    said = await command("budget", "show", "acme", "--json")

    rows = {row.pop("budget_id"): row for row in said.document["budgets"]}
    assert list(rows) == [
        "acme:org.total",
        "acme:org.month",
        "acme:org.day",
        "acme:agent.researcher.total",
        "acme:agent.researcher.month",
        "acme:agent.researcher.day",
        "acme:agent.writer.total",
        "acme:agent.writer.month",
        "acme:agent.writer.day",
    ]
    resets_at = rows["acme:org.month"].pop("resets_at")
    assert rows["acme:org.month"] == {
        "window_id": month,
        "mode": "hard",
        "limit_cents": "10",
        "credit_cents": "0",
        "spent_cents": "0.000001",
        "held_cents": "3",
        "available_cents": "6.999999",
        "next_call": "HELD",
    }
    assert resets_at.endswith("-01T00:00:00Z")
    assert int(ends_ms) % 86_400_000 == 0
    assert rows["acme:agent.writer.day"] == {
        "window_id": day,
        "mode": "soft",
        "limit_cents": "2.5",
        "credit_cents": "0",
        "spent_cents": "0",
        "held_cents": "3",
        "available_cents": "-0.5",
        "resets_at": rows["acme:org.day"]["resets_at"],
        "next_call": "HELD",
    }
    total = rows["acme:org.total"]
    assert (total["limit_cents"], total["available_cents"], total["resets_at"]) == (None,) * 3
    assert said.document["invalid"] == {}


async def test_show_of_an_org_without_a_call_has_its_limits(
    command: Run, acme: JournalPump
) -> None:
    """B1: the window is the one that the first call would open."""
    said = await command("budget", "show", "acme")

    assert said.code == 0
    (row,) = (line for line in said.out.splitlines() if line.startswith("acme:"))
    assert row.split()[:1] + row.split()[2:7] == ["acme:org.month", "hard", "10", "0", "0", "0"]


async def test_show_names_what_refuses(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """B2: a malformed agent limit refuses that agent, a missing status everybody."""
    await spend(budgets, CENT)
    await spend(budgets, CENT, "writer")
    await clients.redis.hset("bg:{acme}:limits", "agent.writer.day.limit_cents", "x")
    agent = await command("budget", "show", "acme", "--json")
    await clients.redis.hdel("bg:{acme}:limits", "status")

    org = await command("budget", "show", "acme", "--json")

    assert agent.document["invalid"] == {"agent.writer": "agent.writer.day.limit_cents"}
    words = {row["budget_id"]: row["next_call"] for row in agent.document["budgets"]}
    assert words["acme:org.month"] == "HELD"
    assert words["acme:agent.writer.month"] == "LIMITS_INVALID"
    assert org.document["invalid"] == {"org": "status"}
    assert {row["next_call"] for row in org.document["budgets"]} == {"LIMITS_INVALID"}


async def test_watch_draws_anew_until_interrupted(
    command: Run, acme: JournalPump, budgets: Bookkeeping
) -> None:
    """B3: what is spent meanwhile appears; Ctrl-C ends it with exit code 0 and no trace."""
    screen, terminal = pty.openpty()
    os.set_blocking(screen, False)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", "budget", "show", "acme", "--watch"),
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    drawn = bytearray()

    def shows(text: bytes) -> bool:
        # EIO where nobody has the terminal open any more.
        with contextlib.suppress(OSError):
            drawn.extend(os.read(screen, 65_536))
        return text in drawn

    await until(lambda: shows(b"acme:org.month"), "the first drawing", 30)
    await spend(budgets, 1_234_567)
    await until(lambda: shows(b"1.234567"), "what was spent")
    process.send_signal(signal.SIGINT)
    # Read on: a terminal that is full keeps the process in the middle of a line.
    await until(lambda: shows(b"") and process.returncode is not None, "its end", 30)
    os.close(screen)

    assert process.returncode == 0
    assert b"Traceback" not in drawn
    assert b"Abort" not in drawn


async def test_watch_is_not_for_programs(command: Run, acme: JournalPump) -> None:
    """B3: a document without end is none."""
    said = await command("budget", "show", "acme", "--watch", "--json")

    assert said.code == 2
    assert "--watch" in said.err


async def test_top_orders_agents(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """B4: who spent most comes first."""
    await clients.redis.hset("bg:{acme}:limits", "agent.writer.month.limit_cents", "5")
    await spend(budgets, CENT)
    await spend(budgets, 2 * CENT, "writer")

    said = await command("budget", "top", "acme", "--json")

    assert said.document["agents"] == [
        {
            "agent": "writer",
            "spent_cents": "2",
            "held_cents": "0",
            "limit_cents": "5",
            "available_cents": "3",
        },
        {
            "agent": "researcher",
            "spent_cents": "1",
            "held_cents": "0",
            "limit_cents": None,
            "available_cents": None,
        },
    ]


async def test_credit_is_obeyed_at_once_and_counts_once(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """B5: before any call of the month; the outbox finds it done, and both stores have it."""
    said = await command(
        *("budget", "credit", "acme", "org.month", "2.5", "--cause", "sorry", "--actor", "ada"),
        "--json",
    )
    delivered = await deliver(clients.ledger, budgets)

    assert said.code == 0
    assert (said.document["word"], said.document["amount_cents"]) == ("OK", "2.5")
    assert delivered == 1
    assert isinstance(await reserve(budgets, 12_500_001), Denied)
    assert isinstance(await reserve(budgets, 12_500_000), Held)
    row = await clients.ledger.fetchrow("SELECT * FROM credit_entry")
    assert row is not None
    assert (row["id"], row["cause"], row["actor"], row["amount_microcents"]) == (
        said.document["credit_id"],
        "sorry",
        "ada",
        2_500_000,
    )
    assert await clients.ledger.fetchval("SELECT result FROM outbox") == "DONE"


async def test_credit_needs_the_node_marker(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """B5: a journal entry without an epoch would be nobody's, so nothing is even recorded."""
    await clients.redis.delete("bg:node")

    said = await command("budget", "credit", "acme", "org.month", "1", "--cause", "x")

    assert said.code == 4
    assert "migrate" in said.err
    assert await clients.ledger.fetchval("SELECT count(*) FROM credit_entry") == 0


async def test_negative_credit_lowers(
    command: Run, acme: JournalPump, budgets: Bookkeeping
) -> None:
    """B5: behind -- a negative amount is one, and the agent's own budget may be meant."""
    said = await command(
        "budget", "credit", "acme", "acme:agent.researcher.day", "--cause", "x", "--", "-4"
    )
    org = await command("budget", "credit", "acme", "org.month", "--cause", "x", "--", "-4")

    assert (said.code, org.code) == (0, 0)
    assert "Credited -4 cents to acme:agent.researcher.day in " in said.out
    assert isinstance(await reserve(budgets, 6 * CENT + 1), Denied)


async def test_reset_frees_the_limit_and_may_be_repeated(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """B6: ten cents are free again, not twenty after a second reset, and spent is what it was."""
    for _ in range(2):
        await spend(budgets, 5 * CENT)

    first = await command("budget", "reset", "acme", "org.month", "--cause", "x", "--json")
    again = await command("budget", "reset", "acme", "org.month", "--cause", "x", "--json")

    assert (first.document["amount_cents"], again.document["amount_cents"]) == ("10", "0")
    assert (again.code, again.document["credit_id"]) == (0, None)
    assert isinstance(await reserve(budgets, 10 * CENT + 1), Denied)
    assert isinstance(await reserve(budgets, 10 * CENT), Held)
    spent = (await budgets.inspect("acme", "total")).counters["total", "org"].spent_microcents
    assert spent == 10 * CENT
    assert await clients.ledger.fetchval("SELECT count(*) FROM credit_entry") == 1


async def test_reset_credits_what_no_credit_covers(
    command: Run, acme: JournalPump, budgets: Bookkeeping
) -> None:
    """B6: of ten cents spent three were credited before, so seven are."""
    await spend(budgets, 10 * CENT)
    await command("budget", "credit", "acme", "org.month", "3", "--cause", "x")

    said = await command("budget", "reset", "acme", "org.month", "--cause", "x", "--json")

    assert said.document["amount_cents"] == "7"
    assert isinstance(await reserve(budgets, 10 * CENT + 1), Denied)
    assert isinstance(await reserve(budgets, 10 * CENT), Held)


def test_credit_of_a_window_that_just_ended_ends_with_3(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """B5: at midnight it may be gone between the look and the credit; nothing was credited."""
    day = Window("day", "2026-11-22", 1, 2)
    change = Credit("01J", "acme", "org", "day", day.id, CENT)
    standing = Standing("org", day, None, Counters(0, 0, 0), "HELD")

    with pytest.raises(typer.Exit) as end:
        tell("acme", Given(change, "GONE", standing), as_json=False)

    assert end.value.exit_code == 3
    assert "2026-11-22 of acme:org.day has just ended" in capsys.readouterr().out


async def test_credit_needs_a_zone_where_a_window_opens(
    command: Run, acme: JournalPump, clients: Clients
) -> None:
    """B7: what cannot be applied is not recorded; total has no window to open."""
    await clients.redis.hset("bg:{acme}:limits", "timezone", "Mars/Olympus")

    month = await command("budget", "credit", "acme", "org.month", "1", "--cause", "x")
    total = await command("budget", "credit", "acme", "org.total", "1", "--cause", "x")

    assert (month.code, total.code) == (2, 0)
    assert "timezone of acme" in month.err
    assert await clients.ledger.fetchval("SELECT count(*) FROM credit_entry") == 1


@pytest.mark.parametrize(
    ("budget", "cents", "sentence"),
    [
        ("org.month", "0", "cents is '0'"),
        ("org.month", "1e3", "cents is '1e3'"),
        ("org.month", "0.0000001", "cents is '0.0000001'"),
        ("org.week", "1", "budget is 'org.week'"),
        ("org", "1", "budget is 'org'"),
        ("agent.reseacher.day", "1", "budget is 'agent.reseacher.day'"),
        ("evil:org.month", "1", "budget is 'evil:org.month'"),
    ],
)
async def test_credit_of_nothing_is_a_sentence(
    command: Run, acme: JournalPump, clients: Clients, budget: str, cents: str, sentence: str
) -> None:
    """B7: and nothing is recorded."""
    said = await command("budget", "credit", "acme", budget, cents, "--cause", "x")

    assert said.code == 2
    assert sentence in said.err
    assert await clients.ledger.fetchval("SELECT count(*) FROM credit_entry") == 0


async def test_unknown_org_is_a_sentence(command: Run, acme: JournalPump) -> None:
    """B7: also where its name cannot be one."""
    unknown = await command("budget", "show", "nobody")
    impossible = await command("budget", "top", "a b")

    assert (unknown.code, impossible.code) == (2, 2)
    assert "org nobody is not known" in unknown.err
    assert "org is 'a b'" in impossible.err
