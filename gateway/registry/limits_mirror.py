"""The limits mirror: what Redis alone knows of an org, kept in Postgres for a rebuild.

Operators change limits with `redis-cli`, and the scripts open windows; neither writes a record. A
Redis that has lost its data must never be mirrored: what is kept is what a rebuild needs then.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, get_args

import orjson
from redis.exceptions import NoPermissionError, RedisError

from gateway.budgets.keys import NODE, org_key
from gateway.domain.window import WindowKind
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients

# What of meta no ledger has. `total` has no bounds.
META_FIELDS = (
    *("zone", "billing_status", "plan_at"),
    *(
        f"{kind}.{part}"
        for kind in get_args(WindowKind)
        if kind != "total"
        for part in ("id", "start", "end")
    ),
)
_KEEP = statement("keep_limits_mirror")
_READY = ("epoch", "ready", "life")


class LimitsLook(NamedTuple):
    """Limits and meta of some orgs, by their place in ``orgs``.

    ``at`` is an instant of Postgres before the look. ``epoch`` is that of the marker, which was
    ready before and after it; None where it was not, or the server was started again and is not
    compared yet, so the hashes may be what a loss left.
    """

    at: datetime
    epoch: str | None
    orgs: tuple[str, ...]
    limits: list[dict[str, str]]
    meta: list[dict[str, str]]


async def mirror_limits(clients: Clients, orgs: Sequence[str]) -> None:
    """Keep what Redis has of some orgs now; nothing where its marker is not ready."""
    await keep_limits(clients, await look_at_limits(clients, orgs))


async def look_at_limits(clients: Clients, orgs: Sequence[str]) -> LimitsLook:
    """Return what Redis has of some orgs."""
    at = await clients.ledger.fetchval("SELECT clock_timestamp()")
    async with clients.redis.pipeline(transaction=False) as pipe:
        pipe.hmget(NODE, _READY)
        for org in orgs:
            pipe.hgetall(org_key(org, "limits"))
            pipe.hmget(org_key(org, "meta"), ("schema", *META_FIELDS))
        pipe.hmget(NODE, _READY)
        pipe.info("server")
        before, *found, after, server = await pipe.execute(raise_on_error=False)
    for reply in (before, after, *found[::2]):
        if isinstance(reply, RedisError) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    # Where an ACL forbids INFO nobody notices that a server was started again.
    lives = (None, before[2] if isinstance(server, NoPermissionError) else server["run_id"])
    is_ready = before == after and before[1] == "1" and before[2] in lives
    # Of an org whose limits are of another type nothing is kept: it is taken for one without mark.
    limits = [fields if isinstance(fields, dict) else None for fields in found[::2]]
    meta = [
        {} if fields is None else _named(values)
        for fields, values in zip(limits, found[1::2], strict=True)
    ]
    kept = [fields or {} for fields in limits]
    return LimitsLook(at, before[0] if is_ready else None, tuple(orgs), kept, meta)


async def keep_limits(clients: Clients, look: LimitsLook) -> None:
    """Keep what differs from what was kept, unless that was seen later or in another epoch.

    An org without its mark in Redis is left as it was kept.
    """
    rows = [
        (org, _document(limits), _document(meta))
        for org, limits, meta in zip(look.orgs, look.limits, look.meta, strict=True)
        if meta.pop("schema", None)
    ]
    if look.epoch is not None and rows:
        columns = map(list, zip(*rows, strict=True))
        await clients.ledger.execute(_KEEP, *columns, look.at, look.epoch)


def _named(values: Sequence[str | None] | RedisError) -> dict[str, str]:
    # Whoever put something else in the place of one org's meta must not keep the others from it.
    if isinstance(values, RedisError):
        return {}
    names = ("schema", *META_FIELDS)
    return {name: value for name, value in zip(names, values, strict=True) if value}


def _document(fields: Mapping[str, str]) -> str:
    # Postgres stores no NUL. Another letter that no limit may have keeps the value as wrong as it
    # is; without one it could become a limit.
    kept = {_storable(name): _storable(value) for name, value in fields.items()}
    return orjson.dumps(kept).decode()


def _storable(text: str) -> str:
    return text.replace("\0", "\ufffd")
