"""The books of one org in memory: what the contract says of money, and nothing of how.

The scripts are tested against it. It leaves out keys, idempotency keys, rates, open calls and the
journal, the cap of a counter, and that counters and tombstones leave: keys of a real store do so
by a clock that a test cannot move.
"""

from collections.abc import Sequence
from operator import add
from typing import NamedTuple
from zoneinfo import ZoneInfo

from msgspec import structs
from ulid import ULID

from gateway.budgets.bookkeeping import CreditWord
from gateway.budgets.changes import Credit
from gateway.budgets.proposals import packed_window
from gateway.domain.budget import Budget, Counters, Decision, Invalid, chain_of, decide, field_of
from gateway.domain.limits import check_field
from gateway.domain.money import microcents_from_cents
from gateway.domain.reservation import (
    Ask,
    Denied,
    ExtendOutcome,
    Finished,
    Gone,
    Held,
    Refused,
    Released,
    ReserveOutcome,
    Settled,
    State,
)
from gateway.domain.window import Window, WindowKind, window_at

CLOCK_SKEW_MAX_MS = 300_000
HOLD_TTL_MS = 60_000
NOTHING = Counters(0, 0, 0)


class Hold(NamedTuple):
    """Money that one call may spend: what was asked, and what is held by now, until when."""

    ask: Ask
    amount_microcents: int
    windows: tuple[Window, ...]
    deadline_ms: int


class End(NamedTuple):
    """How a reservation ended, and what the counters of its windows contain of it."""

    state: State
    agent: str
    quote_microcents: int
    cost_microcents: int
    windows: tuple[Window, ...]
    ended_ms: int


