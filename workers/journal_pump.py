"""The journal pump: reads the journal as one consumer of the group and posts it to the ledger."""

import asyncio
import time
from typing import Any, cast

import asyncpg
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.budgets.keys import JOURNAL, JOURNAL_GROUP
from gateway.ledger.posting import post

_log = structlog.get_logger()
_BATCH = 500
BLOCK_MS = 1_000
# Longer than any batch takes: an entry idle for this long belongs to a worker that died.
CLAIM_IDLE_MS = 30_000
_CLAIM_EVERY_S = 10.0
# A pump that has just begun may follow one that has died, or a Redis that has forgotten an
# acknowledgement of one that is gone: it looks sooner. To post a batch of the living twice is free.
_BEGUN_S, _BEGUN_IDLE_MS, _BEGUN_EVERY_S = 10.0, 3_000, 1.0
_TRIM_EVERY_S = 1.0

Batch = list[tuple[str, dict[str, str] | None]]


class PumpMetrics:
    """What the pump counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.posted = Counter(
            "budget_gateway_journal_posted",
            "Journal entries posted to the ledger, repeats included.",
            registry=registry,
        )
        self.dead = Counter(
            "budget_gateway_journal_dead",
            "Journal entries that could not be booked and are kept in dead_entry.",
            registry=registry,
        )
        self.lost = Counter(
            "budget_gateway_journal_lost",
            "Journal entries that somebody deleted before they were posted.",
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "budget_gateway_journal_lag_seconds",
            "Age of what is being posted, or of the oldest entry that a worker has not posted.",
            registry=registry,
        )
        self.entries = Gauge(
            "budget_gateway_journal_entries",
            "Length of the journal; nothing is admitted above its maximum.",
            registry=registry,
        )


class JournalPump:
    """One reader of the journal. Any number of them may run: an entry posted twice is booked once.

    An entry is acknowledged only after its transaction, and leaves the stream only once every
    entry before it is acknowledged. ``redis`` decodes replies and is used by nothing else, because
    it waits in XREADGROUP.
    """

    def __init__(
        self,
        redis: Redis,
        pool: asyncpg.Pool,
        consumer: str,
        metrics: PumpMetrics,
        claim_idle_ms: int = CLAIM_IDLE_MS,
    ) -> None:
        self._redis = redis
        self._pool = pool
        self._consumer = consumer
        self._metrics = metrics
        self._claim_idle_ms = claim_idle_ms
        self._claimed_s = self._trimmed_s = self._begun_s = float("-inf")

    async def run(self) -> None:
        """Pump until cancelled; any fault of a server is the supervisor's to repeat."""
        await self.start()
        while True:
            await self.step()

    async def start(self) -> None:
        """Make the group where it is missing, and post what this consumer had left unfinished."""
        self._begun_s = asyncio.get_running_loop().time()
        # From the first entry on: posting one that was posted before changes nothing.
        try:
            await self._redis.xgroup_create(JOURNAL, JOURNAL_GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        await self._finish_own()

    async def finish(self) -> None:
        """Post what this consumer was given and has not posted, and leave the group.

        Others would take it only after half a minute. Nothing may step any more.
        """
        await self._finish_own()
        # Whoever leaves takes with it what is pending: that must be nothing.
        if not await self._redis.xpending_range(
            JOURNAL, JOURNAL_GROUP, "-", "+", 1, consumername=self._consumer
        ):
            await self._redis.xgroup_delconsumer(JOURNAL, JOURNAL_GROUP, self._consumer)

    async def step(self) -> int:
        """Post what is new, or wait a second for it; return how many entries were posted."""
        now_s = asyncio.get_running_loop().time()
        posted = 0
        is_young = now_s - self._begun_s < _BEGUN_S
        if now_s - self._claimed_s >= (_BEGUN_EVERY_S if is_young else _CLAIM_EVERY_S):
            self._claimed_s = now_s
            idle_ms = min(self._claim_idle_ms, _BEGUN_IDLE_MS) if is_young else self._claim_idle_ms
            posted += await self._claim(idle_ms)
        new = await self._read(">")
        posted += await self._post(new)
        if new:
            self._note_lag(new[-1][0])
        else:
            await self._note_pending()
        if now_s - self._trimmed_s >= _TRIM_EVERY_S:
            self._trimmed_s = now_s
            await self._trim()
        return posted

    async def _claim(self, idle_ms: int) -> int:
        # Only the ids: what was claimed is then read like everything else that is pending here.
        await self._redis.xautoclaim(
            JOURNAL, JOURNAL_GROUP, self._consumer, idle_ms, count=_BATCH, justid=True
        )
        return await self._finish_own()

    async def _finish_own(self) -> int:
        posted = 0
        while batch := await self._read("0"):
            posted += await self._post(batch)
        return posted

    async def _read(self, after: str) -> Batch:
        streams: dict[Any, Any] = {JOURNAL: after}
        reply = await self._redis.xreadgroup(
            JOURNAL_GROUP, self._consumer, streams, count=_BATCH, block=BLOCK_MS
        )
        return cast(Batch, reply[0][1]) if reply else []

    async def _post(self, batch: Batch) -> int:
        entries = [(journal_id, fields) for journal_id, fields in batch if fields]
        if entries:
            # Before the transaction: while Postgres is away nobody comes to say how long we wait.
            self._note_lag(entries[0][0])
            self._metrics.entries.set(await self._redis.xlen(JOURNAL))
            dead = await post(self._pool, entries)
            self._metrics.posted.inc(len(entries) - dead)
            if dead:
                self._metrics.dead.inc(dead)
                _log.error("journal_entries_dead", count=dead, first=entries[0][0])
        if len(entries) < len(batch):
            # Deleted under its reader: whoever did that took money out of the record.
            lost = [journal_id for journal_id, fields in batch if not fields]
            self._metrics.lost.inc(len(lost))
            _log.error("journal_entries_lost", ids=lost)
        if batch:
            await self._redis.xack(JOURNAL, JOURNAL_GROUP, *(journal_id for journal_id, _ in batch))
        return len(batch)

    async def _note_pending(self) -> None:
        # Nothing is new, but a worker that is gone may have left what it was given.
        oldest = (await self._redis.xpending(JOURNAL, JOURNAL_GROUP))["min"]
        if oldest is None:
            self._metrics.lag_seconds.set(0)
        else:
            self._note_lag(oldest)

    def _note_lag(self, journal_id: str) -> None:
        # A stream id begins with the milliseconds of Redis.
        age_s = time.time() - int(journal_id.partition("-")[0]) / 1000
        self._metrics.lag_seconds.set(max(0, age_s))

    async def _trim(self) -> None:
        # Never MAXLEN: it would drop entries that no transaction has seen. First what was
        # delivered, then what is pending: the other way round, what another pump is given in
        # between would be taken for posted.
        groups = await self._redis.xinfo_groups(JOURNAL)
        if not groups:
            # Redis was emptied, and something was journaled since: the next read says so.
            return
        keep_from = min((group["last-delivered-id"] for group in groups), key=_place)
        for group in groups:
            oldest = (await self._redis.xpending(JOURNAL, group["name"]))["min"]
            keep_from = min(keep_from, oldest or keep_from, key=_place)
        await self._redis.xtrim(JOURNAL, minid=keep_from, approximate=True)
        self._metrics.entries.set(await self._redis.xlen(JOURNAL))


def _place(journal_id: str) -> tuple[int, int]:
    milliseconds, _, number = journal_id.partition("-")
    return int(milliseconds), int(number)
