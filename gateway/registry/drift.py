"""Drift: which of many orgs may have counters that are not what is booked and held.

A look in bulk: counters, ledger and holds are read one after the other, so an org whose calls end
meanwhile may be named without reason. What is named is then compared at one cut (``differences``).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from gateway.budgets.keys import RATE, org_key, spend_keys
from gateway.budgets.proposals import packed_window
from gateway.domain.window import WindowKind
from gateway.errors import StoreError
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients, RedisClient
from gateway.registry.holds import counted_open, held_by, open_by
from gateway.registry.windows import kept_windows, stored_windows

_SPEND = statement("select_spend_of")
_SPENT, _HELD = ".spent", ".held"
# By packed window and payer.
Amounts = dict[tuple[str, str], int]


async def drifting(
    clients: Clients, kinds: Sequence[WindowKind], orgs: Sequence[str]
) -> dict[str, bool]:
    """Return the orgs that may differ, each with whether Redis has less than the ledger.

    Counters that Redis has not are no difference where their window does not run any more. An org
    that Redis does not know at all is behind.
    """
    seconds, _ = await clients.redis.time()
    now_ms = seconds * 1000
    kept = kept_windows(kinds, now_ms)
    booked = await _booked(clients, orgs, kept)
    running, unknown = await _running(clients.redis, kinds, orgs, now_ms)
    places = [
        (org, window)
        for org in orgs
        for window in dict.fromkeys((*running[org], *(window for window, _ in booked[org])))
    ]
    hashes = await _hashes(clients.redis, places)
    counted = _counted(hashes, _SPENT)
    misheld = await _misheld(clients.redis, _counted(hashes, _HELD), running)
    return {
        org: org in unknown
        or any(counted[org].get(place, 0) < amount for place, amount in booked[org].items())
        for org in orgs
        if org in unknown | misheld or _differs(counted[org], booked[org], running[org])
    }


def _differs(counted: Amounts, booked: Amounts, running: Sequence[str]) -> bool:
    found = {window for window, _ in counted}
    return any(
        counted.get(place, 0) != booked.get(place, 0)
        for place in counted.keys() | booked.keys()
        if place[0] in running or place[0] in found
    )


async def _booked(
    clients: Clients, orgs: Sequence[str], windows: Sequence[str]
) -> defaultdict[str, Amounts]:
    parts = [window.partition(":") for window in windows]
    rows = await clients.ledger.fetch(
        _SPEND, orgs, [kind for kind, _, _ in parts], [id for _, _, id in parts]
    )
    booked = defaultdict[str, Amounts](dict)
    for org, agent, kind, window_id, microcents in rows:
        window = f"{kind}:{window_id}" if window_id else kind
        booked[org][window, f"agent.{agent}" if agent else "org"] = microcents
    return booked


async def _running(
    redis: RedisClient, kinds: Sequence[WindowKind], orgs: Sequence[str], now_ms: int
) -> tuple[dict[str, list[str]], set[str]]:
    """Return the packed windows that run by org, and the orgs without their mark."""
    names = ["schema", *(f"{kind}.{part}" for kind in kinds for part in ("id", "start", "end"))]
    async with redis.pipeline(transaction=False) as pipe:
        for org in orgs:
            pipe.hmget(org_key(org, "meta"), names)
        found = await pipe.execute(raise_on_error=False)
    running, unknown = dict[str, list[str]](), set[str]()
    for org, values in zip(orgs, found, strict=True):
        running[org] = []
        if not isinstance(values, list):
            # Somebody has put something else there. Its calls are refused.
            continue
        if values[0] is None:
            unknown.add(org)
        meta = {name: text for name, text in zip(names, values, strict=True) if text}
        with suppress(StoreError):
            running[org] = [packed_window(w) for w in stored_windows(meta, kinds, now_ms)]
    return running, unknown


async def _hashes(
    redis: RedisClient, places: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Mapping[str, str]]:
    """Return the counters of each org and packed window."""
    async with redis.pipeline(transaction=False) as pipe:
        for org, window in places:
            pipe.hgetall(*spend_keys(org, window))
        found = await pipe.execute(raise_on_error=False)
    return {
        # Somebody has put something else there: that is no amount of the ledger either.
        place: fields if isinstance(fields, dict) else {"org.spent": ""}
        for place, fields in zip(places, found, strict=True)
    }


def _counted(
    hashes: Mapping[tuple[str, str], Mapping[str, str]], counter: str
) -> defaultdict[str, Amounts]:
    counted = defaultdict[str, Amounts](dict)
    for (org, window), fields in hashes.items():
        for name, text in fields.items():
            if name.endswith(counter):
                amount = int(text) if text.isdecimal() else -1
                counted[org][window, name.removesuffix(counter)] = amount
    return counted


async def _misheld(
    redis: RedisClient, held: Mapping[str, Amounts], running: Mapping[str, Sequence[str]]
) -> set[str]:
    """Return the orgs whose counters do not hold what their open reservations say."""
    async with redis.pipeline(transaction=False) as pipe:
        for org in running:
            pipe.hgetall(org_key(org, "holds"))
            pipe.hgetall(org_key(org, RATE))
        found = await pipe.execute(raise_on_error=False)
    return {
        org
        for org, holds, rate in zip(running, found[::2], found[1::2], strict=True)
        if isinstance(holds, dict) and isinstance(rate, dict)
        if not _is_held(holds, rate, held.get(org, {}), running[org])
    }


def _is_held(
    holds: Mapping[str, str], rate: Mapping[str, str], held: Amounts, running: Sequence[str]
) -> bool:
    try:
        expected, counted = held_by(holds), counted_open(rate)
    except StoreError:
        # Nobody can tell, and whoever compares it at one cut says why.
        return True
    windows = {*running, *(window for window, _ in held)}
    known = {place: amount for place, amount in expected.items() if place[0] in windows}
    return (_some(known), open_by(holds)) == (_some(held), _some(counted))


def _some(amounts: Mapping[Any, int]) -> dict[Any, int]:
    return {place: amount for place, amount in amounts.items() if amount}
