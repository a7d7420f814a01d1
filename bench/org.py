"""The org of the bench, written into Redis as `migrate` and the registry write it."""

import asyncio
import hashlib
from typing import Any

import orjson

from bench.answers import COST_MICROCENTS
from gateway.budgets.keys import EXPIRY, JOURNAL, org_key
from gateway.budgets.node import SCHEMA, Node, write_marker

ORG = "acme"
KEY = f"bgk_{ORG}_k1_benchsecret"
KEY_DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
NODE = Node(SCHEMA, "1", ("day", "month", "total"))
# High enough never to deny, low enough that one more digit does not change the path of a script.
LIMITS = {
    "status": "active",
    "timezone": "UTC",
    "org.month.limit_cents": "900000000",
    "org.day.limit_cents": "500000000",
    "agent.*.day.limit_cents": "100000000",
}
_SETTLED_S = 5.0
_POLL_S = 0.01


class NotBooked(Exception):
    """The budgets do not say what the answers say: the run does not count."""


async def write_org(redis: Any, agents: int, upstream: str) -> None:
    """Mark the node and write the org with its limits, its key and its agents."""
    await write_marker(redis, NODE)
    description = {"upstream": upstream, "dialect": "auto", "price": {"mode": "tokens"}}
    text = orjson.dumps(description).decode()
    async with redis.pipeline() as pipeline:
        pipeline.hset(org_key(ORG, "limits"), mapping=LIMITS)
        pipeline.hset(org_key(ORG, "keys"), KEY_DIGEST, "k1|active||*")
        names = {agent_name(number): text for number in range(agents)}
        pipeline.hset(org_key(ORG, "agents"), mapping=names)
        # The mark that the org exists comes last, as in the registry.
        pipeline.hset(org_key(ORG, "meta"), "schema", str(SCHEMA))
        await pipeline.execute()


def agent_name(number: int) -> str:
    """Return the id of an agent."""
    return f"agent{number}"


async def check_booked(redis: Any, answered: int) -> None:
    """Check that every answer was paid, once, and that nothing is held any more.

    A gateway may settle after its answer, so the last ones are waited for.

    Raises:
        NotBooked: money or entries are missing, or there are too many.
    """
    expected = {"spent": answered * COST_MICROCENTS, "held": 0, "entries": answered, "expiry": 0}
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _SETTLED_S
    while (found := await _booked(redis)) != expected:
        if loop.time() > until_s:
            raise NotBooked(f"After {answered} answers Redis says {found}, expected {expected}.")
        await asyncio.sleep(_POLL_S)


async def _booked(redis: Any) -> dict[str, int]:
    spent, held = await redis.hmget(org_key(ORG, "spend:total"), ["org.spent", "org.held"])
    return {
        "spent": int(spent or 0),
        "held": int(held or 0),
        "entries": await redis.xlen(JOURNAL),
        "expiry": await redis.zcard(EXPIRY),
    }
