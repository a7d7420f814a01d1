"""A gateway that is told to stop finishes what runs, settles all of it, and ends well."""

import asyncio
import signal
from typing import Any

import httpx
import pytest

from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.proxy.body import UNCHECKED_BYTES_MAX
from tests.proxy import acme
from tests.proxy.conftest import StartProcess
from tests.proxy.faults.raw_call import raw_call
from tests.proxy.gateways import ProcessGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import openai_chat_events, raw_answer, sse_answer

_CHAT = "/agents/researcher/v1/chat/completions"
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
# Enough to last longer than a server takes that closes its port at once.
REFUSED = 50
_SPENT = {"org.spent": 2_000_000, "agent.researcher.spent": 2_000_000}


async def _draining(gateway: ProcessGateway, client: httpx.AsyncClient) -> None:
    """Tell it to stop and wait until it says so."""
    gateway.process.send_signal(signal.SIGTERM)

    async def is_draining() -> bool:
        return (await client.get("/readyz")).status_code == 503

    await until(is_draining, "the gateway to drain")


async def _call_anew(gateway: ProcessGateway) -> httpx.Response:
    """Call over a new connection: the port stays open, so that callers are told to come back."""
    async with gateway.client() as client:
        return await client.post("/agents/researcher/invoke")


async def _ended(gateway: ProcessGateway) -> int:
    await until(lambda: gateway.process.poll() is not None, "the gateway to end", 20.0)
    return gateway.process.wait()


async def test_stop_lets_calls_finish(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """While a call runs new ones are refused; it ends as always, and so does the process."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, _ANSWER))
    gateway = await start_process(redis_url)
    async with gateway.client() as client:
        call = asyncio.create_task(client.post("/agents/researcher/invoke"))
        await until(lambda: upstream.executions == 1, "the call to run")

        await _draining(gateway, client)
        refused = [await _call_anew(gateway) for _ in range(REFUSED)]
        alive = await client.get("/livez")
        goes_on.set()
        answer = await call
    code = await _ended(gateway)

    assert (answer.status_code, answer.content) == (200, b"{}")
    assert {(each.status_code, each.json()["error"]) for each in refused} == {(503, "draining")}
    assert {each.headers["connection"] for each in refused} == {"close"}
    assert alive.status_code == 200
    assert code == 0
    assert upstream.executions == 1
    assert await acme.counters(org) == _SPENT


async def test_stop_lets_streams_finish(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """A stream that ends within GATEWAY_DRAIN_S is passed on to its end."""
    first, *others = openai_chat_events()
    goes_on = asyncio.Event()
    upstream.answers(sse_answer(first, goes_on, *others))
    gateway = await start_process(redis_url)
    async with gateway.client() as client, client.stream("POST", _CHAT) as answer:
        lines = answer.aiter_lines()
        seen = [await anext(lines)]
        async with gateway.client() as other:
            await _draining(gateway, other)
        goes_on.set()
        seen += [line async for line in lines]
    code = await _ended(gateway)

    assert [line for line in seen if line][-1] == "data: [DONE]"
    assert code == 0
    assert await acme.counters(org) == _SPENT


async def test_stop_cuts_a_stream_that_does_not_end(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """After GATEWAY_DRAIN_S a stream is cut with an event that says why, and what it cost stays."""
    first, *_ = openai_chat_events()
    used = {"choices": [], "model": "gpt-4o-mini", "usage": {"cost": 0.0123}}
    upstream.answers(sse_answer(first, used, asyncio.Event()))
    reported = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(org, "researcher", upstream.url, reported)
    gateway = await start_process(redis_url, GATEWAY_DRAIN_S="0.3")
    async with gateway.client() as client, client.stream("POST", _CHAT) as answer:
        lines = answer.aiter_lines()
        seen = [await anext(lines)]
        gateway.process.send_signal(signal.SIGTERM)
        seen += [line async for line in lines]
    code = await _ended(gateway)

    assert '"code":"draining"' in [line for line in seen if line][-1]
    assert code == 0
    assert await acme.counters(org) == {
        "org.spent": 1_230_000,
        "agent.researcher.spent": 1_230_000,
    }


async def test_stop_charges_a_call_that_was_not_answered(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """A call that runs when the time is over may have cost its quote, and is not to be repeated."""
    upstream.answers(raw_answer(asyncio.Event(), _ANSWER))
    gateway = await start_process(redis_url, GATEWAY_DRAIN_S="0.3")
    async with gateway.client() as client:
        call = asyncio.create_task(client.post(_CHAT))
        await until(lambda: upstream.executions == 1, "the call to run")
        gateway.process.send_signal(signal.SIGTERM)
        answer = await call
    code = await _ended(gateway)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_broken"
    assert answer.json()["charged_cents"] == 2
    assert answer.headers["x-should-retry"] == "false"
    assert code == 0
    assert await acme.counters(org) == _SPENT


@pytest.mark.parametrize("length", [3, 200_000])
async def test_stop_asks_to_repeat_a_call_that_did_not_run(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess, length: int
) -> None:
    """A call whose request is not whole when the time is over has cost nothing."""
    gateway = await start_process(redis_url, GATEWAY_DRAIN_S="0.3")
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, length, b"{" * (length // 2))
        # A large one is passed on as it comes.
        passed_on = 1 if length > UNCHECKED_BYTES_MAX else 0
        await until(lambda: upstream.busy == passed_on, "the request to be passed on")

        gateway.process.send_signal(signal.SIGTERM)
        answer = await call.read()
    code = await _ended(gateway)

    assert b'"code":"draining"' in answer
    assert code == 0
    assert upstream.executions == 0
    assert await acme.counters(org) == {}


async def test_stop_does_not_wait_for_a_caller_that_reads_nothing(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """An answer that nobody takes is given up with the others, and charged."""
    upstream.answers(sse_answer(*["x" * 100_000] * 500))
    gateway = await start_process(redis_url, GATEWAY_DRAIN_S="0.3")
    async with raw_call(gateway.port) as call:
        await call.send(_CHAT, 2, b"{}")
        await call.read_until(b"xxx")
        code = await gateway.stop()

    assert code == 0
    assert upstream.executions == 1
    assert await acme.counters(org) == _SPENT


async def test_stop_without_redis_leaves_the_ends_to_the_next_process(
    own_org: Any, own_redis: EmbeddedRedis, upstream: StubUpstream, start_process: StartProcess
) -> None:
    """Calls that ended without Redis are on disk when the process ends; the next one settles."""
    goes_on = asyncio.Event()
    cost = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: 1.5\r\n\r\n{}"
    upstream.answers(raw_answer(goes_on, cost))
    gateway = await start_process(own_redis.url, GATEWAY_STORE_DEADLINE_MS="80")
    async with gateway.client() as client:
        call = asyncio.create_task(client.post("/agents/writer/invoke"))
        await until(lambda: upstream.executions == 1, "the call to run")
        own_redis.kill()
        goes_on.set()
        answer = await call
    code = await gateway.stop()
    own_redis.start()
    held = await acme.counters(own_org)
    await start_process(own_redis.url)

    async def is_settled() -> bool:
        return not await own_org.zcard("bg:expiry")

    await until(is_settled, "the next process to settle")

    assert (answer.status_code, code) == (200, 0)
    assert held["org.held"] == 5_000_000
    assert await acme.counters(own_org) == {
        "org.spent": 1_500_000,
        "agent.writer.spent": 1_500_000,
    }
    assert len(await acme.journal(own_org)) == 1
