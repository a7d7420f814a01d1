"""Engines: what keeps the books that a scenario table is played on."""

import inspect
from collections.abc import Awaitable
from typing import Protocol, TypeAlias, TypeVar, cast

from gateway.budgets.bookkeeping import CreditWord
from gateway.budgets.changes import Credit
from gateway.domain.budget import Counters
from gateway.domain.reservation import Ask, ExtendOutcome, Released, ReserveOutcome, Settled
from gateway.domain.window import WindowKind

Result = TypeVar("Result")
Maybe: TypeAlias = Result | Awaitable[Result]


class Engine(Protocol):
    """The books of one org: in memory at once, or by the scripts on some server later."""

    def at(self, now_ms: int) -> Maybe[None]:
        """Move the clock."""

    def limit(self, field: str, value: str | None) -> Maybe[None]:
        """Set a field of the limits, or remove it."""

    def reserve(self, ask: Ask) -> Maybe[ReserveOutcome]:
        """Hold an amount on every budget of the chain, or on none."""

    def extend(self, ask: Ask) -> Maybe[ExtendOutcome]:
        """Raise a hold."""

    def settle(self, id: str, agent: str, cost_microcents: int) -> Maybe[Settled]:
        """Replace a hold by the cost."""

    def release(self, id: str, agent: str) -> Maybe[Released]:
        """Give a hold back."""

    def expire(self, id: str) -> Maybe[str]:
        """End an overdue hold and return its state."""

    def credit(self, change: Credit) -> Maybe[CreditWord]:
        """Raise or lower what one budget may spend in one window."""

    def window_id(self, kind: WindowKind) -> Maybe[str]:
        """Return the id of the window of a kind that was opened last; empty for total."""

    def counters(self) -> Maybe[dict[tuple[str, str], Counters]]:
        """Return what is not zero, by packed window and scope."""


async def given(result: Maybe[Result]) -> Result:
    """Return a result, after it has come where it is still to come."""
    return cast(Result, await result if inspect.isawaitable(result) else result)
