"""Limits: set with a record of who and why, obeyed by the next request."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from gateway.budgets.keys import NODE, org_key
from gateway.domain.limits import check_field, check_override
from gateway.errors import BadRequest
from gateway.ledger.sql import statement
from gateway.registry.beat import beat
from gateway.registry.clients import Clients, RedisClient, require_org, require_ready
from gateway.registry.limits_mirror import mirror_limits
from gateway.registry.mirror import locked

DEFAULT_WINDOWS = "day,month,total"
_HISTORY = statement("select_limit_change")
_ORG_LIMIT = re.compile(r"org\..+\.limit_cents")
_AGENT_FIELD = re.compile(r"agent\.([A-Za-z0-9_-]{1,48})\..+")


class Author(NamedTuple):
    """Who changes something, and why."""

    actor: str
    cause: str = ""


class LimitField(NamedTuple):
    """A field as Redis has it; ``problem`` is a sentence, or None where it is valid."""

    field: str
    value: str | None
    problem: str | None


class LimitChange(NamedTuple):
    """One recorded change; None stands for a field that was or is not there."""

    at: datetime
    field: str
    old_value: str | None
    new_value: str | None
    actor: str
    cause: str


async def plan_limits(
    clients: Clients, org: str, changes: Mapping[str, str]
) -> dict[str, tuple[str | None, str]]:
    """Return what ``set_limits`` would change, and from what; nothing is written.

    Raises:
        BadRequest: the org is not known, or a field or a value is not valid.
    """
    await require_org(clients, org)
    windows = await deployment_windows(clients)
    for field, value in changes.items():
        if (problem := check_field(field, value, windows)) is not None:
            raise BadRequest(problem)
    before = await clients.redis.hgetall(org_key(org, "limits"))
    return {
        field: (before.get(field), value)
        for field, value in changes.items()
        if before.get(field) != value
    }


async def set_limits(
    clients: Clients, org: str, changes: Mapping[str, str], author: Author
) -> dict[str, tuple[str | None, str]]:
    """Set fields of the limits hash and return what they were and are.

    Every change is recorded before it is made; fields that already have their value are left out.

    Raises:
        BadRequest: the org is not known, or a field or a value is not valid; nothing is set then.
        StoreNotReady: the node marker is missing: what Redis has is not what is in force.
    """
    await require_ready(clients.redis)
    differing = await plan_limits(clients, org, changes)
    if differing:
        await clients.ledger.executemany(
            "INSERT INTO limit_change (org, field, old_value, new_value, actor, cause) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            [(org, field, old, new, *author) for field, (old, new) in differing.items()],
        )
    if "timezone" in changes:
        # Also where Redis has it already: it may have been set there by hand.
        zone = changes["timezone"]
        await clients.ledger.execute("UPDATE org SET timezone = $2 WHERE org = $1", org, zone)
    if differing:
        fields = {field: new for field, (_, new) in differing.items()}
        # A rebuild that has read the record before this change does not write after it.
        async with locked(clients, org):
            await clients.redis.hset(org_key(org, "limits"), mapping=fields)
        await mirror_limits(clients, [org])
        await beat(clients)
    return differing


async def plan_unset(clients: Clients, org: str, fields: Sequence[str]) -> dict[str, str]:
    """Return the fields that ``unset_limits`` would remove, with their values.

    Raises:
        BadRequest: the org is not known; or `status`, or the last limit of the org, would go:
            that would refuse every call.
    """
    await require_org(clients, org)
    before = await clients.redis.hgetall(org_key(org, "limits"))
    left = {field for field in before if field not in fields}
    if "status" not in left or not any(_ORG_LIMIT.fullmatch(field) for field in left):
        raise BadRequest("status and an org.<window>.limit_cents must stay; or freeze the org.")
    return {field: before[field] for field in fields if field in before}


async def unset_limits(
    clients: Clients, org: str, fields: Sequence[str], author: Author
) -> list[str]:
    """Remove fields and return those that were there.

    Raises:
        BadRequest: the org is not known; or `status`, or the last limit of the org, would go:
            that would refuse every call.
        StoreNotReady: the node marker is missing: what Redis has is not what is in force.
    """
    await require_ready(clients.redis)
    gone = await plan_unset(clients, org, fields)
    if gone:
        await clients.ledger.executemany(
            "INSERT INTO limit_change (org, field, old_value, actor, cause) "
            "VALUES ($1, $2, $3, $4, $5)",
            [(org, field, value, *author) for field, value in gone.items()],
        )
        async with locked(clients, org):
            await clients.redis.hdel(org_key(org, "limits"), *gone)
        await mirror_limits(clients, [org])
        await beat(clients)
    return list(gone)


async def list_changes(
    clients: Clients, org: str, field: str = "", rows_max: int = 100
) -> list[LimitChange]:
    """Return the recorded changes of an org, or of one of its fields, the newest first.

    What operators set with `redis-cli` is not recorded, so it is not here.

    Raises:
        BadRequest: the org is not known.
    """
    await require_org(clients, org)
    rows = await clients.ledger.fetch(_HISTORY, org, field, rows_max)
    return [LimitChange(*row) for row in rows]


async def read_limits(redis: RedisClient, org: str) -> list[LimitField]:
    """Return every field of an org's limits, whoever set it, and what is wrong with it."""
    values: dict[str, str] = await redis.hgetall(org_key(org, "limits"))
    agents = await redis.hkeys(org_key(org, "agents"))
    seconds, _ = await redis.time()
    return judged(values, agents, await _windows(redis), seconds)


def judged(
    values: Mapping[str, str], agents: Sequence[str], windows: Sequence[str], now_s: int
) -> list[LimitField]:
    """Return the fields of a limits hash with what is wrong with each at an instant.

    What is missing though every call needs it is a field without a value. A field of an agent
    that is not registered is wrong: it limits nobody. So is an override that does not count.
    """
    fields = [
        LimitField(
            field,
            value,
            check_field(field, value, windows)
            or _check_agent(field, agents)
            or check_override(field, values, now_s),
        )
        for field, value in sorted(values.items())
    ]
    if "status" not in values:
        problem = "status is missing: every call of the org is refused."
        fields.append(LimitField("status", None, problem))
    if not any(_ORG_LIMIT.fullmatch(field) for field in values):
        problem = "No window of the org has a limit, not even none."
        fields.append(LimitField("org.<window>.limit_cents", None, problem))
    return fields


async def check_limits(clients: Clients, org: str) -> dict[str, str]:
    """Return a sentence for each field of an org that is unknown, malformed or missing."""
    fields = await read_limits(clients.redis, org)
    return {field.field: field.problem for field in fields if field.problem is not None}


async def deployment_windows(clients: Clients) -> list[str]:
    """Return the windows that this deployment counts."""
    return await _windows(clients.redis)


def agent_of(field: str) -> str | None:
    """Return the one agent that a field is about, or None where it is about all or the org."""
    match = _AGENT_FIELD.fullmatch(field)
    return match[1] if match else None


async def _windows(redis: RedisClient) -> list[str]:
    text = await redis.hget(NODE, "windows")
    return (text or DEFAULT_WINDOWS).split(",")


def _check_agent(field: str, agents: Sequence[str]) -> str | None:
    agent = agent_of(field)
    if agent is None or agent in agents:
        return None
    return f"{field} is set, but there is no agent {agent}; it limits nobody."
