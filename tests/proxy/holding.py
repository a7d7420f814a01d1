"""Callers that hold and end money themselves, and the clock that ends it for them."""

from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from tests.until import until
from workers.sweeper import SweeperMetrics, sweep

PLACE = "/v1/reservations"


async def reserve(client: httpx.AsyncClient, **changes: Any) -> httpx.Response:
    """Ask for 25 cents for the researcher; ``changes`` replace members, None leaves one out."""
    headers = changes.pop("headers", {})
    asked = {"agent": "researcher", "amount_cents": 25, "ttl_ms": 60_000, **changes}
    body = {name: value for name, value in asked.items() if value is not None}
    return await client.post(PLACE, json=body, headers=headers)


async def reserved(client: httpx.AsyncClient, **changes: Any) -> str:
    """Hold an amount like ``reserve``; return its id."""
    answer = await reserve(client, **changes)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def end(client: httpx.AsyncClient, id: str, verb: str, **body: Any) -> httpx.Response:
    """Settle, release or extend a reservation."""
    return await client.post(f"{PLACE}/{id}/{verb}", json=body)


async def settled(client: httpx.AsyncClient, id: str, cost_cents: float) -> tuple[str, float]:
    """Settle a reservation; return the state and the cost that its caller is told."""
    answer = await end(client, id, "settle", cost_cents=cost_cents)
    assert answer.status_code == 200, answer.text
    assert answer.json().keys() == {"id", "state", "cost_cents"}
    return answer.json()["state"], answer.json()["cost_cents"]


async def expired(redis: Any, redis_url: str, id: str, org: str = "acme") -> None:
    """Wait until the time of a hold is over and a worker has ended it."""
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, 2_000)
    await connection.start()
    await connection.tried()
    budgets, metrics = Bookkeeping(connection, scripts, 60_000, 1000), CollectorRegistry()
    counts = SweeperMetrics(metrics)

    async def is_over() -> bool:
        await sweep(budgets, counts)
        return not await redis.hexists(f"bg:{{{org}}}:holds", id)

    await until(is_over, "the hold to expire")
    await connection.close()
