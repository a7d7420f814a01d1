"""Admission: whether a call may run, and what is held for it, before the upstream hears of it."""

from typing import NamedTuple

import structlog
from msgspec import Struct

from gateway.domain.agent import Agent
from gateway.domain.key import KeyText, is_id
from gateway.domain.reservation import Ask
from gateway.errors import BadRequest, StoreError
from gateway.proxy import problem
from gateway.proxy.agents import Agents, Found, Route, Unusable
from gateway.proxy.body import UNCHECKED_BYTES_MAX, BodyTooLarge, Receive, read_body
from gateway.proxy.dialect import Tongue
from gateway.proxy.head import RequestHead, header_lines
from gateway.proxy.idempotency import recognised
from gateway.proxy.invocation import Invocation, Onward, Target, tongue_of
from gateway.proxy.meter import Metering, PriceOf
from gateway.proxy.origin import UpstreamHead, request_start
from gateway.proxy.problem import Problem
from gateway.proxy.quoting import metering_for, needs_body
from gateway.proxy.refusals import Refusals
from gateway.proxy.reservations import Caller, Reservation, Reservations

# What agents may be asked with; others go on too, as upstreams may know them.
_METHODS = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"

_log = structlog.get_logger()


class Admitted(Struct, frozen=True):
    """A call that may run.

    ``body`` is None where it was not read yet and is to be passed on as it comes. Whoever has
    this must end the reservation.
    """

    reservation: Reservation
    route: Route
    metering: Metering
    head: UpstreamHead
    body: bytes | None


class Declined(NamedTuple):
    """A call that may not run, and in which words its caller is told."""

    problem: Problem
    tongue: Tongue


class Rules(NamedTuple):
    """What a deployment has decided. ``trusted_org`` pays for every call where keys are off."""

    trusted_org: str
    body_bytes_max: int


# A call that is known well enough to ask the budgets. A plain tuple: it lives for one line.
_Understood = tuple[Onward, Metering, UpstreamHead, bytes | None]