class Books:
    """Limits and counters, holds and ends. Every verb is idempotent by its id."""

    def __init__(self, kinds: Sequence[WindowKind], now_ms: int) -> None:
        self.now_ms = now_ms
        self.limits = {"status": "active"}
        self.running: dict[WindowKind, Window] = {}
        self._kinds = tuple(kinds)
        self._counters: dict[tuple[str, str], Counters] = {}
        self._holds: dict[str, Hold] = {}
        self._ends: dict[str, End] = {}
        self._applied: set[str] = set()

    def at(self, now_ms: int) -> None:
        """Move the clock."""
        self.now_ms = now_ms

    def limit(self, field: str, value: str | None) -> None:
        """Set a field of the limits, or remove it."""
        self.limits.pop(field, None)
        if value is not None:
            self.limits[field] = value

    def window_id(self, kind: WindowKind) -> str:
        """Return the id of the window of a kind that was opened last; empty for total."""
        return self.running[kind].id if kind in self.running else ""

    def counters(self) -> dict[tuple[str, str], Counters]:
        """Return what is not zero, by packed window and scope."""
        return {place: numbers for place, numbers in self._counters.items() if any(numbers)}

    def reserve(self, ask: Ask) -> ReserveOutcome:
        """Hold an amount on every budget of the chain, or on none."""
        if abs(_reserved_ms(ask.id) - self.now_ms) > CLOCK_SKEW_MAX_MS:
            return Refused("CLOCK")
        known = self._known(ask)
        if known is not None:
            return known
        chain = self._chain(ask.agent)
        if isinstance(chain, Refused):
            return chain
        windows = self._windows()
        if windows is None:
            return Refused("LIMITS_INVALID", "timezone")
        decision = self._decision(chain, ask, windows)
        if not isinstance(decision, Decision):
            return decision
        # Only what is admitted opens a window.
        self.running.update({window.kind: window for window in windows})
        ttl_ms = ask.ttl_ms or int(self.limits.get("hold_ttl_ms", HOLD_TTL_MS))
        hold = Hold(ask, ask.amount_microcents, windows, self.now_ms + ttl_ms)
        self._holds[ask.id] = hold
        self._add(windows, ask.agent, held=ask.amount_microcents)
        return _held(hold, decision)

    def extend(self, ask: Ask) -> ExtendOutcome:
        """Raise a hold to an absolute amount and keep it for longer; never less of either."""
        hold = self._holds.get(ask.id)
        if hold is None:
            return Gone()
        deadline_ms = max(hold.deadline_ms, self.now_ms + (ask.ttl_ms or HOLD_TTL_MS))
        more = ask.amount_microcents - hold.amount_microcents
        if more <= 0:
            # More time alone is never refused: the money is held already.
            self._holds[ask.id] = hold = hold._replace(deadline_ms=deadline_ms)
            return _held(hold)
        # The agent is the one that holds, whoever extends.
        ask = structs.replace(ask, agent=hold.ask.agent)
        chain = self._chain(ask.agent)
        if isinstance(chain, Refused):
            return chain
        decision = self._decision(chain, ask, hold.windows, hold.amount_microcents)
        if isinstance(decision, Refused):
            return decision
        if isinstance(decision, Denied):
            return structs.replace(decision, resets_ms=self._resets_ms(decision.budget, hold))
        hold = Hold(hold.ask, ask.amount_microcents, hold.windows, deadline_ms)
        self._holds[ask.id] = hold
        self._add(hold.windows, hold.ask.agent, held=more)
        held = _held(hold, decision)
        return structs.replace(held, resets_ms=self._resets_ms(held.budget, hold))

    def settle(self, id: str, agent: str, cost_microcents: int) -> Settled:
        """Replace a hold by all of the cost; what is not held any more is told apart."""
        if id in self._holds:
            over = max(0, cost_microcents - self._holds[id].amount_microcents)
            self._finish(id, "settled", cost_microcents)
            return Settled("SETTLED", cost_microcents, over)
        end = self._ends.get(id)
        if end is None:
            # The ledger decides: the counters may have had this money before they lost it.
            self._ends[id] = End("settled", agent, 0, cost_microcents, (), self.now_ms)
            return Settled("JOURNALED", cost_microcents, 0)
        if end.state == "settled" or (end.state != "expired" and cost_microcents == 0):
            is_same = cost_microcents == end.cost_microcents
            return Settled("DONE" if is_same else "DONE_OTHER", end.cost_microcents, 0)
        # A release that came first knows no windows: such a cost counts where it would now.
        windows = end.windows or self._windows() or ()
        self._add(windows, end.agent, spent=cost_microcents - end.cost_microcents)
        self._ends[id] = end._replace(
            state="settled", cost_microcents=cost_microcents, ended_ms=self.now_ms
        )
        return Settled("LATE" if end.state == "expired" else "VOIDED", cost_microcents, 0)

    def release(self, id: str, agent: str) -> Released:
        """Give a hold back; an unknown id is void, so that a late reserve finds it ended."""
        if id in self._holds:
            self._finish(id, "released", 0)
            return Released("RELEASED", "released", 0)
        if id in self._ends:
            return Released("DONE", self._ends[id].state, self._ends[id].cost_microcents)
        self._ends[id] = End("void", agent, 0, 0, (), self.now_ms)
        return Released("VOID", "void", 0)

    def expire(self, id: str) -> str:
        """End a hold whose deadline has passed; return what the reservation is now."""
        hold = self._holds.get(id)
        if hold is None:
            return self._ends[id].state if id in self._ends else "gone"
        if self.now_ms < hold.deadline_ms:
            return "held"
        released = self.limits.get("on_expiry") == "release"
        # Its settle may still come, and is late either way.
        self._finish(id, "expired", 0 if released else hold.amount_microcents)
        return "released" if released else "expired"

    def credit(self, change: Credit) -> CreditWord:
        """Raise or lower what one budget may spend in the window that runs, or would open now."""
        if change.id in self._applied:
            return "DONE"
        windows = {window.kind: window for window in self._windows() or ()}
        window = windows.get(change.window)
        if window is None or window.id != change.window_id:
            return "GONE"
        self._applied.add(change.id)
        self.running[window.kind] = window
        self._count(window, change.scope, Counters(0, 0, change.amount_microcents))
        return "OK"

    def _known(self, ask: Ask) -> ReserveOutcome | None:
        end, hold = self._ends.get(ask.id), self._holds.get(ask.id)
        if end is not None:
            return Finished(
                end.state,
                end.quote_microcents,
                end.cost_microcents,
                _reserved_ms(ask.id),
                end.ended_ms,
                "proxy",
                end.agent,
            )
        if hold is None:
            return None
        is_same = (hold.ask.agent, hold.ask.body_digest) == (ask.agent, ask.body_digest)
        if not is_same or ask.amount_microcents > hold.amount_microcents:
            return Refused("MISMATCH")
        return _held(hold)

    def _chain(self, agent: str) -> tuple[Budget, ...] | Refused:
        chain = chain_of(self.limits, agent, self._kinds, self.now_ms)
        if isinstance(chain, Invalid):
            return Refused("LIMITS_INVALID", chain.field)
        if self.limits["status"] == "frozen":
            return Refused("FROZEN", "org")
        scope = f"agent.{agent}"
        if self.limits.get(field_of(self.limits, scope, "status")) == "frozen":
            return Refused("FROZEN", scope)
        return chain

    def _windows(self) -> tuple[Window, ...] | None:
        running = [self.running.get(kind, Window(kind, "", 0, 0)) for kind in self._kinds]
        if all(self._runs(window) for window in running):
            return tuple(running)
        zone = self.limits.get("timezone", "UTC")
        if check_field("timezone", zone, ()) is not None:
            return None
        return tuple(
            window
            if self._runs(window)
            else window_at(window.kind, self.now_ms, ZoneInfo(zone), window.end_ms or None)
            for window in running
        )

    def _runs(self, window: Window) -> bool:
        return window.kind == "total" or self.now_ms < window.end_ms

    def _decision(
        self, chain: tuple[Budget, ...], ask: Ask, windows: tuple[Window, ...], own: int = 0
    ) -> Decision | Denied | Refused:
        # own: what an extension holds already, which is not in its own way.
        for scope in ("org", f"agent.{ask.agent}"):
            text = self.limits.get(field_of(self.limits, scope, "per_call_cents"), "none")
            ceiling = microcents_from_cents(text)
            if ceiling is not None and ask.amount_microcents > ceiling:
                return Refused("PER_CALL", scope, limit=ceiling)
        of_kind = {window.kind: window for window in windows}
        numbers = [
            self._counters.get((packed_window(of_kind[budget.window]), budget.scope), NOTHING)
            for budget in chain
        ]
        others = [Counters(spent, held - own, credit) for spent, held, credit in numbers]
        decision = decide(chain, others, ask.amount_microcents)
        if decision.word == "HELD" or decision.budget is None:
            return decision
        budget = decision.budget
        spent, held, credit = numbers[chain.index(budget)]
        ends_ms = of_kind[budget.window].end_ms
        limit = budget.limit_microcents
        return Denied(decision.word, budget.name, limit, credit, spent, held, ends_ms)

    def _resets_ms(self, budget: str, hold: Hold) -> int:
        # A record has no bounds: they are known while its windows are the running ones.
        kind = budget.rpartition(".")[2]
        ids = {window.kind: window.id for window in hold.windows}
        return next(
            (w.end_ms for w in self.running.values() if w.kind == kind and w.id == ids[w.kind]), 0
        )

    def _finish(self, id: str, state: State, cost: int) -> None:
        ask, quote, windows, _ = self._holds.pop(id)
        self._add(windows, ask.agent, held=-quote, spent=cost)
        self._ends[id] = End(state, ask.agent, quote, cost, windows, self.now_ms)

    def _add(self, windows: Sequence[Window], agent: str, spent: int = 0, held: int = 0) -> None:
        change = Counters(spent, held, 0)
        for window in windows:
            self._count(window, "org", change)
            self._count(window, f"agent.{agent}", change)

    def _count(self, window: Window, scope: str, change: Counters) -> None:
        place = packed_window(window), scope
        old = self._counters.get(place, NOTHING)
        self._counters[place] = Counters(*map(add, old, change))


def _reserved_ms(id: str) -> int:
    return ULID.from_str(id).milliseconds


def _held(hold: Hold, decision: Decision | None = None) -> Held:
    packed = ",".join(packed_window(window) for window in hold.windows)
    if decision is None or decision.budget is None:
        return Held(hold.deadline_ms, packed, "", 0, 0, ())
    budget = decision.budget
    [ends_ms] = [window.end_ms for window in hold.windows if window.kind == budget.window]
    warnings = tuple(warned.name for warned in decision.warned)
    left = decision.available_microcents
    return Held(hold.deadline_ms, packed, budget.name, left, ends_ms, warnings)
