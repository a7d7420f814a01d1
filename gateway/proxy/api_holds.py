"""API holds: reservations that callers make and end themselves, for work that passes elsewhere.

They have the owner ``api``. Whoever asks reaches those of its own org and agents; every other id
is answered as one that does not exist.
"""

import time
from collections.abc import Mapping

import orjson
import structlog
from msgspec import Struct, structs

from gateway.budgets.changes import Request, Settlement
from gateway.budgets.keys import org_key
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Gone, Held, Released, State
from gateway.domain.reservation_id import is_reservation_id
from gateway.errors import StoreError, StoreNotReady
from gateway.proxy import problem
from gateway.proxy.agents import Agents
from gateway.proxy.idempotency import recognised
from gateway.proxy.ids import new_id
from gateway.proxy.problem import Problem, cents, instant
from gateway.proxy.refusals import Refusals
from gateway.proxy.reservations import Caller, Reservation, Reservations
from gateway.proxy.spool import End, Release
from gateway.proxy.visitor import Visitor

# Where more time is not asked for: a deadline never moves back.
_NO_MORE_MS = 1
_KEPT = "The budget store did not answer. This is kept and told again; to repeat it counts once."

_log = structlog.get_logger()


class Wish(Struct, frozen=True, gc=False):
    """What is to be held; ``ttl_ms`` 0 takes the org's, an empty ``idempotency_key`` is none."""

    agent: str
    amount_microcents: int
    ttl_ms: int
    idempotency_key: bytes


class Granted(Struct, frozen=True, gc=False):
    """What is held now, and until when."""

    id: str
    amount_microcents: int
    deadline_ms: int

    def members(self) -> Mapping[str, object]:
        """Return it as callers are told."""
        amount, expires_at = cents(self.amount_microcents), instant(self.deadline_ms)
        return {"id": self.id, "expires_at": expires_at, "amount_cents": amount}


class Standing(Struct, frozen=True, gc=False):
    """Where a reservation stands; an open one has no cost yet, but a deadline."""

    id: str
    state: State
    cost_microcents: int
    deadline_ms: int = 0

    def members(self) -> Mapping[str, object]:
        """Return it as callers are told."""
        if self.state == "held":
            until = {"expires_at": instant(self.deadline_ms)}
            return {"id": self.id, "state": self.state, "cost_cents": None, **until}
        return {"id": self.id, "state": self.state, "cost_cents": cents(self.cost_microcents)}


