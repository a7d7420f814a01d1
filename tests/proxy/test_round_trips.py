"""What a call asks of Redis: one script before the upstream hears of it, one after."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.faults.counting_proxy import CountingProxy, counting_proxy
from tests.proxy.gateways import PlaneGateway, plane_gateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

PATH = "/agents/researcher/invoke"
CALLS = 50


@pytest.fixture
async def proxy(redis_url: str) -> AsyncIterator[CountingProxy]:
    """Yield a way to Redis that counts."""
    async with counting_proxy(redis_url) as running:
        yield running


@pytest.fixture
async def counted(org: Any, proxy: CountingProxy, tmp_path: Path) -> AsyncIterator[PlaneGateway]:
    """Yield a gateway that takes this way."""
    async with plane_gateway(proxy.url, tmp_path) as gateway:
        yield gateway
    assert await org.zcard("bg:expiry") == 0


async def test_one_script_before_the_upstream_and_one_after(
    counted: PlaneGateway, proxy: CountingProxy, upstream: StubUpstream
) -> None:
    """A call whose agent is known costs one round trip before it runs, and one when it has run."""
    goes_on = asyncio.Event()
    async with counted.client() as client:
        await client.post(PATH)
        await counted.settled()
        upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
        proxy.commands.clear()

        call = asyncio.create_task(client.post(PATH))
        await until(lambda: upstream.executions == 2, "the call to run")
        before = [name for name in proxy.commands if name != "HGET"]
        goes_on.set()
        await call
        await counted.settled()
        after = [name for name in proxy.commands if name != "HGET"]

    assert before == ["EVALSHA"]
    assert after == ["EVALSHA", "EVALSHA"]


async def test_agents_are_not_read_for_each_call(
    counted: PlaneGateway, proxy: CountingProxy
) -> None:
    """Fifty calls one after the other read the agent now and then, behind their back."""
    async with counted.client() as client:
        await client.post(PATH)
        await counted.settled()
        proxy.commands.clear()

        for _ in range(CALLS):
            await client.post(PATH)
        await counted.settled()

    assert proxy.commands.count("EVALSHA") == 2 * CALLS
    assert proxy.commands.count("HGET") < CALLS / 2
    assert set(proxy.commands) <= {"EVALSHA", "HGET"}


async def test_idempotency_key_costs_no_further_round_trip(
    counted: PlaneGateway, proxy: CountingProxy
) -> None:
    """The settle names the key with the hold, so nobody has to tell it."""
    async with counted.client() as client:
        await client.post(PATH)
        await counted.settled()
        proxy.commands.clear()

        await client.post(PATH, headers={"idempotency-key": "once"})
        await counted.settled()

    assert [name for name in proxy.commands if name != "HGET"] == ["EVALSHA", "EVALSHA"]


async def test_refused_call_asks_once(counted: PlaneGateway, proxy: CountingProxy) -> None:
    """A key that is unknown is found out by the same script, and nothing follows it."""
    async with counted.client() as client, counted.client(acme.KEY + "x") as stranger:
        await client.post(PATH)
        await counted.settled()
        proxy.commands.clear()

        refused = await stranger.post(PATH)

    assert refused.status_code == 401
    assert [name for name in proxy.commands if name != "HGET"] == ["EVALSHA"]
