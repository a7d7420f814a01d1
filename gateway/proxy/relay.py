"""Relays: one answer on its way back to its caller, metered as it passes, and what it has cost."""

import asyncio
import time

from msgspec import Struct

from gateway.errors import UpstreamError
from gateway.proxy import problem
from gateway.proxy.agents import voice_of
from gateway.proxy.answer import Answer
from gateway.proxy.dialect import Tongue, broken_event
from gateway.proxy.head import cost_lines
from gateway.proxy.invocation import Invocation
from gateway.proxy.meter import Meter, Metered
from gateway.proxy.outgoing import Outgoing
from gateway.proxy.problem import Problem
from gateway.proxy.reservations import Reservation

# A JSON answer up to here is read whole, so that its head can say what it has cost.
WHOLE_BYTES_MAX = 256 * 1024
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Relay(Struct, eq=False):
    """Passes one answer on. The reservation ends before the last byte leaves, on every path.

    ``lines`` are what the gateway says of the call beside the upstream's own words; the rest of
    that is timed from ``began_s``, and ``upstream_s`` is what the head of the answer took.
    ``passed_bytes`` is what of the body has gone on, ``ended_event`` whether that ended an event.
    """

    call: Invocation
    reservation: Reservation
    answer: Answer
    outgoing: Outgoing
    meter: Meter
    lines: bytes
    began_s: float
    upstream_s: float
    passed_bytes: int = 0
    started: bool = False
    ended_event: bool = True

    async def run(self) -> Problem | None:
        """Pass the whole answer on; return why where it broke off.

        An answer that has begun and breaks off is not completed, except for an event that says
        so: the server closes the connection then, and nobody takes a part for the whole.
        """
        try:
            body = self.answer.body
            if body is None:
                pieces: list[bytes] = []
                if not await self._gather(pieces):
                    await self._send_on(pieces)
                    return None
                body = b"".join(pieces)
            lines = self._lines(self._book(self.meter.result_of(body)))
            self.started = True
            # It leaves behind the settle: who has the answer finds it spent.
            if not self.outgoing.leaves(self.answer.head, lines, body):
                await self.outgoing.whole(self.answer.head, lines, body)
            return None
        except UpstreamError as error:
            fault = problem.of_error(error, self._end(is_complete=False))
            if self.started:
                await self._say(fault)
            return fault
        except asyncio.CancelledError:
            self._end(is_complete=False)
            if self.started:
                await self._say(Problem("draining", "The gateway stops."))
            raise
        finally:
            # What fell out of every path above is a fault of ours: charge what was seen.
            if not self.reservation.ended:
                self._end(is_complete=False)
            self.answer.close()

    async def _gather(self, pieces: list[bytes]) -> bool:
        """Collect the answer where it tells its cost; say if it is whole."""
        head = self.answer.head
        if not head.is_json or self.meter.known or (head.length or 0) > WHOLE_BYTES_MAX:
            return False
        size = 0
        async for chunk in self.answer.chunks():
            pieces.append(chunk)
            size += len(chunk)
            if size > WHOLE_BYTES_MAX:
                return False
        return True

    async def _send_on(self, pieces: list[bytes]) -> None:
        cost_microcents = None
        if self.meter.known:
            metered = self.meter.result()
            cost_microcents = metered.cost_microcents if metered else 0
        self.started = True
        lines = self._lines(cost_microcents)
        await self.outgoing.begin(self.answer.head, lines)
        for piece in pieces:
            await self._pass_on(piece)
        last, length = b"", self.answer.head.length
        async for chunk in self.answer.chunks():
            if length is not None and length - self.passed_bytes <= len(chunk):
                last = chunk
            else:
                await self._pass_on(chunk)
        self.meter.feed(last)
        self._end(is_complete=True)
        # The event loop writes the settle first: who has the answer finds it spent.
        await asyncio.sleep(0)
        await self.outgoing({"type": "http.response.body", "body": last})

    async def _pass_on(self, chunk: bytes) -> None:
        self.meter.feed(chunk)
        self.ended_event = chunk.endswith(_EVENT_ENDS)
        self.passed_bytes += len(chunk)
        await self.outgoing({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _say(self, fault: Problem) -> None:
        """End a stream of events with one that says why, in the words of the caller's SDK.

        Not inside an event: what is added there becomes a part of it.
        """
        head = self.answer.head
        if head.is_events and head.length is None and self.ended_event:
            voice = voice_of(self.meter.dialect, self.call.target.path)
            event = broken_event(fault, Tongue(voice), self.call.id)
            await self.outgoing({"type": "http.response.body", "body": event})

    def _end(self, *, is_complete: bool) -> int:
        """End the reservation, once, with what the meter says; return what that charges."""
        return 0 if self.reservation.ended else self._book(self.meter.result(is_complete))

    def _book(self, metered: Metered | None) -> int:
        """End the reservation; return what it is charged."""
        if metered is None:
            self.reservation.release()
            return 0
        self.reservation.settle(metered, self.answer.head.status)
        return metered.cost_microcents

    def _lines(self, cost_microcents: int | None) -> bytes:
        """Return our own headers; the cost where it is known before the head is sent."""
        total_s = time.perf_counter() - self.began_s
        store_s = self.reservation.store_s
        return self.lines + cost_lines(cost_microcents, total_s, store_s, self.upstream_s)
