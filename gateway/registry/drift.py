"""Drift: which of many orgs may have counters that are not what the ledger says.

A look in bulk: counters and ledger are read one after the other, so an org whose calls end
meanwhile may be named without reason. What is named is then compared at one cut (``differences``).
"""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress

from gateway.budgets.keys import org_key, spend_keys
from gateway.budgets.proposals import packed_window
from gateway.domain.window import WindowKind
from gateway.errors import StoreError
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients, RedisClient
from gateway.registry.windows import kept_windows, stored_windows

_SPEND = statement("select_spend_of")
_SPENT = ".spent"
# By packed window and payer.
Spent = dict[tuple[str, str], int]


async def drifting(
    clients: Clients, kinds: Sequence[WindowKind], orgs: Sequence[str]
) -> dict[str, bool]:
    """Return the orgs that may differ, each with whether Redis has less than the ledger.

    Counters that Redis has not are no difference where their window does not run any more.
    """
    seconds, _ = await clients.redis.time()
    now_ms = seconds * 1000
    kept = kept_windows(kinds, now_ms)
    booked = await _booked(clients, orgs, kept)
    running = await _running(clients.redis, kinds, orgs, now_ms)
    places = [
        (org, window)
        for org in orgs
        for window in dict.fromkeys((*running[org], *(window for window, _ in booked[org])))
    ]
    counted = await _counted(clients.redis, places)
    return {
        org: any(counted[org].get(place, 0) < amount for place, amount in booked[org].items())
        for org in orgs
        if _differs(counted[org], booked[org], running[org])
    }


def _differs(counted: Spent, booked: Spent, running: Sequence[str]) -> bool:
    found = {window for window, _ in counted}
    return any(
        counted.get(place, 0) != booked.get(place, 0)
        for place in counted.keys() | booked.keys()
        if place[0] in running or place[0] in found
    )


async def _booked(
    clients: Clients, orgs: Sequence[str], windows: Sequence[str]
) -> defaultdict[str, Spent]:
    parts = [window.partition(":") for window in windows]
    rows = await clients.ledger.fetch(
        _SPEND, orgs, [kind for kind, _, _ in parts], [id for _, _, id in parts]
    )
    booked = defaultdict[str, Spent](dict)
    for org, agent, kind, window_id, microcents in rows:
        window = f"{kind}:{window_id}" if window_id else kind
        booked[org][window, f"agent.{agent}" if agent else "org"] = microcents
    return booked


async def _running(
    redis: RedisClient, kinds: Sequence[WindowKind], orgs: Sequence[str], now_ms: int
) -> dict[str, list[str]]:
    names = ["schema", *(f"{kind}.{part}" for kind in kinds for part in ("id", "start", "end"))]
    async with redis.pipeline(transaction=False) as pipe:
        for org in orgs:
            pipe.hmget(org_key(org, "meta"), names)
        found = await pipe.execute(raise_on_error=False)
    running = dict[str, list[str]]()
    for org, values in zip(orgs, found, strict=True):
        running[org] = []
        if not isinstance(values, list):
            # Somebody has put something else there. Its calls are refused.
            continue
        meta = {name: text for name, text in zip(names, values, strict=True) if text}
        with suppress(StoreError):
            running[org] = [packed_window(w) for w in stored_windows(meta, kinds, now_ms)]
    return running


async def _counted(
    redis: RedisClient, places: Sequence[tuple[str, str]]
) -> defaultdict[str, Spent]:
    async with redis.pipeline(transaction=False) as pipe:
        for org, window in places:
            pipe.hgetall(*spend_keys(org, window))
        found = await pipe.execute(raise_on_error=False)
    counted = defaultdict[str, Spent](dict)
    for (org, window), fields in zip(places, found, strict=True):
        for name, text in (fields if isinstance(fields, dict) else {"org.spent": ""}).items():
            if name.endswith(_SPENT):
                # What is no number is no amount of the ledger either.
                amount = int(text) if text.isdecimal() else -1
                counted[org][window, name.removesuffix(_SPENT)] = amount
    return counted
