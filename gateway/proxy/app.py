"""The data plane as an ASGI app: calls of agents on the hot path, everything else on routes."""

import asyncio
import time
from typing import Any

import structlog

from gateway.proxy.admission import Admission, Admitted, Declined
from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.api import API_PREFIX, Api
from gateway.proxy.body import CallerLeft, Receive, Send
from gateway.proxy.dialect import Tongue, render
from gateway.proxy.forward import Forwarding
from gateway.proxy.ids import new_id
from gateway.proxy.invocation import (
    Invocation,
    Target,
    arrival_in,
    invocation_of,
    tongue_of,
)
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.outgoing import Outgoing, outgoing_in
from gateway.proxy.problem import Problem
from gateway.proxy.routes import routes
from gateway.proxy.runners import Runners
from gateway.telemetry import ProxyMetrics, Readiness

_log = structlog.get_logger()


class App:
    """Answers every request of the data port.

    ``draining`` is set by whoever stops the process: running calls go on, new ones are refused.
    ``known_heads`` are those that its connections need not parse again; ``runners`` serve the
    calls that begin with them.
    """

    def __init__(
        self,
        admission: Admission,
        forwarding: Forwarding,
        api: Api,
        store_trouble: Readiness,
        metrics: ProxyMetrics,
    ) -> None:
        self.draining = False
        self.known_heads = KnownHeads[Target]()
        self.runners = Runners(self.serve)
        self._admission = admission
        self._forwarding = forwarding
        self._store_trouble = store_trouble
        self._routes: Any = routes(self.trouble, api)
        self._metrics = metrics
        self._running = 0
        self._idle = asyncio.Event()
        metrics.open_calls.set_function(lambda: self._running)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        arrival = arrival_in(scope)
        if arrival is None:
            await self._aside(scope, receive, outgoing_in(scope, send))
        else:
            await self.serve(invocation_of(arrival), receive, outgoing_in(scope, send))

    async def serve(self, call: Invocation, receive: Receive, outgoing: Outgoing) -> None:
        """Serve one call of an agent."""
        began_s = time.perf_counter()
        self._running += 1
        try:
            try:
                admitted = (
                    _stopping(call) if self.draining else await self._admission.admit(call, receive)
                )
                if isinstance(admitted, Declined):
                    declined: Declined | None = admitted
                else:
                    fault = await self._forwarding.forward(
                        call, admitted, receive, outgoing, began_s
                    )
                    declined = fault and _broken_off(call, admitted, fault)
            except CallerLeft:
                self._metrics.calls.count("caller_left")
                return
            except asyncio.CancelledError:
                # The server cancels what outlives a stop. It ends here: the server would say 500.
                declined = _stopping(call)
            # The top of the app: whatever nobody expected is logged here, and nowhere else.
            except Exception:
                self._metrics.faults.inc()
                _log.exception("call_failed", request_id=call.id, agent=call.target.agent)
                fault = Problem("internal_error", "The gateway failed.")
                declined = Declined(fault, tongue_of(call))
            self._metrics.calls.count(declined.problem.error if declined else "forwarded")
            if declined is not None and not outgoing.started:
                await tell(declined.problem, declined.tongue, call.id, outgoing)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _aside(self, scope: dict[str, Any], receive: Receive, outgoing: Outgoing) -> None:
        """Serve a request that is no call of an agent; a stop waits for it too."""
        declined = Problem("draining", "The gateway stops.")
        if self.draining and scope["path"].startswith(API_PREFIX):
            await tell(declined, Tongue(), new_id(), outgoing)
            return
        self._running += 1
        try:
            await self._routes(scope, receive, outgoing)
        except asyncio.CancelledError:
            if not outgoing.started:
                await tell(declined, Tongue(), new_id(), outgoing)
        # As above; its caller has been told.
        except Exception:
            self._metrics.faults.inc()
            _log.exception("request_failed", path=scope["path"])
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def trouble(self) -> str:
        """Return why no call would be admitted, or nothing."""
        return "The gateway stops." if self.draining else self._store_trouble()

    async def drained(self, timeout_s: float) -> bool:
        """Wait until no call runs; return whether that came about in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._running:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            return False
        return True


def _stopping(call: Invocation) -> Declined:
    return Declined(Problem("draining", "The gateway stops."), tongue_of(call))


def _broken_off(call: Invocation, admitted: Admitted, fault: Problem) -> Declined:
    return Declined(fault, tongue_of(call, admitted.route.agent.dialect, admitted.body))


async def tell(problem: Problem, tongue: Tongue, request_id: str, outgoing: Outgoing) -> None:
    """Send an answer that the gateway makes itself."""
    headers, body = render(problem, tongue, request_id)
    if problem.error == "draining":
        headers.append((b"connection", b"close"))
        await outgoing.begin(own_answer_head(problem.status, headers), b"")
        await outgoing({"type": "http.response.body", "body": body})
        return
    await outgoing.whole(own_answer_head(problem.status, headers), b"", body)