class Admission:
    """The way of a call from its head to a hold: identify, quote, reserve."""

    def __init__(
        self,
        agents: Agents,
        reservations: Reservations,
        price_of: PriceOf,
        refusals: Refusals,
        rules: Rules,
    ) -> None:
        self._agents = agents
        self._reservations = reservations
        self._price_of = price_of
        self._refusals = refusals
        self._rules = rules
        # Who calls, where keys are off; else the head says it, and the store has the last word.
        self._trusted = KeyText(rules.trusted_org, "", "") if rules.trusted_org else None
        # A body that came with its head is taken as it is, up to here.
        self._bytes_at_once = min(UNCHECKED_BYTES_MAX, rules.body_bytes_max)

    async def admit(self, call: Invocation, receive: Receive) -> Admitted | Declined:
        """Hold what the call can cost, or say why it may not run.

        Raises:
            CallerLeft: nobody waits for the answer; nothing is held.
        """
        key = self._trusted or call.target.head.key
        if key is None:
            return Declined(problem.unauthenticated(), tongue_of(call))
        try:
            understood = self._at_once(call, key) or await self._found(call, key, receive)
            if isinstance(understood, Declined):
                return await self._told(call, key, understood)
        except StoreError as error:
            return Declined(problem.of_error(error), tongue_of(call))
        onward, metering, head, body = understood
        ask = Ask(call.id, key.org, call.target.agent, metering.quote.amount_microcents, key.digest)
        if call.target.head.idempotency_key:
            line = b"%b %b" % (call.target.method.encode("ascii"), call.target.path)
            asked_for = b"%b\0%b" % (line, body or b"")
            ask = recognised(ask, key.key_id, call.target.head.idempotency_key, asked_for)
        try:
            outcome = await self._reservations.reserve(ask, onward.caller)
            if isinstance(outcome, Reservation):
                return Admitted(outcome, onward.route, metering, head, body)
            refusal = await self._refusals.of_outcome(outcome, ask)
        except StoreError as error:
            if not error.transient:
                # Not that Redis is away: a key of another type, or a permission that is missing.
                _log.error("reserve_failed", org=ask.org, agent=ask.agent, error=str(error))
            refusal = problem.of_error(error)
        return Declined(refusal, tongue_of(call, onward.route.agent.dialect, body))

    def _at_once(self, call: Invocation, key: KeyText) -> _Understood | Declined | None:
        """Understand a call whose body came with its head, where one with this head went before."""
        onward, body = call.target.onward, call.body
        if onward is None or body is None or len(body) > self._bytes_at_once:
            return None
        if self._agents.known(key.org, call.target.agent) is not onward.route:
            return None
        return self._understood(call, key, onward.route, body)

    async def _found(
        self, call: Invocation, key: KeyText, receive: Receive
    ) -> _Understood | Declined:
        """Find out where any call goes, and read its body where it must be known."""
        target = call.target
        route: Found = self._agents.known(key.org, target.agent)
        if route is None and is_id(target.agent):
            route = await self._agents.find(key.org, target.agent)
        is_fit = target.head.unfit is None and target.method != "TRACE"
        if not (is_fit and isinstance(route, Route)):
            return Declined(_unfit(target, route), tongue_of(call))
        body = call.body
        if body is None or len(body) > self._bytes_at_once:
            read = await self._body(call, key, route.agent, receive)
            if isinstance(read, Problem):
                return Declined(read, tongue_of(call, route.agent.dialect))
            body = read
        return self._understood(call, key, route, body)

    def _understood(
        self, call: Invocation, key: KeyText, route: Route, body: bytes | None
    ) -> _Understood | Declined:
        """Read what a call can cost, and how it goes on."""
        metering = metering_for(call, route.agent, body, self._price_of)
        if isinstance(metering, Problem):
            return Declined(metering, tongue_of(call, route.agent.dialect, body))
        onward = call.target.onward
        try:
            if onward is None or onward.route is not route:
                onward = call.target.onward = _onward(call.target, key, route)
        except BadRequest as error:
            return Declined(problem.of_error(error), tongue_of(call, route.agent.dialect, body))
        length = call.body_length if body is None else len(body)
        return onward, metering, UpstreamHead(onward.method, onward.start, length), body

    async def _body(
        self, call: Invocation, key: KeyText, agent: Agent, receive: Receive
    ) -> bytes | Problem | None:
        length, bytes_max = call.body_length, self._rules.body_bytes_max
        if length == 0:
            return b""
        if length is not None and length > bytes_max:
            return problem.too_large(bytes_max)
        if length is None or length > UNCHECKED_BYTES_MAX:
            status = await self._refusals.key_status(key, call.target.agent)
            if isinstance(status, Problem):
                return status
            if not needs_body(agent, call):
                return call.body
        if call.body is not None:
            return call.body
        try:
            return await read_body(receive, bytes_max)
        except BodyTooLarge:
            return problem.too_large(bytes_max)

    async def _told(self, call: Invocation, key: KeyText, declined: Declined) -> Declined:
        # Names and prices of agents are told only to who has a key, so they cannot be probed.
        agent = call.target.agent if is_id(call.target.agent) else ""
        status = await self._refusals.key_status(key, agent)
        return declined._replace(problem=status) if isinstance(status, Problem) else declined


def _unfit(target: Target, route: Found) -> Problem:
    """Return why a call does not run whatever it costs."""
    if target.head.unfit is not None:
        return target.head.unfit
    if target.method == "TRACE":
        # Its answer is the request as it came, the operator's credentials included.
        return problem.method_not_allowed(_METHODS)
    if isinstance(route, Unusable):
        # Why is in the log: it may hold what an operator wrote in the wrong place.
        return Problem("internal_error", "The description of the agent is not usable.")
    return problem.unknown_agent(target.agent)


def _onward(target: Target, key: KeyText, route: Route) -> Onward:
    method, lines = target.method.encode("ascii"), _lines(target.head, route)
    start = request_start(route.origin, method, target.path, lines)
    return Onward(route, Caller(key.key_id, target.head.tags), method, start)


def _lines(head: RequestHead, route: Route) -> bytes:
    """Return the caller's headers and then the operator's, which replace those of their name."""
    if route.replaced.isdisjoint(head.names):
        return (head.uncoded_lines if route.is_uncoded else head.lines) + route.added_lines
    replaced = {name for name, _ in route.added}
    kept = [header for header in head.forwarded if header[0] not in replaced]
    return header_lines(kept) + route.added_lines
