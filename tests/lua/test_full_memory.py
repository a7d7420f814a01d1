"""A server whose memory is full admits nothing, and still takes every end.

F1 settle, release and expire end their reservations
F2 an expiry that ends nothing is no fault, so that the sweep goes on to the next org
"""

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.lua.store import ORG, Store, cents, open_store
from tests.servers import SCRIPT_SERVERS, Servers

WINDOWS = "day:2037-11-22,month:2037-11,total"


@pytest.fixture(params=SCRIPT_SERVERS)
async def own(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Store]:
    """Yield a store on a server of its own, which may be filled."""
    async with Redis.from_url(servers.own_redis(request.param).url) as client:
        yield await open_store(client, request.param != "redis-6.2")


async def test_full_server_takes_every_end(own: Store) -> None:
    """F1: three holds end in their three ways while a fourth is refused."""
    settling, held = await own.held(cents(1))
    releasing, _ = await own.held(cents(2))
    expiring, _ = await own.held(cents(3), ttl_ms=1)
    await own.at(1)
    await own.client.config_set("maxmemory", 1)

    with pytest.raises(RedisError, match="maxmemory"):
        await own.reserve(cents(4))
    settled = await own.settle(settling, held, cents(1))
    released = await own.budgets.release(ORG, releasing.agent, releasing.id, held.windows)
    states = await own.budgets.expire(ORG, WINDOWS, [expiring.id])

    assert (settled.status, released.status, states) == ("SETTLED", "RELEASED", ["expired"])
    assert await own.spend() == {"org.spent": cents(4), "agent.researcher.spent": cents(4)}
    assert await own.client.hlen("bg:{acme}:holds") == 0


async def test_full_server_is_asked_for_what_has_not_ended(own: Store) -> None:
    """F2: a deadline ahead, another window, a corrupt record: each id has its answer."""
    ask, _ = await own.held(cents(1))
    await own.client.hset("bg:{acme}:holds", "BAD1", "1|x")
    await own.client.config_set("maxmemory", 1)

    held = await own.budgets.expire(ORG, WINDOWS, [ask.id])
    elsewhere = await own.budgets.expire(ORG, "total", [ask.id])
    others = await own.budgets.expire(ORG, WINDOWS, [ask.id, "GONE1", "BAD1"])

    assert (held, elsewhere, others) == (["held"], ["windows"], ["held", "gone", "corrupt"])
