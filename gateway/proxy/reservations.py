"""Reservations: what is held for the calls that run, kept alive and ended exactly once."""

import asyncio
import time

import structlog
from msgspec import Struct, json, structs

from gateway.budgets.changes import Settlement
from gateway.budgets.replies import HELD, UNREADABLE, held, unreadable
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import (
    Ask,
    Denied,
    Finished,
    Gone,
    Held,
    Refused,
    Replayed,
    ReserveOutcome,
)
from gateway.domain.usage import Usage
from gateway.errors import OutcomeUnknown, StoreError
from gateway.proxy.meter import Metered, Source
from gateway.proxy.settlements import Settlements
from gateway.proxy.spool import Release
from gateway.telemetry import ProxyMetrics

# A hold is extended when a third of its life is over: two more tries may fail.
_TRIES = 3
_LOOK_INTERVAL_S = 0.5
_TTL_MIN_MS = 1000
# Holds of callers that are told again to a Redis which forgot them, in about 12 MB.
_GRANTED_MAX = 20_000

_log = structlog.get_logger()


class Caller(Struct, frozen=True, gc=False):
    """Who pays: what the key text said, and what the journal remembers of the call."""

    key_id: str
    tags: str = ""


class _Detail(Struct, gc=False, omit_defaults=True):
    """What the journal keeps of a call beside its cost; ``null`` where it is not known.

    Only empty ``tags`` are left out. To make and encode it takes half of what a dict takes.
    """

    model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    price_id: str | None
    source: Source
    status: int
    duration_ms: int
    key_id: str
    tags: str = ""


class _Untold(Struct, frozen=True, gc=False):
    """The usage of a call whose answer has told none."""

    input_tokens: None = None
    output_tokens: None = None
    cached_tokens: None = None


_UNTOLD = _Untold()
_encoded = json.Encoder().encode


class Reservation(Struct, eq=False):
    """One hold. The first of ``settle`` and ``release`` counts, any later one does nothing.

    ``cost_microcents`` is what it was settled with, None where it was not; ``store_s`` how long
    Redis took to answer. ``is_sending`` says that the call may have reached its upstream, so that
    it may have cost something. ``ttl_ms`` is 0 until the first look at a call that runs for long.
    """

    keeper: "Reservations"
    ask: Ask
    held: Held
    caller: Caller
    held_s: float
    store_s: float
    is_sending: bool = False
    ended: bool = False
    cost_microcents: int | None = None
    ttl_ms: int = 0
    extend_at_s: float = 0.0

    def note_sending(self) -> None:
        """Note that the first byte leaves."""
        self.is_sending = True

    def settle(self, metered: Metered, status: int) -> None:
        """Queue the cost; it is on its way to Redis after one more turn of the event loop."""
        if self.ended:
            return
        self.ended = True
        self.cost_microcents = metered.cost_microcents
        usage: Usage | _Untold = metered.usage or _UNTOLD
        ask, caller = self.ask, self.caller
        detail = _Detail(
            metered.model,
            usage.input_tokens,
            usage.output_tokens,
            usage.cached_tokens,
            metered.price_id,
            metered.source,
            status,
            int((time.perf_counter() - self.held_s) * 1000),
            caller.key_id,
            caller.tags,
        )
        del self.keeper.open[ask.id]
        self.keeper.settlements.settle(
            Settlement(
                ask.org,
                ask.agent,
                ask.id,
                self.held.windows,
                metered.cost_microcents,
                _encoded(detail),
            )
        )

    def grant(self) -> None:
        """Leave it to its caller, who ends it: it is not kept alive here."""
        keeper, id = self.keeper, self.ask.id
        if len(keeper.granted) >= _GRANTED_MAX:
            del keeper.granted[next(iter(keeper.granted))]
        keeper.granted[id] = keeper.open.pop(id)

    def release(self) -> None:
        """Give the hold back: the call has cost nothing."""
        if not self.ended:
            self.ended = True
            ask, keeper = self.ask, self.keeper
            del keeper.open[ask.id]
            keeper.settlements.release(Release(ask.org, ask.agent, ask.id, self.held.windows))