class ApiHolds:
    """The four verbs of callers. Each may be repeated: an end that is known already is told."""

    def __init__(
        self, budgets: Budgets, agents: Agents, reservations: Reservations, refusals: Refusals
    ) -> None:
        self._budgets = budgets
        self._agents = agents
        self._reservations = reservations
        self._refusals = refusals

    async def reserve(self, visitor: Visitor, wish: Wish) -> Granted | Problem:
        """Hold an amount until it is ended or its time is over.

        Raises:
            StoreError: Redis failed. What may have been held is given back.
        """
        if not visitor.may_call(wish.agent):
            return await self._refusals.of_key("AGENT_NOT_ALLOWED")
        if await self._agents.find(visitor.org, wish.agent) is None:
            return problem.unknown_agent(wish.agent)
        ask = Ask(
            *(new_id(), visitor.org, wish.agent, wish.amount_microcents, visitor.digest, "api"),
            ttl_ms=wish.ttl_ms,
        )
        if wish.idempotency_key:
            asked_for = b"POST /v1/reservations\0%d %d" % (wish.amount_microcents, wish.ttl_ms)
            ask = recognised(ask, visitor.key_id, wish.idempotency_key, asked_for)
        outcome = await self._reservations.reserve(ask, Caller(visitor.key_id))
        if not isinstance(outcome, Reservation):
            return await self._refusals.of_outcome(outcome, ask)
        outcome.grant()
        return Granted(ask.id, ask.amount_microcents, outcome.held.deadline_ms)

    async def settle(self, visitor: Visitor, id: str, cost_microcents: int) -> Standing | Problem:
        """Replace a hold by what the work has cost, all of it, also late and above the hold.

        The answer tells what is booked: of two settles with different costs that is the first.
        """
        found = await self._own(visitor, id)
        if found is None:
            return problem.no_reservation()
        detail = orjson.dumps({"source": "api", "key_id": visitor.key_id})
        words = visitor.org, found.agent, id, found.windows
        return await self._end(Settlement(*words, cost_microcents, detail))

    async def release(self, visitor: Visitor, id: str) -> Standing | Problem:
        """Give a hold back: the work has cost nothing. What has ended before stays as it is."""
        found = await self._own(visitor, id)
        if found is None:
            return problem.no_reservation()
        return await self._end(Release(visitor.org, found.agent, id, found.windows))

    async def extend(
        self, visitor: Visitor, id: str, amount_microcents: int, ttl_ms: int
    ) -> Standing | Problem:
        """Raise a hold to an amount, keep it for longer, or both; 0 leaves what is as it is.

        Raises:
            StoreError: Redis failed. It may have been done, and may be repeated.
        """
        found = await self._own(visitor, id)
        if found is None or found.state != "held":
            return problem.no_reservation(found)
        ask = Ask(
            *(id, visitor.org, found.agent, amount_microcents, visitor.digest, "api"),
            ttl_ms=ttl_ms or _NO_MORE_MS,
        )
        outcome = await self._budgets.extend(ask, found.windows)
        if isinstance(outcome, Gone):
            # A hold that ended in between has a tombstone by now.
            return problem.no_reservation(await self._own(visitor, id))
        if not isinstance(outcome, Held):
            return await self._refusals.of_outcome(outcome, ask)
        self._keep(ask, outcome)
        return Standing(id, "held", 0, outcome.deadline_ms)

    async def find(self, visitor: Visitor, id: str) -> Request | None:
        """Return a reservation that somebody may see, whoever made it.

        Raises:
            StoreError: Redis failed, has lost what it knew, or has a record that cannot be read.
        """
        if not is_reservation_id(id):
            return None
        found = await self._budgets.request(visitor.org, id)
        if found is None:
            await self._insist_on_none(visitor.org, id)
        return found if found is not None and visitor.may_call(found.agent) else None

    async def _insist_on_none(self, org: str, id: str) -> None:
        if not await self._budgets.is_marked():
            raise StoreNotReady("The store may have lost this reservation.")
        wire = self._budgets.wire
        is_held = await wire.command("HEXISTS", org_key(org, "holds"), id)
        if is_held or await wire.command("EXISTS", org_key(org, f"done:{id}")):
            raise StoreError(f"The record of reservation {id} cannot be read.")

    async def _own(self, visitor: Visitor, id: str) -> Request | None:
        found = await self.find(visitor, id)
        return found if found is not None and found.owner == "api" else None

    async def _end(self, end: End) -> Standing | Problem:
        granted = self._reservations.granted.pop(end.id, None)
        if granted is not None:
            granted.ended = True
        try:
            result = await self._reservations.settlements.end(end)
        except StoreError as error:
            return problem.of_error(error)._replace(detail=_KEPT)
        if result.status in ("DONE", "DONE_OTHER"):
            known = await self._budgets.request(end.org, end.id)
            if known is not None:
                return Standing(end.id, known.state, known.cost_microcents)
        state = result.state if isinstance(result, Released) else "settled"
        return Standing(end.id, state, result.cost_microcents)

    def _keep(self, ask: Ask, held: Held) -> None:
        """Remember what is held by now, for a Redis that forgets it."""
        granted = self._reservations.granted.get(ask.id)
        if granted is not None:
            amount = max(ask.amount_microcents, granted.ask.amount_microcents)
            granted.ask = structs.replace(granted.ask, amount_microcents=amount)
            granted.held = structs.replace(granted.held, deadline_ms=held.deadline_ms)
            granted.held_s = time.perf_counter()
