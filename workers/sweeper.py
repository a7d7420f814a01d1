"""The sweeper: ends reservations whose deadline has passed, every second."""

import asyncio
import random
import re
from collections import defaultdict
from typing import Any, cast

from redis.asyncio import Redis

from gateway.budgets.bookkeeping import EXPIRE_IDS_MAX, Bookkeeping
from gateway.budgets.keys import EXPIRY, org_key
from gateway.budgets.records import hold_token

_MEMBERS_MAX = 1_000
_EVERY_S = 1.0
_MEMBER = re.compile(r"([A-Za-z0-9_-]{1,48})\|([A-Za-z0-9]{1,48})")
# A member without a readable record needs no window: expire only takes it out of the index.
_NO_WINDOWS = "total"


async def sweep_forever(redis: Redis, budgets: Bookkeeping) -> None:
    """Sweep until cancelled. Several workers may: each starts a little beside the others."""
    while True:
        if await sweep(redis, budgets) < _MEMBERS_MAX:
            await asyncio.sleep(_EVERY_S * random.uniform(0.8, 1.2))


async def sweep(redis: Redis, budgets: Bookkeeping) -> int:
    """End what is overdue by the clock of Redis and return how many members were looked at."""
    seconds, _ = await redis.time()
    members = await redis.zrangebyscore(EXPIRY, "-inf", seconds * 1000, 0, _MEMBERS_MAX)
    ids_by_org: defaultdict[str, list[str]] = defaultdict(list)
    for member in members:
        if (match := _MEMBER.fullmatch(member)) is None:
            # Nothing of ours: it would be met again every second.
            await redis.zrem(EXPIRY, member)
        else:
            ids_by_org[match[1]].append(match[2])
    for org, ids in ids_by_org.items():
        await _expire(redis, budgets, org, ids)
    return len(members)


async def _expire(redis: Redis, budgets: Bookkeeping, org: str, ids: list[str]) -> None:
    records = await cast(Any, redis.hmget(org_key(org, "holds"), ids))
    by_windows: defaultdict[str, list[str]] = defaultdict(list)
    for reservation_id, record in zip(ids, records, strict=True):
        by_windows[(record and hold_token(record)) or _NO_WINDOWS].append(reservation_id)
    for windows, group in by_windows.items():
        for at in range(0, len(group), EXPIRE_IDS_MAX):
            await budgets.expire(org, windows, group[at : at + EXPIRE_IDS_MAX])
