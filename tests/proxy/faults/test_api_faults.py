"""Reservations of callers while Redis is away, or has forgotten them.

F1 while it is away every verb is 503, and what was asked for can be asked for again
F2 a hold that it has forgotten is made again by the gateway that has given it
F3 an end that it has forgotten is told again, and counts once
F4 what it has lost is not told as a reservation that never was
"""

import asyncio
from typing import Any

import pytest

from gateway.budgets.keys import NODE
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.proxy import acme
from tests.proxy.faults.test_redo import Older, compared, opened
from tests.proxy.gateways import PlaneGateway
from tests.proxy.holding import PLACE, end, reserve, reserved, settled
from tests.until import until


@pytest.fixture(autouse=True)
async def life(own_client: Any) -> None:
    """Note in the marker which start of the server is good, as migrate does."""
    await own_client.hset(NODE, "life", (await own_client.info("server"))["run_id"])


async def test_redis_away_is_told_and_costs_nothing(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """F1: no verb is taken for done, and when Redis is back the hold is settled."""
    async with own_gateway.client() as client:
        id = await reserved(client)
        own_redis.kill()
        await until(lambda: own_gateway.plane.app.trouble(), "the loss to be seen")
        answers = [
            await reserve(client),
            await end(client, id, "settle", cost_cents=7),
            await end(client, id, "release"),
            await end(client, id, "extend", ttl_ms=5),
            await client.get(f"/v1/requests/{id}"),
        ]
        await asyncio.to_thread(own_redis.start)
        await opened(own_gateway)
        told = await settled(client, id, 7)

    assert [answer.status_code for answer in answers] == [503] * 5
    assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert told == ("settled", 7)
    assert await acme.counters(own_org) == {
        "org.spent": 7_000_000,
        "agent.researcher.spent": 7_000_000,
    }


async def test_forgotten_hold_is_made_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """F2: with what it was extended to; its caller settles it as if nothing had been."""
    older = Older(own_redis)
    async with own_gateway.client() as client:
        id = await reserved(client, amount_cents=5)
        await end(client, id, "extend", amount_cents=40)

        await older.restore()
        await until(
            lambda: own_gateway.value("redone_total", kind="hold") == 1, "the hold to be made again"
        )
        held = (await acme.held(own_org))["org.held"]
        await compared(own_org)
        await opened(own_gateway)
        told = await settled(client, id, 7)

    assert (held, told) == (40_000_000, ("settled", 7))
    assert await acme.held(own_org) == {}


async def test_forgotten_end_is_told_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """F3: one that was settled and one that was given back; neither is held again."""
    async with own_gateway.client() as client:
        ids = [await reserved(client) for _ in range(2)]
        older = Older(own_redis)
        await settled(client, ids[0], 7)
        await end(client, ids[1], "release")

        await older.restore()
        await until(
            lambda: own_gateway.value("redone_total", kind="end") == 2, "the ends to be told again"
        )

    assert await acme.held(own_org) == {}
    assert [entry["amount"] for entry in await acme.journal(own_org)] == ["7000000"]


async def test_ended_hold_is_not_made_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """F2: what was ended here, or is over, is not given back to a Redis that knows nothing."""
    older = Older(own_redis)
    async with own_gateway.client() as client:
        await end(client, await reserved(client), "release")
        await reserved(client, ttl_ms=1)
        kept = await reserved(client)

        await older.restore()
        await until(
            lambda: own_gateway.value("redone_total", kind="hold"), "the hold to be made again"
        )
        await until(
            lambda: own_gateway.value("redone_total", kind="end"), "the end to be told again"
        )

    assert list(await own_org.hgetall("bg:{acme}:holds")) == [kept]


async def test_older_hold_is_not_made_again(
    own_gateway: PlaneGateway, own_redis: EmbeddedRedis, own_org: Any
) -> None:
    """F2: after ten minutes it may have been ended at another gateway, and that be forgotten."""
    older = Older(own_redis)
    async with own_gateway.client() as client:
        old, kept = [await reserved(client) for _ in range(2)]
        own_gateway.plane.reservations.granted[old].held_s -= 600

        await older.restore()
        await until(
            lambda: own_gateway.value("redone_total", kind="hold"), "the hold to be made again"
        )

    assert list(await own_org.hgetall("bg:{acme}:holds")) == [kept]


async def test_lost_reservation_is_not_unknown(own_gateway: PlaneGateway, own_org: Any) -> None:
    """F4: without the node marker nobody hears 404 for what may be there again in a moment."""
    async with own_gateway.client() as client:
        id = await reserved(client)
        await own_org.delete("bg:{acme}:holds")
        marker = await own_org.hgetall(NODE)
        await own_org.delete(NODE)
        answer = await client.post(f"{PLACE}/{id}/settle", json={"cost_cents": 7})
        await own_org.hset(NODE, mapping=marker)

    assert (answer.status_code, answer.json()["error"]) == (503, "store_not_ready")
    assert await acme.journal(own_org) == []
