"""Copies: what Redis has of what Postgres knows, written anew where Redis may have forgotten some.

A key that was revoked in the second that Redis forgot must not open anything again, and a limit
that was lowered must not be what it was before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
import structlog
from redis.exceptions import RedisError
from ulid import ULID

from gateway.budgets.keys import org_key, spend_keys
from gateway.domain.window import WindowKind
from gateway.ledger.alerts import Alert, raise_alerts
from gateway.registry.clients import Clients, RedisClient
from gateway.registry.orgs import SCHEMA
from gateway.registry.restoring import (
    OrgContent,
    queue_content,
    read_content,
    read_registry,
)

KIND = "limits_restored"
_LOCK_ORGS = "SELECT FROM org WHERE org = ANY($1) ORDER BY org FOR NO KEY UPDATE"

_log = structlog.get_logger()


async def write_registry(clients: Clients, orgs: Sequence[str]) -> None:
    """Make keys and agents of some orgs what Postgres says they are."""
    async with clients.ledger.acquire() as connection, connection.transaction():
        # Who revokes a key meanwhile writes after this, or was read.
        await connection.execute(_LOCK_ORGS, orgs)
        content = await read_registry(connection, orgs)
        async with clients.redis.pipeline(transaction=True) as pipe:
            for org, found in content.items():
                for name, fields in (("agents", found.agents), ("keys", found.keys)):
                    pipe.delete(org_key(org, name))
                    if fields:
                        pipe.hset(org_key(org, name), mapping=fields)
            await pipe.execute()


class Restored(NamedTuple):
    """Orgs whose limits were restored, each with whether Redis had forgotten the org as a whole;
    and orgs of which it had forgotten a window.
    """

    limits: dict[str, bool]
    windows: list[str]


async def restore(clients: Clients, kinds: Sequence[WindowKind], orgs: Sequence[str]) -> Restored:
    """Make some orgs what they were, but for their counters, in a Redis that has lost writes.

    Limits are what they were when they were seen last: in a Redis that has lost nothing, what was
    set since would be undone. An org that it had forgotten is there again afterwards: nobody could
    hold anything there so far.
    """
    seconds, _ = await clients.redis.time()
    async with clients.ledger.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK_ORGS, orgs)
        content = await read_content(connection, orgs, kinds, seconds * 1000)
        limits, alerts = await _limits_restored(clients, content)
        windows = await _windows_restored(clients.redis, content)
        await raise_alerts(connection, alerts)
    return Restored(limits, windows)


async def _limits_restored(
    clients: Clients, content: Mapping[str, OrgContent]
) -> tuple[dict[str, bool], list[Alert]]:
    async with clients.redis.pipeline(transaction=False) as pipe:
        for org in content:
            pipe.hgetall(org_key(org, "limits"))
            pipe.hget(org_key(org, "meta"), "schema")
        found = await pipe.execute(raise_on_error=False)
    for reply in found:
        # What is of another type is not what was seen last, and is replaced like it.
        if isinstance(reply, RedisError) and not str(reply).startswith("WRONGTYPE"):
            raise reply
    restored = [
        (org, limits if isinstance(limits, dict) else {}, bool(mark))
        for org, limits, mark in zip(content, found[::2], found[1::2], strict=True)
        if content[org].limits and (limits != content[org].limits or not mark)
    ]
    for org, limits, is_known in restored:
        await _restore(clients, org, content[org], is_known=is_known)
        _log.warning(KIND, org=org, found=limits, restored=content[org].limits)
    alerts = [_alert(org, limits, content[org]) for org, limits, _ in restored]
    return {org: not is_known for org, _, is_known in restored}, alerts


async def _windows_restored(redis: RedisClient, content: Mapping[str, OrgContent]) -> list[str]:
    """Make counters of zero where Redis has none of a window that was spent in; return whose.

    Redis may have forgotten that the window was opened. So nobody would compare it, and who opens
    it again would find all of its budget. A repair then makes them what the ledger has booked.
    """
    places = [
        (org, spend_keys(org, window)[0], until_ms)
        for org, found in content.items()
        for window, until_ms in found.kept_until_ms.items()
    ]
    async with redis.pipeline(transaction=False) as pipe:
        for _, key, _ in places:
            pipe.exists(key)
        known = await pipe.execute()
    missing = [place for place, is_there in zip(places, known, strict=True) if not is_there]
    async with redis.pipeline(transaction=True) as pipe:
        for _, key, until_ms in missing:
            # A gateway that holds again what it had held may have been here in between.
            pipe.hsetnx(key, "org.spent", "0")
            if until_ms:
                pipe.pexpireat(key, until_ms)
        await pipe.execute()
    return sorted({org for org, _, _ in missing})


async def _restore(clients: Clients, org: str, content: OrgContent, *, is_known: bool) -> None:
    key = org_key(org, "limits")
    async with clients.redis.pipeline(transaction=True) as pipe:
        pipe.delete(key)
        if is_known:
            pipe.hset(key, mapping=content.limits)
        else:
            queue_content(pipe, org, content)
            pipe.hset(org_key(org, "meta"), "schema", SCHEMA)
        await pipe.execute()


def _alert(org: str, found: dict[str, str], content: OrgContent) -> Alert:
    fields = {
        name: [found.get(name), content.limits.get(name)]
        for name in sorted(found.keys() | content.limits.keys())
        if found.get(name) != content.limits.get(name)
    }
    detail: dict[str, object] = {"fields": orjson.dumps(fields).decode()}
    return Alert(org, KIND, detail, f"{KIND}/{ULID()}")
