"""The data plane as an ASGI app: calls of agents on the hot path, everything else on routes."""

import asyncio
import time
from typing import Any

import structlog

from gateway.proxy.admission import Admission, Declined
from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.body import CallerLeft, Receive, Send
from gateway.proxy.dialect import Tongue, render
from gateway.proxy.forward import Forwarding
from gateway.proxy.invocation import Invocation, Target, arrival_in, invocation_of, tongue_of
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.outgoing import Outgoing
from gateway.proxy.problem import Problem
from gateway.proxy.routes import routes
from gateway.telemetry import ProxyMetrics, Readiness

_log = structlog.get_logger()


class App:
    """Answers every request of the data port.

    ``draining`` is set by whoever stops the process: running calls go on, new ones are refused.
    ``known_heads`` are those that its connections need not parse again.
    """

    def __init__(
        self,
        admission: Admission,
        forwarding: Forwarding,
        store_trouble: Readiness,
        metrics: ProxyMetrics,
    ) -> None:
        self.draining = False
        self.known_heads = KnownHeads[Target]()
        self._admission = admission
        self._forwarding = forwarding
        self._store_trouble = store_trouble
        self._routes: Any = routes(self.trouble)
        self._metrics = metrics
        self._running = 0
        self._idle = asyncio.Event()
        metrics.open_calls.set_function(lambda: self._running)

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        arrival = arrival_in(scope)
        if arrival is None:
            await self._routes(scope, receive, send)
            return
        self._running += 1
        try:
            await self._serve(invocation_of(arrival), receive, Outgoing(scope, send))
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

    async def _serve(self, call: Invocation, receive: Receive, outgoing: Outgoing) -> None:
        try:
            declined = await self._run(call, receive, outgoing)
        except CallerLeft:
            self._metrics.calls.count("caller_left")
            return
        except asyncio.CancelledError:
            # The server cancels what outlives a stop. It ends here: the server would say 500.
            declined = Declined(Problem("draining", "The gateway stops."), tongue_of(call))
        # The top of the app: whatever nobody expected is logged here, and nowhere else.
        except Exception:
            self._metrics.faults.inc()
            _log.exception("call_failed", request_id=call.id, agent=call.target.agent)
            declined = Declined(Problem("internal_error", "The gateway failed."), tongue_of(call))
        if declined is None:
            self._metrics.calls.count("forwarded")
            return
        self._metrics.calls.count(declined.problem.error)
        if not outgoing.started:
            await tell(declined.problem, declined.tongue, call.id, outgoing)

    async def _run(self, call: Invocation, receive: Receive, outgoing: Outgoing) -> Declined | None:
        if self.draining:
            return Declined(Problem("draining", "The gateway stops."), tongue_of(call))
        began_s = time.perf_counter()
        admitted = await self._admission.admit(call, receive)
        if isinstance(admitted, Declined):
            return admitted
        fault = await self._forwarding.forward(call, admitted, receive, outgoing, began_s)
        if fault is None:
            return None
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
