"""Redo: what a Redis that was started again may have forgotten is told to it once more.

Its last second may be gone, or more where an older file was restored, or all of it. This process
knows what it holds and what was confirmed last, and each of these calls is harmless where Redis
knows it. They are queued before anything else is, so nothing new is admitted in the room of a
hold that was forgotten. A hold is told until Redis has it or its call has ended, whatever there is
room for: it was granted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import structlog
from msgspec import structs

from gateway.budgets.keys import org_key
from gateway.budgets.replies import Reply, resumed
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Released, Settled
from gateway.errors import StoreError, StoreUnavailable
from gateway.proxy.reservations import Reservation, Reservations
from gateway.proxy.settlements import Settlements
from gateway.proxy.spool import End
from gateway.telemetry import ProxyMetrics

# An org that Redis has forgotten is there again in a second or two.
_HOLD_PAUSE_S = 0.1
_HOLDS_PER_S = 10_000
# Less than what Redis remembers an end for; how long its call took is no matter.
_END_AGE_S = 600.0
_ENDS_PER_STEP = 500
# What is lost is the end of what was written, so a step that was all known is where that begins.
_KNOWN = frozenset(("DONE", "DONE_OTHER"))

_log = structlog.get_logger()


class Redo:
    """Tells Redis again what this process has had confirmed.

    ``lost`` is called with nothing but the fact that the sequence of an org went back: Redis has
    lost what it had confirmed.
    """

    def __init__(
        self,
        budgets: Budgets,
        reservations: Reservations,
        settlements: Settlements,
        metrics: ProxyMetrics,
        lost: Callable[[], Awaitable[None]],
    ) -> None:
        self._budgets = budgets
        self._reservations = reservations
        self._settlements = settlements
        self._metrics = metrics
        self._lost = lost
        self._epoch = budgets.wire.epoch
        self._tasks: set[asyncio.Task[None]] = set()

    def renewed(self) -> None:
        """Queue all of it, at once; the server was started again or has another epoch."""
        wire = self._budgets.wire
        seen, self._settlements.seen = self._settlements.seen, {}
        if wire.epoch != self._epoch:
            # It was rebuilt: that it had lost everything is known.
            seen, self._epoch = {}, wire.epoch
        found = [wire.command("HGET", org_key(org, "meta"), "seq") for org in seen]
        self._spawn(self._compare(seen, found))
        lasting = [each for each in self._reservations.granted.values() if _lasts(each)]
        for reservation in (*self._reservations.open.values(), *lasting):
            self._spawn(self._hold_again(reservation, self._resumed(reservation)))
        self._spawn(self._end_again(time.monotonic() - _END_AGE_S))

    async def close(self) -> None:
        """Stop telling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _compare(
        self, seen: dict[str, int], found: "list[asyncio.Future[bytes | None]]"
    ) -> None:
        replies = await asyncio.gather(*found, return_exceptions=True)
        has_lost = False
        for (org, seq), reply in zip(seen.items(), replies, strict=True):
            if isinstance(reply, BaseException):
                continue
            now = int(reply) if reply and reply.isdigit() else 0
            if now < seq:
                has_lost = True
                _log.error("redis_lost_writes", org=org, confirmed_seq=seq, found_seq=now)
        if has_lost:
            self._metrics.faults.inc()
            await self._lost()

    def _resumed(self, reservation: Reservation) -> "asyncio.Future[Reply]":
        # At least what its last extension made of it: the amount of a call never changes, and a
        # whole life from now ends later.
        life_ms = self._reservations.life_ms(reservation)
        lasting = structs.replace(reservation.ask, ttl_ms=life_ms)
        windows, key_id = reservation.held.windows, reservation.caller.key_id
        return self._budgets.begin_resume(lasting, windows, key_id)

    async def _hold_again(self, reservation: Reservation, future: "asyncio.Future[Reply]") -> None:
        while True:
            try:
                word = resumed(await future)
            except StoreUnavailable:
                word = "COLD"
            except StoreError as error:
                # Its settle is counted all the same: the ledger decides, and repairs.
                id, why = reservation.ask.id, str(error)
                _log.warning("hold_not_made_again", reservation_id=id, why=why)
                return
            if word == "RESUMED":
                self._metrics.redone.labels("hold").inc()
            if word != "COLD":
                return
            # The more there are, the longer: an org that never comes back must not cost all turns.
            await asyncio.sleep(_HOLD_PAUSE_S + len(self._reservations.granted) / _HOLDS_PER_S)
            if reservation.ended or not (reservation.ask.owner == "proxy" or _lasts(reservation)):
                return
            future = self._resumed(reservation)

    async def _end_again(self, oldest_s: float) -> None:
        forgotten = 0
        for step in _steps(list(self._settlements.confirmed), oldest_s):
            ends = await asyncio.gather(
                *map(self._settlements.attempt, step), return_exceptions=True
            )
            if any(isinstance(end, StoreUnavailable) for end in ends):
                # Gone again: all of it is told to the next one.
                break
            new = sum(
                isinstance(end, (Settled, Released)) and end.status not in _KNOWN for end in ends
            )
            self._metrics.redone.labels("end").inc(new)
            forgotten += new
            if not new:
                break
        if forgotten:
            _log.error("redis_forgot_ends", ends=forgotten)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _lasts(granted: Reservation) -> bool:
    """Say whether a caller may still have a hold, which another gateway may have ended.

    That is known to Redis for a while. An older one is on disk by now, or may have been ended:
    made again it would be a hold of nobody.
    """
    now_ms, young_s = time.time_ns() // 1_000_000, time.perf_counter() - _END_AGE_S
    return granted.held.deadline_ms > now_ms and granted.held_s > young_s


def _steps(ends: list[tuple[float, End]], oldest_s: float) -> Iterator[list[End]]:
    """Yield the ends from the youngest to the oldest, some at a time."""
    for last in range(len(ends), 0, -_ENDS_PER_STEP):
        some = ends[max(0, last - _ENDS_PER_STEP) : last]
        yield [end for confirmed_s, end in some if confirmed_s >= oldest_s]
