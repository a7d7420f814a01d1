"""Forwarding: an admitted call goes to its upstream, and its reservation ends whatever happens.

It is released where the call certainly did not run, and settled where it may have.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from gateway.domain.breaker import Breaker
from gateway.errors import BadRequest, UpstreamBroken, UpstreamError, UpstreamUnreachable
from gateway.proxy import problem
from gateway.proxy.admission import Admitted
from gateway.proxy.body import BodyTooLarge, CallerLeft, Receive, stream_body
from gateway.proxy.departure import Departure, Departures
from gateway.proxy.exposure import Exposure
from gateway.proxy.head import budget_lines
from gateway.proxy.invocation import Invocation
from gateway.proxy.meter import Metered, meter_of
from gateway.proxy.origin import Site
from gateway.proxy.outgoing import Outgoing
from gateway.proxy.problem import KINDS, Problem
from gateway.proxy.relay import Relay
from gateway.proxy.reservations import Reservation
from gateway.proxy.upstream import Upstreams
from gateway.telemetry import ProxyMetrics


class Forwarding:
    """The way of an admitted call: out, back, and its end."""

    def __init__(
        self,
        upstreams: Upstreams,
        exposure: Exposure,
        metrics: ProxyMetrics,
        body_bytes_max: int,
    ) -> None:
        self._upstreams = upstreams
        self._exposure = exposure
        self._metrics = metrics
        self._body_bytes_max = body_bytes_max
        self._breakers: dict[Site, Breaker] = {}
        self._departures = Departures(asyncio.get_running_loop())

    async def forward(
        self,
        call: Invocation,
        admitted: Admitted,
        receive: Receive,
        outgoing: Outgoing,
        began_s: float,
    ) -> Problem | None:
        """Run the call and pass its answer on; return why where the caller has none or a part.

        Where the answer has begun the problem cannot be told any more: it is broken off.

        Raises:
            CallerLeft: the caller left before its request was complete, or too long ago.
        """
        reservation, route, body = admitted.reservation, admitted.route, admitted.body
        departure = self._departures.begin(receive, is_heard=body is not None)
        try:
            ask, held = reservation.ask, reservation.held
            visible = self._exposure.shows_all or await self._exposure.shows(
                ask.org, ask.key_digest, held.budget
            )
            lines = budget_lines(call.id, ask.org, held, visible=visible)
            sent_s = time.perf_counter()
            breaker = self._breakers.get(route.origin.site) or self._new_breaker(route.origin.site)
            if breaker.failures and not breaker.admits(time.monotonic()):
                detail = "The upstream has failed again and again; it is tried from time to time."
                return Problem("upstream_circuit_open", detail)
            parts = self._heard(admitted, receive, departure) if body is None else body
            answer = await self._upstreams.send(
                route.origin, admitted.head, parts, route.agent.timeouts, reservation.note_sending
            )
            if breaker.failures:
                breaker.succeed()
            upstream_s = time.perf_counter() - sent_s
            self._metrics.upstream_seconds.observe(upstream_s)
            meter = meter_of(admitted.metering, answer.head)
            relay = Relay(call, reservation, answer, outgoing, meter, lines, began_s, upstream_s)
            try:
                return await relay.run()
            finally:
                if meter.ignored_costs:
                    self._metrics.ignored_costs.inc(meter.ignored_costs)
        except UpstreamError as error:
            return self._unanswered(admitted, error)
        except (BadRequest, BodyTooLarge) as error:
            return self._unfit(error)
        except CallerLeft:
            # Without its end no upstream takes a request for one.
            raise
        except BaseException as error:
            # Cancelled, in most cases: what was not sent, or not to its end, certainly did not run.
            if reservation.is_sending and departure.is_heard:
                reservation.settle(_kept(admitted), 0)
            if not isinstance(error, asyncio.CancelledError):
                raise
            if departure.is_over:
                raise CallerLeft from None
            return _stopped(reservation)
        finally:
            # What may have run has been settled by now.
            reservation.release()
            self._departures.end(departure)

    def _unanswered(self, admitted: Admitted, error: UpstreamError) -> Problem:
        """Return why a call has no answer; charge it where it may have run."""
        self._breakers[admitted.route.origin.site].fail(time.monotonic())
        if isinstance(error, UpstreamUnreachable):
            return problem.of_error(error)
        kept = _kept(admitted)
        admitted.reservation.settle(kept, KINDS[error.code].status)
        return problem.of_error(error, kept.cost_microcents)

    async def _heard(
        self, admitted: Admitted, receive: Receive, departure: Departure
    ) -> AsyncIterator[bytes]:
        """Yield a body as it comes; from its end on the caller may be heard to leave."""
        left = admitted.head.length
        async for part in stream_body(receive, self._body_bytes_max):
            if left is not None:
                left -= len(part)
                # Before its last byte leaves: from then on the call may run.
                departure.is_heard = left <= 0
            yield part
        departure.is_heard = True

    def _new_breaker(self, site: Site) -> Breaker:
        breaker = self._breakers[site] = Breaker()
        return breaker

    def _unfit(self, error: BadRequest | BodyTooLarge) -> Problem:
        if isinstance(error, BadRequest):
            return problem.of_error(error)
        return problem.too_large(self._body_bytes_max)


def _kept(admitted: Admitted) -> Metered:
    """Return the cost of a call that may have run and told nothing: its quote."""
    return Metered(admitted.metering.quote.amount_microcents, "quote")


def _stopped(reservation: Reservation) -> Problem:
    """Return the answer to a call that the server cancels because the process stops."""
    charged = reservation.cost_microcents
    if charged is None:
        return Problem("draining", "The gateway stops; the call did not run.")
    return problem.of_error(UpstreamBroken("The gateway stops."), charged)
