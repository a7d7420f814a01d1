"""Relays: one answer on its way back to its caller, metered as it passes, and what it has cost."""

import asyncio
import time

from msgspec import Struct

from gateway.errors import UpstreamError
from gateway.proxy import problem
from gateway.proxy.agents import voice_of
from gateway.proxy.answer import Answer
from gateway.proxy.dialect import Tongue, broken_event
from gateway.proxy.head import cost_line, timing_line
from gateway.proxy.invocation import Invocation
from gateway.proxy.meter import Meter, Metered, Metering
from gateway.proxy.outgoing import Outgoing
from gateway.proxy.problem import Problem
from gateway.proxy.reservations import Reservation

# A JSON answer up to here is read whole, so that its head can say what it has cost.
WHOLE_BYTES_MAX = 256 * 1024
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


class Passport(Struct, frozen=True):
    """What the gateway says of a call beside the upstream's own words."""

    lines: bytes
    call: Invocation
    began_s: float
    store_s: float
    upstream_s: float


class Relay:
    """Passes one answer on. The reservation ends before the last byte leaves, on every path."""

    def __init__(
        self, reservation: Reservation, metering: Metering, answer: Answer, outgoing: Outgoing
    ) -> None:
        self._reservation = reservation
        self._answer = answer
        self._send = outgoing
        self._head = answer.head
        # What of the stated length is still to come.
        self._length = answer.head.length
        self.meter = Meter(metering, answer.head.status, answer.head.by_name, answer.head.is_events)
        self._started = False
        self._ended_event = True

    async def run(self, passport: Passport) -> Problem | None:
        """Pass the whole answer on; return why where it broke off.

        An answer that has begun and breaks off is not completed, except for an event that says
        so: the server closes the connection then, and nobody takes a part for the whole.
        """
        try:
            pieces: list[bytes] = []
            if self._answer.body is not None:
                await self._send_whole(self._answer.body, passport)
            elif await self._gather(pieces):
                await self._send_whole(b"".join(pieces), passport)
            else:
                await self._send_on(pieces, passport)
            return None
        except UpstreamError as error:
            metered = self._end(is_complete=False)
            fault = problem.of_error(error, _charge(metered))
            if self._started:
                await self._say(fault, passport)
            return fault
        except asyncio.CancelledError:
            self._end(is_complete=False)
            if self._started:
                await self._say(Problem("draining", "The gateway stops."), passport)
            raise
        finally:
            # What fell out of every path above is a fault of ours: charge what was seen.
            self._end(is_complete=False)
            self._answer.close()

    async def _gather(self, pieces: list[bytes]) -> bool:
        """Collect the answer where it tells its cost; say if it is whole."""
        if not self._head.is_json or self.meter.known or (self._length or 0) > WHOLE_BYTES_MAX:
            return False
        size = 0
        async for chunk in self._answer.chunks():
            pieces.append(chunk)
            size += len(chunk)
            if size > WHOLE_BYTES_MAX:
                return False
        return True

    async def _send_whole(self, body: bytes, passport: Passport) -> None:
        self.meter.feed(body)
        metered = self._end(is_complete=True)
        # The event loop writes the settle first: who has the answer finds it spent.
        await asyncio.sleep(0)
        lines = _lines(passport, _charge(metered))
        self._started = True
        await self._send.whole(self._head, lines, body)

    async def _send_on(self, pieces: list[bytes], passport: Passport) -> None:
        cost_microcents = _charge(self.meter.result()) if self.meter.known else None
        self._started = True
        lines = _lines(passport, cost_microcents)
        await self._send.begin(self._head, lines)
        for piece in pieces:
            await self._pass_on(piece)
        last = b""
        async for chunk in self._answer.chunks():
            if self._length is not None and self._length <= len(chunk):
                last = chunk
            else:
                await self._pass_on(chunk)
        self.meter.feed(last)
        self._end(is_complete=True)
        # The event loop writes the settle first: who has the answer finds it spent.
        await asyncio.sleep(0)
        await self._send({"type": "http.response.body", "body": last})

    async def _pass_on(self, chunk: bytes) -> None:
        self.meter.feed(chunk)
        self._ended_event = chunk.endswith(_EVENT_ENDS)
        if self._length is not None:
            self._length -= len(chunk)
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _say(self, fault: Problem, passport: Passport) -> None:
        """End a stream of events with one that says why, in the words of the caller's SDK.

        Not inside an event: what is added there becomes a part of it.
        """
        if self._head.is_events and self._length is None and self._ended_event:
            voice = voice_of(self.meter.dialect, passport.call.target.path)
            event = broken_event(fault, Tongue(voice), passport.call.id)
            await self._send({"type": "http.response.body", "body": event})

    def _end(self, *, is_complete: bool) -> Metered | None:
        """End the reservation, once, with what the meter says; return that."""
        if self._reservation.ended:
            return None
        metered = self.meter.result(is_complete)
        if metered is None:
            self._reservation.release()
        else:
            self._reservation.settle(metered, self._head.status)
        return metered


def _lines(passport: Passport, cost_microcents: int | None) -> bytes:
    """Return our own headers; the cost where it is known before the head is sent."""
    total_s = time.perf_counter() - passport.began_s
    timing = timing_line(total_s, passport.store_s, passport.upstream_s)
    cost = b"" if cost_microcents is None else cost_line(cost_microcents)
    return passport.lines + cost + timing


def _charge(metered: Metered | None) -> int:
    return metered.cost_microcents if metered else 0
