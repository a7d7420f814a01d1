"""A whole answer leaves one turn of the event loop after it was made; what may come between.

L1 a stop: the answer says that its connection closes, and it does
L2 the end of the connection: nothing is written to who has left
L3 another request: it is answered behind this one
L4 nonsense: this answer is whole, and its connection ends behind it
L5 a fault of ours: no other answer follows
L6 the end of the call: who has paid for an answer has it, and who was refused hears why
"""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.body import Receive, Send
from gateway.proxy.departure import Departure, Departures
from gateway.proxy.invocation import Invocation, Target
from gateway.proxy.known_heads import KnownHeads
from gateway.proxy.outgoing import Outgoing, outgoing_in
from gateway.proxy.runners import Runners
from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.proxy.listening import listening
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import Answering, json_answer, raw_answer

_CALL = request("/agents/researcher/x", "Content-Length: 0")
_EVENT = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"8\r\ndata: {}\r\n0\r\n\r\n"
)
# Told the connection of a call.
Step = Callable[[Any], None]


def _nothing(_connection: Any) -> None:
    pass


class _App:
    """Takes arrivals; of those with a known head it does something before and after the answer."""

    def __init__(self, before: Step = _nothing, after: Step = _nothing) -> None:
        self.known_heads = KnownHeads[Target]()
        self.runners = Runners(self.serve)
        self.served = 0
        self._before = before
        self._after = after

    async def __call__(self, scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        await _ok(outgoing_in(scope, send))

    async def serve(self, _call: Invocation, receive: Any, outgoing: Outgoing) -> None:
        connection = receive.__self__.on_response.__self__
        self.served += 1
        if self.served > 1:
            await _ok(outgoing)
            return
        self._before(connection)
        await _ok(outgoing)
        self._after(connection)


async def _ok(outgoing: Outgoing) -> None:
    await outgoing.whole(own_answer_head(200, []), b"", b"ok")


async def _answers(app: _App) -> bytes:
    """Return all that comes behind the answer which makes the head known."""
    async with listening(app) as port, wire(port) as caller:
        await caller.send(_CALL)
        await caller.until(b"ok")
        await caller.send(_CALL)
        return await caller.rest()


async def test_answer_that_leaves_when_the_server_stops_closes_its_connection() -> None:
    """L1: its caller does not send the next request into a connection that ends."""
    answer = await _answers(_App(after=lambda connection: connection.shutdown()))

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nok")


async def test_nonsense_does_not_cut_off_the_answer_that_leaves() -> None:
    """L4: what cannot be read behind a call that ran is not answered, and nothing is after it."""
    app = _App(after=lambda connection: connection.data_received(b"nonsense\r\n\r\n"))

    answer = await _answers(app)

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\nok")
    assert answer.count(b"HTTP/1.1") == 1


async def test_request_that_comes_while_an_answer_leaves_is_the_next_one() -> None:
    """L3: it is neither lost nor answered first."""
    app = _App(after=lambda connection: connection.data_received(_CALL))

    async with listening(app) as port, wire(port) as caller:
        for number in range(2):
            await caller.send(_CALL)
            for _ in range(1 + number):
                await caller.until(b"\r\n\r\nok")


async def _leave_nobody() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    app = _App(before=lambda connection: connection.transport.abort())

    async with listening(app) as port, wire(port) as caller:
        await caller.send(_CALL)
        await caller.until(b"ok")
        await caller.send(_CALL)
        assert await caller.rest() == b""
    assert (app.served, reported) == (1, [])


def test_answer_whose_caller_has_left_is_not_written() -> None:
    """L2: uvloop takes a write into a connection that has ended for a mistake."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_leave_nobody())


async def test_fault_behind_an_answer_is_not_answered(
    org: Any, redis_url: str, start: StartPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L5: a second answer would be read as that to the next request."""
    gateway = await start(redis_url)

    def broken(_departures: Departures, _departure: Departure) -> None:
        raise LookupError

    async with wire(gateway.port) as caller:
        await caller.send(_CALL)
        await caller.until(b"true}")
        with monkeypatch.context() as patched:
            patched.setattr(Departures, "end", broken)
            await caller.send(_CALL)
            await caller.until(b"true}")
            await until(lambda: gateway.value("faults_total"), "the fault")
        await caller.send(request("/agents/researcher/x", "Connection: close", method="GET"))
        rest = await caller.rest()

    assert rest.startswith(b"HTTP/1.1 200 ")
    assert rest.count(b"HTTP/1.1") == 1


async def test_refusal_is_told_though_its_call_is_cancelled() -> None:
    """L6: also where its head is not known, and it waits for the turn itself."""

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)
        await _ok(outgoing_in(scope, send))

    async with listening(app) as port, wire(port) as caller:
        await caller.send(_CALL)
        assert (await caller.until(b"ok")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("answering", [json_answer({}), raw_answer(_EVENT)], ids=["json", "events"])
@pytest.mark.parametrize("calls_before", [0, 1], ids=["parsed", "known"])
async def test_paid_answer_reaches_its_caller_though_its_call_is_cancelled(
    gateway: PlaneGateway,
    org: Any,
    upstream: StubUpstream,
    monkeypatch: pytest.MonkeyPatch,
    answering: Answering,
    calls_before: int,
) -> None:
    """L6: a 500 in its place would be tried again, and paid for again."""
    upstream.answers(answering)
    settle = gateway.plane.settlements.settle

    def cancelled(settlement: Any) -> None:
        settle(settlement)
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_soon(task.cancel)

    async with wire(gateway.port) as caller:
        for number in range(1 + calls_before):
            if number == calls_before:
                monkeypatch.setattr(gateway.plane.settlements, "settle", cancelled)
            await caller.send(_CALL)
            assert (await caller.until(b"{}")).startswith(b"HTTP/1.1 200 ")
    await gateway.settled()

    assert (await acme.counters(org))["org.spent"] == 2_000_000 * (1 + calls_before)
