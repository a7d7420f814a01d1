"""Callers that leave: what ran is charged by what the upstream answered, what did not is free."""

import asyncio
from typing import Any

import pytest

from gateway.proxy.departure import Departure, Departures
from tests.proxy import acme
from tests.proxy.faults.raw_call import raw_call
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import openai_chat_events, raw_answer, sse_answer

_CHAT = "/agents/writer/v1/chat/completions"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: 1.234567\r\n\r\n{}"
# More than may be sent before the key was checked: such a body is passed on as it comes.
_LARGE = 200_000


@pytest.fixture
async def writer(org: Any, upstream: StubUpstream) -> Any:
    """Write an agent that reports its cost; return the client of its Redis."""
    reported = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(org, "writer", upstream.url, reported)
    return org


def _spent(amount_microcents: int) -> dict[str, int]:
    return {"org.spent": amount_microcents, "agent.writer.spent": amount_microcents}


async def test_caller_leaves_before_the_answer(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """The call runs on, and what its answer says it has cost is charged."""
    is_gone = asyncio.Event()
    upstream.answers(raw_answer(is_gone, _ANSWER))
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, 2, b"{}")
        await until(lambda: upstream.executions == 1, "the call to run")

        call.leave()
        is_gone.set()
    await gateway.settled()

    assert await acme.counters(writer) == _spent(1_234_567)


async def test_caller_leaves_in_the_middle_of_a_stream(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """The rest of the stream is read for its usage, which is charged."""
    first, second, *_ = openai_chat_events()
    is_gone = asyncio.Event()
    used = {"choices": [], "model": "gpt-4o-mini", "usage": {"cost": 0.0123}}
    upstream.answers(sse_answer(first, is_gone, second, used, "[DONE]"))
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, 2, b"{}")
        await call.read_until(b"Hel")

        call.leave()
        is_gone.set()
    await gateway.settled()

    assert await acme.counters(writer) == _spent(1_230_000)


@pytest.mark.parametrize("sent", [100, 40_000, 150_000])
async def test_caller_leaves_in_the_middle_of_its_request(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream, sent: int
) -> None:
    """A request without its end does not run and costs nothing, whatever of it was passed on."""
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, _LARGE, b"x" * sent)
        await until(lambda: len(gateway.plane.reservations) == 1, "the call to be admitted")

        call.leave()
    await gateway.settled()

    assert upstream.executions == 0
    assert await acme.counters(writer) == {}
    assert gateway.value("calls_total", end="caller_left") == 1


async def test_caller_leaves_before_its_call_was_read(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A small request that never becomes whole is not even asked for."""
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, 2, b"{")
        await until(lambda: gateway.value("open_calls") == 1, "the call to begin")

        call.leave()
        await until(lambda: gateway.value("open_calls") == 0, "the call to end")

    assert gateway.value("calls_total", end="caller_left") == 1
    assert upstream.executions == 0
    assert await acme.counters(writer) == {}


async def test_departure_ends_a_call_that_is_not_read_by_anyone() -> None:
    """A caller that has left is waited for so long, and then its call is cancelled."""
    departures: list[Departure] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def call() -> None:
        watched = Departures(asyncio.get_running_loop(), drain_s=0.0)
        departures.append(watched.begin(receive))
        await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.wait([task])

    assert task.cancelled()
    assert departures[0].is_over


async def test_departure_that_was_closed_cancels_nothing() -> None:
    """A call that has ended is not cancelled, and neither is what its task does next."""
    asked = asyncio.Event()
    left = asyncio.Event()

    async def receive() -> dict[str, Any]:
        asked.set()
        await left.wait()
        return {"type": "http.disconnect"}

    async def call() -> bool:
        watched = Departures(asyncio.get_running_loop(), drain_s=0.0)
        departure = watched.begin(receive)
        await asked.wait()
        watched.end(departure)
        left.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return departure.is_over

    assert await asyncio.create_task(call()) is False


async def test_caller_leaves_after_a_large_body(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A body that was passed on as it came has ended: its caller is waited for no longer."""
    departures: Any = gateway.plane.app
    departures._forwarding._departures._drain_s = 0.0
    never = asyncio.Event()
    upstream.answers(sse_answer(openai_chat_events()[0], never))
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, _LARGE, b"x" * _LARGE)
        await call.read_until(b"Hel")

        call.leave()
        await gateway.settled()
        never.set()

    assert (await acme.counters(writer))["org.spent"] > 0


async def test_caller_that_still_sends_is_not_listened_for() -> None:
    """Two that receive would take each other's messages: the body comes first."""
    watched = Departures(asyncio.get_running_loop(), drain_s=60.0)
    heard: list[str] = []

    def ear(name: str) -> Any:
        async def receive() -> dict[str, Any]:
            heard.append(name)
            return {"type": "http.disconnect"}

        return receive

    sends = watched.begin(ear("sends"), is_heard=False)
    waits = watched.begin(ear("waits"))
    await until(lambda: bool(heard), "the one that waits to be heard")
    assert heard == ["waits"]
    sends.is_heard = True
    await until(lambda: len(heard) == 2, "the other one to be heard")

    watched.end(sends)
    watched.end(waits)


@pytest.mark.parametrize("is_known", [False, True])
async def test_caller_leaves_with_a_second_request_behind_the_first(
    writer: Any, gateway: PlaneGateway, upstream: StubUpstream, is_known: bool
) -> None:
    """The call that runs hears of it, not the one that waits: it is given up in time."""
    departures: Any = gateway.plane.app
    departures._forwarding._departures._drain_s = 0.0
    upstream.answers(raw_answer(_ANSWER))
    async with raw_call(gateway.port) as call:
        if is_known:
            await call.send(_CHAT, 2, b"{}")
            await call.read_until(b"\r\n\r\n{}")
        ran = upstream.executions
        upstream.answers(raw_answer(asyncio.Event(), _ANSWER))
        await call.send(_CHAT, 2, b"{}")
        await call.send(_CHAT, 2, b"{}")
        await until(lambda: upstream.executions > ran, "the first of the two to run")

        call.leave()
        await gateway.settled()

    assert gateway.value("calls_total", end="caller_left") == 1
    assert upstream.executions == ran + 1
    assert await acme.counters(writer) == _spent(1_234_567 * ran + 5_000_000)
