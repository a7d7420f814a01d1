"""What callers are told while Redis cannot be used, and that nothing is left when it can again."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until

PATH = "/agents/researcher/invoke"
CALLERS = 200
# The deadline bounds an answer by itself; this only tells a bound from none on a busy machine.
_CEILING_S = 2.0


class Fault(NamedTuple):
    """A way in which Redis cannot be used, how it ends, and the word that callers get."""

    strike: Callable[[EmbeddedRedis, Any], Awaitable[object]]
    mend: Callable[[EmbeddedRedis, Any], Awaitable[object]]
    word: str = "budget_store_unavailable"


async def _kill(server: EmbeddedRedis, _client: Any) -> None:
    server.kill()


async def _restart(server: EmbeddedRedis, _client: Any) -> None:
    server.start()


async def _stop(server: EmbeddedRedis, _client: Any) -> None:
    os.kill(server.pid, signal.SIGSTOP)


async def _go_on(server: EmbeddedRedis, _client: Any) -> None:
    os.kill(server.pid, signal.SIGCONT)


async def _mark(_server: EmbeddedRedis, client: Any) -> None:
    await write_marker(client, Node(SCHEMA, "1", ("day", "month", "total")))


FAULTS = {
    "killed": Fault(_kill, _restart),
    "stopped": Fault(_stop, _go_on),
    "full": Fault(
        lambda _, client: client.config_set("maxmemory", 1),
        lambda _, client: client.config_set("maxmemory", 0),
    ),
    "replica": Fault(
        lambda _, client: client.replicaof("127.0.0.1", "1"),
        lambda _, client: client.replicaof("NO", "ONE"),
    ),
    "without its replicas": Fault(
        lambda _, client: client.config_set("min-replicas-to-write", 1),
        lambda _, client: client.config_set("min-replicas-to-write", 0),
    ),
    "unmarked": Fault(lambda _, client: client.delete("bg:node"), _mark, "store_not_ready"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_calls_are_refused_while_redis_is(
    own_gateway: PlaneGateway,
    upstream: StubUpstream,
    own_redis: EmbeddedRedis,
    own_org: Any,
    name: str,
) -> None:
    """A call is told 503 and the word at once, its upstream hears nothing, and nothing is held."""
    fault = FAULTS[name]
    async with own_gateway.client() as client:
        await until(lambda: _is_served(client), "a first call to run")
        await own_gateway.settled()
        await fault.strike(own_redis, own_org)
        if name == "unmarked":
            await until(lambda: _is_ready(client, 503), "the marker to be missed")

        began_s = time.monotonic()
        refused = await client.post(PATH)
        took_s = time.monotonic() - began_s

        await fault.mend(own_redis, own_org)
        await until(lambda: _is_ready(client, 200), "the gateway to be ready again")
        await until(lambda: _is_served(client), "a call to run again")
    await own_gateway.settled()
    # On a busy machine the fault outlives the patience of an end, which then goes to disk first.
    await until(lambda: own_gateway.value("spool_entries") == 0, "the spool to be replayed")

    assert refused.status_code == 503
    assert refused.json()["error"] == fault.word
    assert refused.json()["retryable"] is True
    assert refused.headers["retry-after"] == "1"
    assert took_s < _CEILING_S
    assert upstream.executions == 2
    assert await acme.counters(own_org) == _spent_cents(4)
    assert await own_org.zcard("bg:expiry") == 0


@pytest.mark.parametrize("name", FAULTS)
async def test_many_calls_at_once_are_refused_while_redis_is(
    own_gateway: PlaneGateway,
    upstream: StubUpstream,
    own_redis: EmbeddedRedis,
    own_org: Any,
    name: str,
) -> None:
    """Two hundred callers at once get the same answer, and none of them leaves a hold behind."""
    fault = FAULTS[name]
    async with own_gateway.client() as client:
        await until(lambda: _is_served(client), "a first call to run")
        await own_gateway.settled()
        await fault.strike(own_redis, own_org)
        if name == "unmarked":
            await until(lambda: _is_ready(client, 503), "the marker to be missed")

        answers = await asyncio.gather(*(client.post(PATH) for _ in range(CALLERS)))

        await fault.mend(own_redis, own_org)
        await until(lambda: _is_ready(client, 200), "the gateway to be ready again")
        await until(lambda: _is_served(client), "a call to run again")
    await own_gateway.settled()
    # On a busy machine the fault outlives the patience of an end, which then goes to disk first.
    await until(lambda: own_gateway.value("spool_entries") == 0, "the spool to be replayed")

    assert {(answer.status_code, answer.json()["error"]) for answer in answers} == {
        (503, fault.word)
    }
    assert upstream.executions == 2
    assert await acme.counters(own_org) == _spent_cents(4)
    assert await own_org.zcard("bg:expiry") == 0


async def test_store_that_was_emptied_is_not_taken_for_a_wrong_key(
    own_gateway: PlaneGateway, upstream: StubUpstream, own_org: Any
) -> None:
    """In the moment in which everything is gone, callers are told to come back, not to go."""
    async with own_gateway.client() as client:
        await until(lambda: _is_served(client), "a first call to run")
        await own_gateway.settled()
        await own_org.flushall()

        refused = await client.post(PATH)

    assert (refused.status_code, refused.json()["error"]) == (503, "store_not_ready")
    assert upstream.executions == 1


async def test_store_trouble_is_told_in_the_words_of_the_caller(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_client: Any, upstream: StubUpstream
) -> None:
    """A call that was understood is refused like any other: as JSON-RPC, or in its dialect."""
    flat = {"mode": "flat", "cents": "2"}
    await acme.write_agent(own_client, "claude", upstream.url, flat, dialect="anthropic")
    rpc = {"jsonrpc": "2.0", "id": 7, "method": "tools/call"}
    async with own_gateway.client() as client:
        for agent in ("researcher", "claude"):
            await until(partial(_is_served, client, agent), "a first call to run")
        await FAULTS["full"].strike(own_redis, own_client)
        as_rpc = await client.post("/agents/researcher/mcp", json=rpc)
        as_anthropic = await client.post("/agents/claude/invoke", json={})
        await FAULTS["full"].mend(own_redis, own_client)

    assert (as_rpc.status_code, as_rpc.json()["id"]) == (503, 7)
    assert (as_anthropic.status_code, as_anthropic.json()["type"]) == (503, "error")


async def _is_served(client: Any, agent: str = "researcher") -> bool:
    # On a busy machine a single call may miss the deadline that a deployment has.
    return bool((await client.post(f"/agents/{agent}/invoke", json={})).status_code == 200)


async def _is_ready(client: Any, status: int) -> bool:
    return bool((await client.get("/readyz")).status_code == status)


def _spent_cents(amount: int) -> dict[str, int]:
    return {"org.spent": amount * 1_000_000, "agent.researcher.spent": amount * 1_000_000}
