"""The faulty wire does what its faults say; without them it passes everything on.

And what the gateway makes of a wire that goes silent while it starts.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError, TimeoutError

from gateway.errors import StoreUnavailable
from tests.campaign.wire import Wire, cuts, wire_to
from tests.proxy.gateways import plane_gateway
from tests.until import until


@pytest.fixture
async def wire(redis_url: str) -> AsyncIterator[Wire]:
    """Yield a wire to the shared Redis."""
    port = urlsplit(redis_url).port
    assert port
    async with wire_to(lambda: port) as wire:
        yield wire


@pytest.fixture
async def caller(wire: Wire) -> AsyncIterator[Any]:
    """Yield a client at the near end, which is not patient, and does not try again."""
    async with Redis.from_url(wire.url, socket_timeout=0.3, decode_responses=True) as client:
        yield client


async def test_whole_wire_passes_everything_on(wire: Wire, caller: Any) -> None:
    """Also what is longer than one read of a socket."""
    text = "x" * 1_000_000
    await caller.set("test:text", text)

    assert await caller.get("test:text") == text


async def test_cut_reply_is_not_whole(wire: Wire, caller: Any, redis: Any) -> None:
    """Redis has done what it was told, and the caller hears only the beginning of it."""
    await caller.ping()
    wire.cut_after = cuts(random.Random(1), 3)

    with pytest.raises(ConnectionError):
        await caller.rpush("test:list", *range(100))
    wire.cut_after = None

    assert await redis.llen("test:list") > 0
    assert await caller.ping()


async def test_held_replies_come_when_they_flow(wire: Wire, caller: Any, redis: Any) -> None:
    """What was told is done meanwhile; what was said comes late, and whole."""
    await caller.ping()
    wire.hold("replies")
    with pytest.raises(TimeoutError):
        await caller.set("test:told", "1")
    told = await redis.get("test:told")

    wire.flow("replies")

    assert told == "1"
    assert await caller.get("test:told") == "1"


async def test_held_calls_are_done_when_they_flow(wire: Wire, caller: Any, redis: Any) -> None:
    """Redis does them although their caller has given up."""
    await caller.ping()
    reader, writer = await asyncio.open_connection("127.0.0.1", wire.port)
    wire.hold("calls")
    writer.write(b"*3\r\n$3\r\nSET\r\n$9\r\ntest:told\r\n$1\r\n1\r\n")
    await writer.drain()
    before = await redis.get("test:told")

    wire.flow("calls")
    said = await reader.readline()
    writer.close()
    await writer.wait_closed()

    assert (before, said) == (None, b"+OK\r\n")


async def test_lost_connection_stays_open_and_silent(wire: Wire, caller: Any) -> None:
    """Only those that were there: a new one is whole."""
    await caller.ping()
    wire.lose()

    with pytest.raises(TimeoutError):
        await caller.ping()

    assert await caller.ping()


async def test_gateway_gives_up_a_start_that_nobody_answers(
    redis: Any, wire: Wire, tmp_path: Path
) -> None:
    """A wire that is silent in the middle of a start ends it, so that it is tried again."""
    # Each step takes its time, so that the second connection can be met before it is answered.
    wire.pause_s = 0.1

    async def go_silent() -> None:
        await until(lambda: wire.connections == 2, "the gateway to look at the settings of Redis")
        wire.hold("replies")

    silent = asyncio.create_task(go_silent())
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        async with plane_gateway(wire.url, tmp_path):
            raise AssertionError("It started.")
    await silent
