"""The command budget explain: one call from its hold to its bill, equal to the microcent.

E1 an open call is told from Redis, an ended one from journal and ledger too
E2 a late settle and a correction are rows of their own, and the bill is their sum
E3 what Redis and the journal have forgotten is told by the ledger
E4 an entry kept aside is told with its reason
E5 an unknown id is exit code 3, an impossible one 2
"""

import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Correction, Settlement
from gateway.domain.reservation import Ask, Held
from gateway.registry.clients import Clients
from tests.cli.calls import CENT, DETAIL, post_all, spend
from tests.cli.conftest import Run
from workers.journal_pump import JournalPump


async def test_open_call_is_told(command: Run, acme: JournalPump, budgets: Bookkeeping) -> None:
    """E1: what is held, until when, in which windows; nothing was journaled or booked."""
    ask = Ask(str(ULID()), "acme", "researcher", 3 * CENT)
    await budgets.reserve(ask)

    said = await command("budget", "explain", "acme", ask.id, "--json")

    story = said.document
    assert (said.code, story["agent"], story["billed_cents"]) == (0, "researcher", "0")
    assert (story["redis"]["state"], story["redis"]["quote_cents"]) == ("held", "3")
    assert story["redis"]["deadline_at"] > story["reserved_at"]
    assert (story["journal"], story["ledger"]) == ([], [])
    assert [window["window"] for window in story["windows"]] == ["day", "month", "total"]


async def test_ended_call_is_told(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """E1: Redis, journal and ledger agree on the amount; other calls are not in the story."""
    await spend(budgets, 5)
    id = await spend(budgets, 1_234_567)
    waiting = await command("budget", "explain", "acme", id, "--json")
    await post_all(acme)

    said = await command("budget", "explain", "acme", id, "--json")

    (entry,) = waiting.document["journal"]
    assert (entry["kind"], entry["amount_cents"], entry["has_row"]) == ("settle", "1.234567", False)
    story = said.document
    assert (story["redis"]["state"], story["redis"]["cost_cents"]) == ("settled", "1.234567")
    (row,) = story["ledger"]
    assert (row["kind"], row["amount_cents"], row["counted_cents"]) == (
        "settle",
        "1.234567",
        "1.234567",
    )
    assert [row[name] for name in ("model", "input_tokens", "price_id", "source", "key_id")] == [
        "m1",
        7,
        "p1",
        "tokens",
        "k1",
    ]
    assert story["billed_cents"] == "1.234567"
    spent = {
        (window["org_spent_cents"], window["agent_spent_cents"]) for window in story["windows"]
    }
    assert spent == {("1.234572", "1.234572")}
    assert [window["window"] for window in story["windows"]] == ["day", "month", "total"]


async def test_late_and_corrected_call_is_told(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """E2: expired at 4, late with 6, corrected by -1: five is billed, in the order it happened."""
    ask = Ask(str(ULID()), "acme", "researcher", 4 * CENT, ttl_ms=1)
    held = await budgets.reserve(ask)
    assert isinstance(held, Held)
    while await budgets.expire("acme", held.windows, [ask.id]) == ["held"]:
        pass
    settlement = Settlement("acme", "researcher", ask.id, held.windows, 6 * CENT, DETAIL)
    assert (await budgets.settle(settlement)).status == "LATE"
    correction = (str(ULID()), "acme", "researcher", ask.id, held.windows, -CENT)
    await budgets.correct(Correction(*correction, b"{}"))
    await post_all(acme)

    said = await command("budget", "explain", "acme", ask.id, "--json")

    rows = [(row["kind"], row["amount_cents"]) for row in said.document["ledger"]]
    assert rows == [("expire", "4"), ("late", "2"), ("correct", "-1")]
    assert said.document["billed_cents"] == "5"
    text = await command("budget", "explain", "acme", ask.id)
    assert "It has cost 5 cents in all." in text.out


async def test_forgotten_call_is_told_by_the_ledger(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """E3: months later there are the rows and what was spent in their windows."""
    id = await spend(budgets, CENT)
    await post_all(acme)
    await clients.redis.delete("bg:journal", f"bg:{{acme}}:done:{id}")

    said = await command("budget", "explain", "acme", id, "--json")

    story = said.document
    assert (story["redis"], story["journal"], story["agent"]) == (None, [], "researcher")
    assert story["billed_cents"] == "1"
    assert [window["org_spent_cents"] for window in story["windows"]] == ["1", "1", "1"]


async def test_entry_kept_aside_is_told(command: Run, acme: JournalPump, clients: Clients) -> None:
    """E4: money that no row has is not silent."""
    id = str(ULID())
    entry = {"v": "1", "kind": "settle", "id": id, "org": "acme", "amount": "x", "epoch": "1"}
    await clients.redis.xadd("bg:journal", entry)
    await post_all(acme)

    said = await command("budget", "explain", "acme", id, "--json")
    other = await command("budget", "explain", "evil", id, "--json")

    assert (said.code, other.code) == (0, 3)
    (kept,) = said.document["dead"]
    assert "amount is 'x'" in kept["reason"]


@pytest.mark.parametrize(
    ("id", "code", "sentence"),
    [
        pytest.param(str(ULID()), 3, "Nothing is known of", id="unknown"),
        ("01J", 2, "id is '01J'"),
        ("8" * 26, 2, "expected a Budget-Request-Id"),
        ("U" * 26, 2, "expected a Budget-Request-Id"),
    ],
)
async def test_unknown_call_is_a_sentence(
    command: Run, acme: JournalPump, budgets: Bookkeeping, id: str, code: int, sentence: str
) -> None:
    """E5: also in an org that has calls of its own."""
    await spend(budgets, CENT)

    said = await command("budget", "explain", "acme", id)

    assert (said.code, said.out) == (code, "")
    assert sentence in said.err


async def test_call_of_another_org_is_not_told(
    command: Run, acme: JournalPump, clients: Clients, budgets: Bookkeeping
) -> None:
    """E5: an id is looked up in one org only, in all three places."""
    id = await spend(budgets, CENT)
    await post_all(acme)

    said = await command("budget", "explain", "evil", id)

    assert said.code == 3
