"""Calls that run while Redis goes away: their callers get the answer, and each is settled once."""

import asyncio
import os
import signal
from collections import Counter
from typing import Any

from gateway.cli.embedded_redis import EmbeddedRedis
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import bytes_answer, raw_answer

CALLERS = 60
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: %d.%06d\r\n\r\n{}"


async def _entries(redis: Any) -> Counter[tuple[str, str]]:
    """Return how often each reservation has an entry of each kind that is about its end."""
    entries = [fields for _, fields in await redis.xrange("bg:journal")]
    return Counter((entry["id"], entry["kind"]) for entry in entries if entry["kind"] != "alert")


async def test_calls_in_flight_are_settled_when_redis_is_back(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """Redis dies under calls that run: they are answered, and then counted at their own cost."""
    dead = asyncio.Event()
    costs = [1_000_000 + 17 * number for number in range(CALLERS)]
    upstream.answers(*(raw_answer(dead, _HEAD % divmod(cost, 1_000_000)) for cost in costs))
    async with own_gateway.client() as client:
        calls = [asyncio.create_task(client.post("/agents/writer/invoke")) for _ in range(CALLERS)]
        await until(lambda: upstream.executions == CALLERS, "all calls to run")
        held = await acme.counters(own_org)

        own_redis.kill()
        dead.set()
        answers = await asyncio.gather(*calls)

        own_redis.start()
        await own_gateway.settled()

    assert held["org.held"] == CALLERS * 5_000_000
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"{}")}
    assert await acme.counters(own_org) == {
        "org.spent": sum(costs),
        "agent.writer.spent": sum(costs),
    }
    assert await own_org.zcard("bg:expiry") == 0
    assert set((await _entries(own_org)).values()) == {1}
    assert len(await acme.journal(own_org)) == CALLERS


async def test_settle_that_was_sent_but_not_answered_counts_once(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """Redis stands still with the settles in its socket; their repeats change nothing."""
    stopped = asyncio.Event()
    upstream.answers(raw_answer(stopped, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    async with own_gateway.client() as client:
        calls = [
            asyncio.create_task(client.post("/agents/researcher/invoke")) for _ in range(CALLERS)
        ]
        await until(lambda: upstream.executions == CALLERS, "all calls to run")

        os.kill(own_redis.pid, signal.SIGSTOP)
        stopped.set()
        answers = await asyncio.gather(*calls)
        await until(lambda: own_gateway.plane.settlements.open, "a settle to be overdue")
        await until(lambda: own_gateway.plane.app.trouble(), "the deadline to pass")
        os.kill(own_redis.pid, signal.SIGCONT)
        await own_gateway.settled()

    assert {answer.status_code for answer in answers} == {200}
    assert own_gateway.value("settles_total", word="DONE") > 0
    assert await acme.counters(own_org) == {
        "org.spent": CALLERS * 2_000_000,
        "agent.researcher.spent": CALLERS * 2_000_000,
    }
    assert set((await _entries(own_org)).values()) == {1}


async def test_redis_that_dies_under_load_loses_and_invents_nothing(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any, upstream: StubUpstream
) -> None:
    """Killed and started again under load: what ran was answered and counted, nothing else was."""
    upstream.answers(bytes_answer(b"{}"))
    statuses: Counter[int] = Counter()
    enough = asyncio.Event()

    async def call_again_and_again(client: Any) -> None:
        while not enough.is_set():
            answer = await client.post("/agents/researcher/invoke")
            statuses[answer.status_code] += 1

    async def more(status: int) -> None:
        aim = statuses[status] + 50
        await until(lambda: statuses[status] >= aim, f"more answers of {status}")

    # More than its callers can spend.
    await own_org.hset("bg:{acme}:limits", "org.month.limit_cents", "1000000")
    async with own_gateway.client() as client:
        callers = [asyncio.create_task(call_again_and_again(client)) for _ in range(20)]
        for _ in range(2):
            await more(200)
            own_redis.kill()
            await more(503)
            own_redis.start()
        await more(200)
        enough.set()
        await asyncio.gather(*callers)
    await own_gateway.settled()

    assert set(statuses) == {200, 503}
    assert upstream.executions == statuses[200]
    assert await acme.counters(own_org) == {
        "org.spent": statuses[200] * 2_000_000,
        "agent.researcher.spent": statuses[200] * 2_000_000,
    }
    assert await own_org.zcard("bg:expiry") == 0
