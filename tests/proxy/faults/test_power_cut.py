"""A power cut that takes what Redis had acknowledged, under a gateway that lives on."""

import asyncio
import os

import pytest
from redis.asyncio import Redis

from bench.append_only_file import cut_power, growing_files
from bench.page_cache import can_tell
from gateway.budgets.keys import NODE
from gateway.budgets.node import SCHEMA, Node, write_marker
from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.servers import Servers
from tests.stub_upstream import StubUpstream
from tests.until import until

CALLS = 20
# What fills the page that the org ends in: a power cut takes whole pages.
FILLING = "x" * 8192


async def test_ends_that_a_power_cut_took_are_told_again(
    servers: Servers, upstream: StubUpstream, start: StartPlane
) -> None:
    """All calls were settled and acknowledged, none is on the disk, and none is lost."""
    # The kernel alone decides when something is on the disk, which takes it seconds.
    server = servers.own_redis(appendfsync="no")
    if not can_tell(server.folder):
        pytest.skip(f"The kernel does not tell what of {server.folder} is on the disk.")
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        await write_marker(redis, Node(SCHEMA, "1", ("day", "month", "total")))
        await redis.hset(NODE, "life", (await redis.info("server"))["run_id"])
        await acme.write_org(redis)
        await acme.write_agent(redis, "researcher", upstream.url, {"mode": "flat", "cents": "2"})
        await redis.set("filling", FILLING)
        with growing_files(server.folder)[-1].open("ab") as file:
            os.fdatasync(file.fileno())
        gateway = await start(server.url)
        async with gateway.client() as client:
            for _ in range(CALLS):
                assert (await client.post("/agents/researcher/invoke")).status_code == 200
        await gateway.settled()
        acknowledged = await acme.journal(redis)

        cut_power(server)
        await asyncio.to_thread(server.start)
        await until(
            lambda: gateway.value("redone_total", kind="end") == CALLS, "the ends to be told again"
        )

        told = await acme.journal(redis)
        assert {entry["id"] for entry in told} == {entry["id"] for entry in acknowledged}
        assert len(told) == len(acknowledged) == CALLS
        assert await acme.held(redis) == {}
