"""The sweeper: ends reservations whose deadline has passed, every second."""

import asyncio
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from gateway.budgets.bookkeeping import EXPIRE_IDS_MAX, Bookkeeping
from gateway.budgets.keys import EXPIRY, org_key
from gateway.budgets.records import hold_token
from gateway.errors import StoreError

_log = structlog.get_logger()
_EVERY_S = 1.0
_MEMBERS_MAX = 1_000
_MEMBER = re.compile(rb"([A-Za-z0-9_-]{1,48})\|([A-Za-z0-9]{1,48})")
# What the script takes as arguments; other texts it would refuse before it saw the record.
_TOKEN = re.compile(r"[A-Za-z0-9:,_-]+(?:;[A-Za-z0-9]+)?")
# The script judges by the record, not by this: it takes a member without one out of the index.
_NO_WINDOWS = "total"
# What expire answers of a member that stays in the index.
_STAYING = frozenset(("held", "windows"))


class SweeperMetrics:
    """What the sweeper counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter(
            "budget_gateway_overdue_holds",
            "Overdue holds by what became of them; charged ones are expired.",
            ["end"],
            registry=registry,
        )
        self.overdue_seconds = Gauge(
            "budget_gateway_overdue_seconds",
            "How long the oldest overdue hold had been overdue when the last sweep began.",
            registry=registry,
        )


class Page(NamedTuple):
    """How many members were looked at, and how many of them stayed in the index."""

    members: int
    stayed: int


async def sweep_forever(budgets: Bookkeeping, metrics: SweeperMetrics) -> None:
    """Sweep until cancelled. Several workers may: each starts a little beside the others."""
    while True:
        await sweep(budgets, metrics)
        await asyncio.sleep(_EVERY_S * random.uniform(0.8, 1.2))


async def sweep(budgets: Bookkeeping, metrics: SweeperMetrics) -> None:
    """End everything that is overdue by the clock of Redis.

    What cannot be ended is passed over: it never keeps the rest from being looked at.

    Raises:
        StoreUnavailable: Redis went away; the next sweep goes on.
    """
    if budgets.wire.node is None:
        return
    seconds, microseconds = await budgets.wire.command("TIME")
    now_ms = int(seconds) * 1000 + int(microseconds) // 1000
    oldest = await budgets.wire.command("ZRANGE", EXPIRY, 0, 0, "WITHSCORES")
    overdue_ms = now_ms - float(oldest[1]) if oldest else 0
    metrics.overdue_seconds.set(max(0, overdue_ms) / 1000)
    offset, page = 0, Page(_MEMBERS_MAX, 0)
    while page.members == _MEMBERS_MAX:
        page = await _sweep_page(budgets, metrics, now_ms, offset)
        offset += page.stayed


async def _sweep_page(
    budgets: Bookkeeping, metrics: SweeperMetrics, now_ms: int, offset: int
) -> Page:
    members = await budgets.wire.command(
        "ZRANGEBYSCORE", EXPIRY, "-inf", now_ms, "LIMIT", offset, _MEMBERS_MAX
    )
    ids_by_org: defaultdict[str, list[str]] = defaultdict(list)
    for member in members:
        if (match := _MEMBER.fullmatch(member)) is None:
            # Nothing of ours: it would be met again every second.
            _log.error("foreign_member_removed", key=EXPIRY, member=repr(member))
            await budgets.wire.command("ZREM", EXPIRY, member)
        else:
            ids_by_org[match[1].decode()].append(match[2].decode())
    stayed = 0
    for org, ids in ids_by_org.items():
        stayed += await _sweep_org(budgets, metrics, org, ids)
    return Page(len(members), stayed)


async def _sweep_org(
    budgets: Bookkeeping, metrics: SweeperMetrics, org: str, ids: Sequence[str]
) -> int:
    try:
        records = await budgets.wire.command("HMGET", org_key(org, "holds"), *ids)
    except StoreError as error:
        return _failed(error, metrics, org, len(ids))
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for reservation_id, record in zip(ids, records, strict=True):
        groups[_token(record)].append(reservation_id)
    stayed = 0
    for token, group in groups.items():
        for at in range(0, len(group), EXPIRE_IDS_MAX):
            stayed += await _expire(budgets, metrics, (org, token), group[at : at + EXPIRE_IDS_MAX])
    return stayed


async def _expire(
    budgets: Bookkeeping, metrics: SweeperMetrics, place: tuple[str, str], ids: Sequence[str]
) -> int:
    org, token = place
    try:
        states = await budgets.expire(org, token, ids)
    except StoreError as error:
        return _failed(error, metrics, org, len(ids))
    for reservation_id, state in zip(ids, states, strict=True):
        metrics.ended.labels(state).inc()
        if state == "corrupt":
            # Its amount stays held: only a person can tell what it was.
            _log.error("hold_unreadable", org=org, id=reservation_id)
    return sum(state in _STAYING for state in states)


def _failed(error: StoreError, metrics: SweeperMetrics, org: str, count: int) -> int:
    if error.transient:
        raise error
    metrics.ended.labels("failed").inc(count)
    _log.error("sweep_failed", org=org, holds=count, error=str(error))
    return count


def _token(record: bytes | None) -> str:
    token = hold_token(record.decode(errors="replace")) if record is not None else None
    return token if token and _TOKEN.fullmatch(token) else _NO_WINDOWS