class Reservations:
    """Every open reservation of this process.

    ``open`` has them by their ids. Each takes itself out when it ends, and hands its end to
    ``settlements``. ``granted`` are the last that callers were given, who end them here or at
    another gateway.
    """

    def __init__(self, budgets: Budgets, settlements: Settlements, metrics: ProxyMetrics) -> None:
        self._budgets = budgets
        self.settlements = settlements
        self._metrics = metrics
        self._observe = metrics.reserve_seconds.observe
        self.open: dict[str, Reservation] = {}
        self.granted: dict[str, Reservation] = {}
        self._extensions: set[asyncio.Task[None]] = set()
        self._watch: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many are open."""
        return len(self.open)

    def start(self) -> None:
        """Begin to keep long calls alive."""
        self._watch = asyncio.create_task(self._keep_alive(), name="hold extension")

    async def close(self) -> None:
        """Stop keeping them alive."""
        tasks = [*self._extensions, *([self._watch] if self._watch else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def life_ms(self, reservation: Reservation) -> int:
        """Return how long a hold is kept from each extension on, by the clock of Redis."""
        if not reservation.ttl_ms:
            self._plan(reservation, time.perf_counter())
        return reservation.ttl_ms

    async def reserve(
        self, ask: Ask, caller: Caller
    ) -> "Reservation | Denied | Refused | Finished | Replayed":
        """Hold the amount and take the hold into care, or say why nothing is held.

        Raises:
            StoreError: Redis failed. A hold that may have been made is given back.
        """
        began_s = time.perf_counter()
        try:
            reply = await self._budgets.begin_reserve(ask)
            outcome: ReserveOutcome
            if reply[0] == HELD:
                # Nearly all are, and need no further coroutine.
                outcome = held(reply, ask.idempotency_digest)
            else:
                outcome = await self._budgets.end_reserve(ask, reply)
        except StoreError as error:
            if isinstance(error, OutcomeUnknown) or not error.transient:
                self.settlements.release(Release(ask.org, ask.agent, ask.id, ""))
            raise
        except UNREADABLE as error:
            self.settlements.release(Release(ask.org, ask.agent, ask.id, ""))
            raise unreadable(error) from error
        except asyncio.CancelledError:
            self.settlements.release(Release(ask.org, ask.agent, ask.id, ""))
            raise
        held_s = time.perf_counter()
        store_s = held_s - began_s
        self._observe(store_s)
        if not isinstance(outcome, Held):
            return outcome
        reservation = self.open[ask.id] = Reservation(self, ask, outcome, caller, held_s, store_s)
        return reservation

    async def _keep_alive(self) -> None:
        # One look for all calls: a timer for each would cost every short call its share.
        while True:
            await asyncio.sleep(_LOOK_INTERVAL_S)
            self._metrics.count_durations()
            now_s = time.perf_counter()
            for reservation in list(self.open.values()):
                if not reservation.ttl_ms:
                    self._plan(reservation, now_s)
                if now_s >= reservation.extend_at_s:
                    reservation.extend_at_s = now_s + reservation.ttl_ms / 1000 / _TRIES
                    task = asyncio.create_task(self._extend(reservation))
                    self._extensions.add(task)
                    task.add_done_callback(self._extensions.discard)

    def _plan(self, reservation: Reservation, now_s: float) -> None:
        """Find out how long a hold lives by the clock of Redis, and when to extend it first."""
        age_ms = int((now_s - reservation.held_s) * 1000)
        held_ms = time.time_ns() // 1_000_000 - (self._budgets.wire.skew_ms or 0) - age_ms
        reservation.ttl_ms = max(_TTL_MIN_MS, reservation.held.deadline_ms - held_ms)
        reservation.extend_at_s = reservation.held_s + reservation.ttl_ms / 1000 / _TRIES

    async def _extend(self, reservation: Reservation) -> None:
        ask = structs.replace(reservation.ask, ttl_ms=reservation.ttl_ms)
        try:
            outcome = await self._budgets.extend(ask, reservation.held.windows)
        except StoreError:
            # Tried again after another third of its life.
            return
        if isinstance(outcome, Gone) and not reservation.ended:
            _log.warning("hold_expired_under_a_running_call", reservation_id=ask.id, org=ask.org)
