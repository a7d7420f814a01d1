"""What of Postgres is not set up to keep money is told; the server of the tests is not."""

import asyncpg

from gateway.ledger.durability import check_durability


async def test_settings_under_which_a_crash_loses_entries_are_told(database_url: str) -> None:
    """Each by its name; one that is on is not."""
    async with (
        asyncpg.create_pool(database_url, min_size=1) as loose,
        asyncpg.create_pool(
            database_url, min_size=1, server_settings={"synchronous_commit": "on"}
        ) as stricter,
    ):
        told, fewer = await check_durability(loose), await check_durability(stricter)

    assert [sentence.split()[0] for sentence in told] == [
        "fsync",
        "full_page_writes",
        "synchronous_commit",
    ]
    assert [sentence.split()[0] for sentence in fewer] == ["fsync", "full_page_writes"]
