"""Whoever books holds the epoch: a rebuild and a batch never pass each other by."""

import asyncio

import asyncpg

from gateway.ledger.epochs import Epoch, begin_epoch
from gateway.ledger.posting import post
from tests.ledger.test_posting import RESERVED_MS, entry, new_id, repairs
from tests.until import until

_WAITS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def test_batch_waits_for_a_rebuild_that_has_begun(pool: asyncpg.Pool) -> None:
    """What it had counted is lost, and was not in the ledger that the new counters are made of."""
    async with pool.acquire() as rebuilding:
        async with rebuilding.transaction():
            began = Epoch("another", "day,month,total", RESERVED_MS + 60_000)
            await begin_epoch(rebuilding, began, "rebuild")
            booking = asyncio.create_task(post(pool, [entry("settle", new_id(), 700)]))

            async def is_waiting() -> bool:
                assert not booking.done(), booking
                return bool(await pool.fetchval(_WAITS))

            await until(is_waiting, "the batch to wait")
        await booking

    (changes,) = await repairs(pool)
    assert ["total", "org.spent", 700] in changes
