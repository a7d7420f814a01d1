"""Settlements: the end of every reservation, whatever happens to the caller, Redis or us.

A settle is handed to the connection at once and nobody waits for its reply. One that fails is
repeated with the same id, which the script makes harmless, and after five seconds it goes to disk;
from there it is replayed when Redis is back, by this process or by the next one.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from time import monotonic
from typing import Any

import structlog

from gateway.budgets.changes import Settlement
from gateway.budgets.settling import Settling
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Released, Settled
from gateway.errors import StoreError, StoreUnavailable
from gateway.proxy.spool import End, Release, Spool, SpoolFile
from gateway.telemetry import ProxyMetrics

# A restart of Redis is over by then; what is only in memory is lost with a process that is killed.
INSIST_S = 5.0
_PAUSE_FIRST_S = 0.05
_PAUSE_MAX_S = 2.0
_REPLAY_INTERVAL_S = 1.0
# Ends that Redis has confirmed and may still forget, where it saves once a second: what a process
# ends in ten seconds at its fastest, in about 12 MB.
_CONFIRMED_MAX = 20_000

_log = structlog.get_logger()


class Settlements:
    """Keeps every end until Redis has confirmed it or the disk has it.

    ``settle`` and ``release`` never fail, never wait and cannot be cancelled: whoever holds money
    may call them from any ``except`` or ``finally``. ``confirmed`` has the last ends that Redis has
    confirmed, each with its instant of the monotonic clock, the youngest at its right, and ``seen``
    the last sequence number of each org.
    """

    def __init__(
        self, budgets: Budgets, spool: Spool, metrics: ProxyMetrics, insist_s: float = INSIST_S
    ) -> None:
        self._budgets = budgets
        self._send = budgets.calls.settle
        self._spool = spool
        self._metrics = metrics
        self._counts = metrics.settles.counts
        self._insist_s = insist_s
        self._open: dict[str, End] = {}
        self.confirmed: deque[tuple[float, End]] = deque(maxlen=_CONFIRMED_MAX)
        self.seen: dict[str, int] = {}
        self._unspooled: list[End] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False
        self._confirmed = asyncio.Event()
        self._disk = asyncio.Lock()

    @property
    def open(self) -> int:
        """How many ends are neither confirmed nor on disk."""
        return len(self._open)

    def start(self) -> None:
        """Begin to replay what is on disk, whenever Redis can be used."""
        self._spawn(self._keep_replaying())

    def settle(self, settlement: Settlement) -> None:
        """Queue the cost; it leaves at the end of this event-loop turn."""
        self._open[settlement.id] = settlement
        self._send(settlement, settlement.windows, Settling(settlement, self._send, self))

    def release(self, release: Release) -> None:
        """Give a hold back, also one whose reserve was never answered."""
        self._open[release.id] = release
        self._spawn(self._insist(release, 0.0))

    async def close(self, timeout_s: float) -> None:
        """Wait until every end is confirmed; write what is left to disk. Nothing may follow."""
        self._closing = True
        try:
            async with asyncio.timeout(timeout_s):
                while self._open:
                    self._confirmed.clear()
                    await self._confirmed.wait()
        except TimeoutError:
            await self._to_disk(list(self._open.values()))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._spool.close()

    def ended(self, end: End, result: Settled | Released, seq: int = 0) -> None:
        """Note that Redis has confirmed an end, by which write of the org where that is told."""
        self._open.pop(end.id, None)
        self.confirmed.append((monotonic(), end))
        if seq:
            self.seen[end.org] = seq
        if self._closing:
            self._confirmed.set()
        word = result.status
        self._counts[word] += 1
        if not isinstance(result, Settled):
            return
        # DONE is what a repeat of our own hears.
        if word != "SETTLED" and word != "DONE":
            _log.warning("settle_met_an_end", word=word, reservation_id=end.id, org=end.org)
        if result.over_microcents:
            self._metrics.overages.inc()

    async def end(self, end: End) -> Settled | Released:
        """End a reservation and return what Redis has made of it.

        Raises:
            StoreError: that is not known yet. The end is kept, and told until Redis confirms it.
        """
        try:
            result = await self.attempt(end)
        except (StoreError, asyncio.CancelledError) as fault:
            self._open[end.id] = end
            self.failed(end, fault)
            raise
        self.ended(end, result)
        if _met_another(result):
            # What has changed nothing must not be told again as if it had.
            self.confirmed.pop()
        return result

    def failed(self, end: End, fault: BaseException) -> None:
        """Try an end again that was not confirmed at once, whatever the fault."""
        self._spawn(self._insist(end, _PAUSE_FIRST_S))

    async def _insist(self, end: End, pause_s: float) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._insist_s
        while True:
            await asyncio.sleep(pause_s)
            try:
                self.ended(end, await self.attempt(end))
                return
            except StoreUnavailable:
                pause_s = min(max(pause_s, _PAUSE_FIRST_S) * 2, _PAUSE_MAX_S)
                if loop.time() + pause_s > until_s:
                    break
            except StoreError as error:
                # A repeat will not help, but money is at stake: a person must find it.
                self._metrics.faults.inc()
                _log.error("end_refused", reservation_id=end.id, org=end.org, error=str(error))
                break
        await self._to_disk([end])

    async def attempt(self, end: End) -> Settled | Released:
        """Tell Redis an end once; it may have been told before.

        Raises:
            StoreError: Redis is away, or refuses.
        """
        if isinstance(end, Settlement):
            return await self._budgets.settle(end)
        return await self._budgets.release(end.org, end.agent, end.id, end.windows)

    async def _to_disk(self, ends: list[End]) -> None:
        self._unspooled.extend(ends)
        async with self._disk:
            # Whoever comes first writes for all that wait: one fsync for many ends.
            batch, self._unspooled = self._unspooled, []
            try:
                if batch:
                    await asyncio.to_thread(self._spool.append, batch)
            except OSError as error:
                self._keep(batch, error)
                return
        self._metrics.spooled.inc(len(batch))
        self._metrics.spool_entries.inc(len(batch))
        for end in batch:
            self._open.pop(end.id, None)
        self._confirmed.set()

    def _keep(self, ends: list[End], error: OSError) -> None:
        self._metrics.faults.inc()
        for end in ends:
            _log.error("spool_failed", end=repr(end), error=str(error))
            if not self._closing:
                self._spawn(self._insist(end, _PAUSE_MAX_S))

    async def _keep_replaying(self) -> None:
        while True:
            # Other processes share the folder and leave files when they die, so look again.
            if self._budgets.wire.node is not None:
                try:
                    await self._replay()
                except OSError as error:
                    # A disk that is away for a moment must not end all replay.
                    self._metrics.faults.inc()
                    _log.error("spool_not_replayed", error=str(error))
            await asyncio.sleep(_REPLAY_INTERVAL_S)

    async def _replay(self) -> None:
        async with self._disk:
            files = await asyncio.to_thread(self._spool.take)
        self._metrics.spool_entries.set(sum(len(file.ends) for file in files))
        try:
            while files and (refused := await self._told(files[0])) is not None:
                # Not ours to put back any more, also where a stop comes before this has ended: its
                # descriptor would be closed twice, and be somebody else's by then.
                file = files.pop(0)
                await asyncio.to_thread(self._spool.finish, file, keep=bool(refused))
                self._metrics.spool_entries.dec(len(file.ends))
        finally:
            self._spool.put_back(files)

    async def _told(self, file: SpoolFile) -> int | None:
        """Tell Redis what is in a file; return how much was refused, None where Redis is away."""
        refused = file.broken_lines
        for end in file.ends:
            try:
                self.ended(end, await self.attempt(end))
            except StoreUnavailable:
                return None
            except StoreError as error:
                refused += 1
                _log.error("end_refused", reservation_id=end.id, org=end.org, error=str(error))
        if refused:
            self._metrics.faults.inc()
            _log.error("spool_file_kept", file=str(file.path), ends=refused)
        return refused

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _met_another(result: Settled | Released) -> bool:
    """Say whether a reservation had ended before, in another way than this end says."""
    if isinstance(result, Settled):
        return result.status == "DONE_OTHER"
    return result.state not in ("released", "void")
