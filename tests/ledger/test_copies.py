"""A copy of a journal entry under a new journal id books nothing and repairs nothing."""

from collections.abc import Mapping

import asyncpg
import pytest

from gateway.ledger.posting import post
from tests.ledger.test_posting import aggregates, entry, new_id, repairs


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("kinds", [["settle"], ["expire"], ["expire", "settle"]])
async def test_copied_entries_change_nothing(
    pool: asyncpg.Pool, kinds: list[str], apart: bool
) -> None:
    """The counters had each of them once, so a repair would take away what was spent."""
    reservation_id = new_id()
    counted = {"settle": 300 if len(kinds) == 1 else 100, "expire": 200}
    amounts = {"settle": 300, "expire": 200}
    pairs = [entry(kind, reservation_id, amounts[kind], counted[kind]) for kind in kinds]
    copies = [(f"{10**13 + number}-0", dict(fields)) for number, (_, fields) in enumerate(pairs)]
    batches: list[list[tuple[str, Mapping[str, str]]]]
    batches = [[*pairs], [*copies]] if apart else [[*pairs, *copies]]
    for batch in batches:
        assert await post(pool, batch) == 0

    assert set((await aggregates(pool)).values()) == {300 if "settle" in kinds else 200}
    assert await repairs(pool) == []


async def test_entry_that_books_nothing_is_repaired_once(pool: asyncpg.Pool) -> None:
    """It leaves no row to be known by: a replay must not take back what it counted once more."""
    reservation_id = new_id()
    batch = [entry("settle", reservation_id, 5), entry("settle", reservation_id, 8)]

    for _ in range(2):
        assert await post(pool, batch) == 0

    (changes,) = await repairs(pool)
    assert {change[2] for change in changes} == {-8}
