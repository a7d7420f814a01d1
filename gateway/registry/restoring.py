"""Restoring: what Redis must hold of some orgs, read from Postgres and written in one step."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import get_args
from zoneinfo import ZoneInfo

import asyncpg
import orjson

from gateway.budgets.keys import org_key, spend_keys
from gateway.budgets.proposals import DEFAULT_ZONE
from gateway.domain.limits import check_field
from gateway.domain.window import WindowKind, window_named
from gateway.ledger.sql import statement
from gateway.registry.agents import agent_entry
from gateway.registry.clients import RedisClient
from gateway.registry.keys import key_entry
from gateway.registry.limits_mirror import META_FIELDS
from gateway.registry.windows import kept_until, kept_windows

_LIMITS = statement("select_limits_mirror")
_COUNTERS = statement("select_counters")
_AGENTS = "SELECT org, agent, description FROM agent WHERE org = ANY($1) AND removed_at IS NULL"
_KEYS = "SELECT org, key_id, digest, status, expires_at, agents FROM api_key WHERE org = ANY($1)"
_KINDS: dict[str, WindowKind] = {kind: kind for kind in get_args(WindowKind)}
# As the scripts keep it: outboxes never re-drive longer.
_APPLIED_MS = 604_800_000
# What meta may have of another life: all but `seq` and `now`, which only ever rise.
_META_GONE = ("schema", "epoch", "running", "until", "limits", "chain", *META_FIELDS)


@dataclass(slots=True)
class OrgContent:
    """What Redis must hold of one org; no limits where nobody knows them."""

    limits: dict[str, str] = field(default_factory=dict)
    meta: dict[str, str] = field(default_factory=dict)
    agents: dict[str, str] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    # By packed window: its fields, and until when they are kept; 0 is for ever.
    spend: dict[str, dict[str, int]] = field(default_factory=dict)
    kept_until_ms: dict[str, int] = field(default_factory=dict)
    applied: list[str] = field(default_factory=list)


async def read_content(
    connection: asyncpg.pool.PoolConnectionProxy,
    orgs: Sequence[str],
    kinds: Sequence[WindowKind],
    now_ms: int,
) -> dict[str, OrgContent]:
    """Return what Redis must hold of some orgs at an instant."""
    found = await read_registry(connection, orgs)
    windows = [window.partition(":") for window in kept_windows(kinds, now_ms)]
    rows = await connection.fetch(
        _COUNTERS, orgs, [kind for kind, _, _ in windows], [id for _, _, id in windows]
    )
    counters = defaultdict[tuple[str, str], dict[str, int]](dict)
    for org, part, scope, kind, window_id, microcents, id in rows:
        if part == "applied":
            found[org].applied.append(id)
        else:
            window = f"{kind}:{window_id}" if window_id else kind
            counters[org, window][f"{scope}.{part}"] = microcents
    for (org, window), fields in counters.items():
        until_ms = _kept_until(found[org], window)
        if until_ms == 0 or until_ms > now_ms:
            found[org].spend[window] = fields
            found[org].kept_until_ms[window] = until_ms
    return found


async def read_registry(
    connection: asyncpg.pool.PoolConnectionProxy, orgs: Sequence[str]
) -> dict[str, OrgContent]:
    """Return the same without counters."""
    found = {org: OrgContent() for org in orgs}
    for row in await connection.fetch(_LIMITS, orgs):
        _read_limits(found[row["org"]], row)
    for row in await connection.fetch(_AGENTS, orgs):
        agent, description = agent_entry(row)
        found[row["org"]].agents[agent] = description
    for row in await connection.fetch(_KEYS, orgs):
        digest, record = key_entry(row)
        found[row["org"]].keys[digest] = record
    return found


def queue_removal(pipe: RedisClient, org: str, windows: Sequence[str]) -> None:
    """Queue the commands that take away what a rebuild before has left, counters included."""
    names = ("limits", "agents", "keys", "holds", "rate")
    pipe.delete(*(org_key(org, name) for name in names), *spend_keys(org, ",".join(windows)))
    pipe.hdel(org_key(org, "meta"), *_META_GONE)


def queue_content(pipe: RedisClient, org: str, content: OrgContent) -> None:
    """Queue the commands that make Redis hold this.

    The mark that the org exists is left out: until it is there every call is refused.
    """
    meta = org_key(org, "meta")
    hashes = {
        org_key(org, "limits"): content.limits,
        org_key(org, "agents"): content.agents,
        org_key(org, "keys"): content.keys,
        meta: content.meta,
    }
    for key, fields in hashes.items():
        if fields:
            pipe.hset(key, mapping=fields)
    for window, counters in content.spend.items():
        (key,) = spend_keys(org, window)
        pipe.hset(key, mapping=counters)
        if content.kept_until_ms[window]:
            pipe.pexpireat(key, content.kept_until_ms[window])
    for id in content.applied:
        pipe.set(org_key(org, f"applied:{id}"), "1", px=_APPLIED_MS)


def _read_limits(content: OrgContent, row: asyncpg.Record) -> None:
    content.limits = orjson.loads(row["limits"]) if row["limits"] else {}
    content.meta = orjson.loads(row["meta"]) if row["meta"] else {}
    changes: dict[str, str | None] = orjson.loads(row["changes"]) if row["changes"] else {}
    for name, value in changes.items():
        if value is None:
            content.limits.pop(name, None)
        else:
            content.limits[name] = value


def _kept_until(content: OrgContent, window: str) -> int:
    kind, _, window_id = window.partition(":")
    end_ms = content.meta.get(f"{kind}.end", "")
    if content.meta.get(f"{kind}.id") == window_id and end_ms.isdecimal():
        return kept_until(_KINDS[kind], int(end_ms))
    zone = content.meta.get("zone") or content.limits.get("timezone", DEFAULT_ZONE)
    return _calendar_until(_KINDS[kind], window_id, zone)


# The same few windows come back for every org.
@lru_cache(4096)
def _calendar_until(kind: WindowKind, window_id: str, zone: str) -> int:
    is_zone = check_field("timezone", zone, ()) is None
    window = window_named(kind, window_id, ZoneInfo(zone if is_zone else DEFAULT_ZONE))
    return kept_until(kind, window.end_ms) if window is not None else 1
