"""The command usage: what the ledger says that an org has used, in days of its own zone.

U1 calls, tokens and cost by agent, model or day, and a total that is their sum
U2 late and correct rows count in the cost and are no calls
U3 a day is the one whose budget the call counted in, both ends included
U4 what is no day, no span or no org is a sentence and exit code 2
"""

import itertools
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from ulid import ULID

from gateway.ledger.migrations import ensure_partitions
from gateway.ledger.posting import post
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.cli.conftest import Run

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
SPAN = ("--from", "2026-11-22", "--to", "2026-11-23")
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add acme, which lives in Auckland, 13 hours ahead of UTC."""
    limits = {"org.month.limit_cents": "10"}
    await add_org(clients, "acme", "Pacific/Auckland", limits, Author("tester"))
    async with clients.ledger.acquire() as connection:
        await ensure_partitions(connection, [MIDNIGHT])


def entry(
    cents: int, hours: float, windows: str, agent: str = "researcher", **fields: str
) -> tuple[str, dict[str, str]]:
    """Return a journal entry of a call that was reserved so many hours after midnight UTC."""
    at_ms = str(int((MIDNIGHT + timedelta(hours=hours)).timestamp() * 1000))
    model = fields.pop("model", "m1")
    detail = {"model": model, "input_tokens": 10, "output_tokens": 1} if model else {}
    amount = str(cents * 1_000_000)
    return f"{next(_numbers)}-0", {
        **{"v": "1", "kind": "settle", "id": str(ULID()), "entry_id": "", "epoch": "1"},
        **{"org": "acme", "agent": agent, "amount": amount, "counted": amount},
        **{"reserved_ms": at_ms, "at_ms": at_ms, "windows": windows},
        "detail": orjson.dumps(detail).decode(),
        **fields,
    }


async def rows_of(command: Run, *arguments: str) -> dict[str, list[object]]:
    """Return what usage says by name: calls, input tokens, output tokens, cents."""
    said = await command("usage", "acme", *arguments, "--json")
    assert said.code == 0, said.err
    rows = {row.pop(said.document["by"]): [*row.values()] for row in said.document["rows"]}
    return {**rows, "total": [*said.document["total"].values()]}


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("agent", {"writer": [1, 10, 1, "5"], "researcher": [2, 10, 1, "3"]}),
        ("model", {"m2": [1, 10, 1, "5"], "unknown": [1, 0, 0, "2"], "m1": [1, 10, 1, "1"]}),
        ("day", {"2026-11-22": [1, 10, 1, "1"], "2026-11-23": [2, 10, 1, "7"]}),
    ],
)
async def test_usage_is_summed(
    command: Run, clients: Clients, by: str, rows: dict[str, list[object]]
) -> None:
    """U1: what cost most comes first, days in order; the total is the same whatever the sum."""
    await post(
        clients.ledger,
        [
            entry(1, 1, "day:2026-11-22,total"),
            entry(2, 13, "day:2026-11-23,total", model=""),
            entry(5, 13, "day:2026-11-23,total", "writer", model="m2"),
        ],
    )

    found = await rows_of(command, *SPAN, "--by", by)

    assert list(found.items()) == [*rows.items(), ("total", [3, 20, 2, "8"])]


async def test_late_and_correct_rows_are_no_calls(command: Run, clients: Clients) -> None:
    """U2: expired at 4, late with 6, corrected by -1: one call that cost 5."""
    id = str(ULID())
    await post(
        clients.ledger,
        [
            entry(4, 1, "day:2026-11-22,total", id=id, kind="expire", model=""),
            entry(6, 1, "day:2026-11-22,total", id=id),
            entry(-1, 1, "day:2026-11-22,total", id=id, kind="correct", entry_id="c1", model=""),
        ],
    )

    assert await rows_of(command, *SPAN) == {
        "researcher": [1, 10, 1, "5"],
        "total": [1, 10, 1, "5"],
    }


async def test_day_is_that_of_the_budget(command: Run, clients: Clients) -> None:
    """U3: what counted on the days before and after is left out, whatever UTC or the zone says."""
    await post(
        clients.ledger,
        [
            entry(1, -14, "day:2026-11-21,total"),
            entry(2, -13, "day:2026-11-22,total"),
            # A quarter past midnight in Auckland: the day was kept running by a zone change.
            entry(4, 11.25, "day:2026-11-22,total"),
            entry(8, 12, "day:2026-11-23,total"),
        ],
    )

    assert (await rows_of(command, "--from", "2026-11-22", "--to", "2026-11-22"))["total"] == [
        *(2, 20, 2),
        "6",
    ]


async def test_day_that_is_not_counted_is_that_of_the_zone(command: Run, clients: Clients) -> None:
    """U3: where the deployment has no day budgets, 11:00 UTC is midnight in Auckland."""
    await post(
        clients.ledger,
        [
            entry(1, 10.9, "month:2026-11,total"),
            entry(2, 11, "month:2026-11,total"),
        ],
    )

    found = await rows_of(command, *SPAN, "--by", "day")

    assert {name: row[-1] for name, row in found.items()} == {
        "2026-11-22": "1",
        "2026-11-23": "2",
        "total": "3",
    }


async def test_usage_is_that_of_this_month_by_default(command: Run) -> None:
    """U3: from the first of the month to today; an org without a call has used nothing."""
    said = await command("usage", "acme", "--json")

    assert said.document["from"] == said.document["to"][:8] + "01"
    assert said.document["rows"] == []
    assert [*said.document["total"].values()] == [0, 0, 0, "0"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("acme", "--from", "yesterday"), "from is 'yesterday'; expected a day"),
        (("acme", "--to", "2026-11-31"), "to is '2026-11-31'; expected a day"),
        (("acme", "--from", "2026-11-23", "--to", "2026-11-22"), "expected the earlier day first"),
        (("acme", "--from", "0001-01-01"), "from is '0001-01-01'; expected a year from 1970"),
        (("acme", "--to", "9999-12-31"), "to is '9999-12-31'; expected a year from 1970"),
        (("nobody",), "org nobody is not known"),
    ],
)
async def test_what_cannot_be_summed_is_a_sentence(
    command: Run, arguments: tuple[str, ...], sentence: str
) -> None:
    """U4: the field, what it was and what was expected."""
    said = await command("usage", *arguments)

    assert (said.code, said.out) == (2, "")
    assert sentence in said.err
