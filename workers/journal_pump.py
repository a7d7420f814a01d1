"""The journal pump: reads the journal as one consumer of the group and posts it to the ledger."""

import asyncio
from typing import Any, cast

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.budgets.keys import JOURNAL, JOURNAL_GROUP
from gateway.ledger.posting import post

_BATCH = 500
_BLOCK_MS = 1_000
# Longer than any batch takes: an entry idle for this long belongs to a worker that died.
_CLAIM_IDLE_MS = 30_000
_CLAIM_EVERY_S = 10.0
_TRIM_EVERY_S = 1.0

Batch = list[tuple[str, dict[str, str] | None]]


class JournalPump:
    """One reader of the journal. Any number of them may run: posting the same entry twice is none.

    An entry is acknowledged only after its transaction, and leaves the stream only once every
    entry before it is acknowledged. ``redis`` decodes replies and is used by nothing else, because
    it waits in XREADGROUP.
    """

    def __init__(self, redis: Redis, pool: asyncpg.Pool, consumer: str) -> None:
        self._redis = redis
        self._pool = pool
        self._consumer = consumer
        self._claimed_s = self._trimmed_s = 0.0

    async def run(self) -> None:
        """Pump until cancelled; any fault of a server is the supervisor's to repeat."""
        await self._ensure_group()
        # What this consumer had read and not acknowledged when it last stopped comes first.
        while await self._post(await self._read("0")):
            pass
        while True:
            await self.step()

    async def step(self) -> int:
        """Post what is new, or wait a second for it; return how many entries were posted."""
        now_s = asyncio.get_running_loop().time()
        posted = 0
        if now_s - self._claimed_s >= _CLAIM_EVERY_S:
            self._claimed_s = now_s
            posted += await self._post(await self._claim())
        posted += await self._post(await self._read(">"))
        if now_s - self._trimmed_s >= _TRIM_EVERY_S:
            self._trimmed_s = now_s
            await self._trim()
        return posted

    async def _ensure_group(self) -> None:
        try:
            await self._redis.xgroup_create(JOURNAL, JOURNAL_GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    async def _read(self, after: str) -> Batch:
        streams: dict[Any, Any] = {JOURNAL: after}
        reply = await self._redis.xreadgroup(
            JOURNAL_GROUP, self._consumer, streams, count=_BATCH, block=_BLOCK_MS
        )
        return cast(Batch, reply[0][1]) if reply else []

    async def _claim(self) -> Batch:
        reply = await self._redis.xautoclaim(
            JOURNAL, JOURNAL_GROUP, self._consumer, _CLAIM_IDLE_MS, count=_BATCH
        )
        return cast(Batch, reply[1])

    async def _post(self, batch: Batch) -> int:
        # An entry that was deleted under its reader comes without fields; there is nothing to post.
        entries = [(journal_id, fields) for journal_id, fields in batch if fields]
        if entries:
            await post(self._pool, entries)
        if batch:
            await self._redis.xack(JOURNAL, JOURNAL_GROUP, *(journal_id for journal_id, _ in batch))
        return len(batch)

    async def _trim(self) -> None:
        # Never MAXLEN: it would drop entries that no transaction has seen.
        pending = await self._redis.xpending(JOURNAL, JOURNAL_GROUP)
        groups = await self._redis.xinfo_groups(JOURNAL)
        delivered = next(g["last-delivered-id"] for g in groups if g["name"] == JOURNAL_GROUP)
        keep_from = pending["min"] or delivered
        await self._redis.xtrim(JOURNAL, minid=keep_from, approximate=True)
