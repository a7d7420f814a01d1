"""The two stores that the registry writes: Postgres first, then Redis."""

from typing import Any, NamedTuple

import asyncpg
from redis.exceptions import NoPermissionError

from gateway.budgets.keys import NODE
from gateway.errors import BadRequest, StoreNotReady

# redis-py types every reply as a value or an awaitable of it; its asyncio client always gives
# awaitables, so the client is Any here and each reply is read where it is used.
RedisClient = Any


class Clients(NamedTuple):
    """A pool of the ledger, and a redis-py asyncio client that decodes replies."""

    ledger: asyncpg.Pool
    redis: RedisClient


async def require_org(clients: Clients, org: str) -> None:
    """Refuse an org that nobody added: what is written for one would be obeyed by no call.

    Raises:
        BadRequest: it names the org.
    """
    if not await clients.ledger.fetchval("SELECT true FROM org WHERE org = $1", org):
        raise unknown_org(org)


async def require_ready(redis: RedisClient) -> None:
    """Refuse to change limits where Redis may have lost those that are in force.

    Raises:
        StoreNotReady: the node marker is missing or not ready.
    """
    if await redis.hget(NODE, "ready") != "1":
        raise StoreNotReady(
            f"The marker {NODE} is missing or not ready: run budget-gateway migrate, or rebuild "
            "where Redis has lost its data."
        )


async def run_id_of(redis: RedisClient) -> str:
    """Return the run id of the server, empty where it is not told: gateways do not know it then."""
    try:
        return str((await redis.info("server"))["run_id"])
    except NoPermissionError:
        return ""


def unknown_org(org: str) -> BadRequest:
    """Return the refusal of an org that nobody added."""
    return BadRequest(f"org {org} is not known; add it first.")
