"""The org acme, as the registry would write it: one key, two agents, 1000 cents a month."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from msgspec import structs
from ulid import ULID

from gateway.domain.reservation import Ask
from gateway.proxy.reservations import Caller

ORG = "acme"
KEY = "bgk_acme_k1_secret"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
CALLER = Caller("k1")
LIMITS = {"status": "active", "org.month.limit_cents": "1000"}


async def write_org(redis: Any, **limits: str) -> None:
    """Write the org with its key; ``limits`` replace those of LIMITS."""
    await redis.hset(f"bg:{{{ORG}}}:limits", mapping=limits or LIMITS)
    await redis.hset(f"bg:{{{ORG}}}:meta", "schema", "1")
    await write_key(redis, KEY)


async def write_key(redis: Any, key: str, record: str = "k1|active||*") -> None:
    """Write one key record."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    await redis.hset(f"bg:{{{ORG}}}:keys", digest, record)


async def write_agent(
    redis: Any, agent: str, upstream: str, price: Mapping[str, str], **members: Any
) -> None:
    """Write the description of an agent."""
    description = {"upstream": upstream, "price": price, **members}
    await redis.hset(f"bg:{{{ORG}}}:agents", agent, orjson.dumps(description).decode())


def ask(amount_microcents: int, **changes: Any) -> Ask:
    """Return an ask of the agent researcher under a new id."""
    ask = Ask(str(ULID()), ORG, "researcher", amount_microcents, DIGEST)
    return structs.replace(ask, **changes)


async def counters(redis: Any, window: str = "total") -> dict[str, int]:
    """Return what a window counts; zeros and marks are left out."""
    fields = await redis.hgetall(f"bg:{{{ORG}}}:spend:{window}")
    return {
        name: int(number)
        for name, number in fields.items()
        if int(number) and name.endswith((".spent", ".held"))
    }


async def journal(redis: Any, kind: str = "settle") -> list[dict[str, str]]:
    """Return the journal entries of a kind."""
    entries = [fields for _, fields in await redis.xrange("bg:journal")]
    return [entry for entry in entries if entry["kind"] == kind]


async def set_limits(redis: Any, limits: Mapping[str, str]) -> None:
    """Set limits as an operator does, one HSET."""
    await redis.hset(f"bg:{{{ORG}}}:limits", mapping=dict(limits))


async def held(redis: Any) -> dict[str, int]:
    """Return what is held, by scope."""
    return {name: n for name, n in (await counters(redis)).items() if name.endswith(".held")}
