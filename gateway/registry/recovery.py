"""Recovery: a Redis that was started again is made to agree with the ledger before it is used.

It may have forgotten its last second, or more. Gateways tell it again what they know; then what is
in its journal is booked, credits are told once more, keys and agents are written as Postgres has
them, and the counters of every org are compared. The ledger is the floor: what differs is repaired.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import structlog
from redis.exceptions import RedisError
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import JOURNAL, NODE
from gateway.budgets.node import amend_marker
from gateway.domain.window import WindowKind
from gateway.errors import GatewayError, StoreError, StoreNotReady, StoreUnavailable
from gateway.ledger.epochs import current_epoch
from gateway.ledger.lease import lease
from gateway.ledger.sql import statement
from gateway.registry.beat import FIELD as BEAT
from gateway.registry.beat import forgotten_beat
from gateway.registry.clients import Clients
from gateway.registry.copies import restore, write_registry
from gateway.registry.differences import is_posted
from gateway.registry.drift import drifting
from gateway.registry.mending import mend

# Any number will do that no other lock has, as long as every release uses the same one.
_LOCK = 7_265_845
_ASK_AGAIN = statement("ask_again")
_IS_DUE = statement("exists_due_outbox")
_ORGS = "SELECT org FROM org ORDER BY org"
_ORGS_PER_STEP = 500
_SIGN_INTERVAL_S = 0.5
_POLL_S = 0.05
_WAIT_S = 30.0
# Less than the seven days for which Redis knows a credit that it has applied.
_CREDITS_H = 144
# A settle that arrives meanwhile makes an org differ that does not.
_LOOKS = 5

_log = structlog.get_logger()


class Recovered(NamedTuple):
    """What came of it: how many orgs were compared, whose counters were repaired, and whose limits
    were made again what they had been.
    """

    orgs: int
    repaired: tuple[str, ...]
    restored: tuple[str, ...]


async def run_in_doubt(clients: Clients, run_id: str) -> str:
    """Return the start of Redis whose counters were not compared yet, or are wrong; or nothing.

    ``run_id`` is empty where the server does not tell it to us; a gateway may still know of a
    loss. A marker that is not ready is the business of a rebuild.
    """
    ready, life, lost = await clients.redis.hmget(NODE, "ready", "life", "lost")
    if ready != "1":
        return ""
    if not run_id:
        return str(lost or "")
    return run_id if life != run_id or lost == run_id else ""


async def recover(
    clients: Clients, budgets: Bookkeeping, run_id: str, learn_s: float, sign_s: float
) -> Recovered | None:
    """Compare and repair every org, then say in the marker that this start of Redis is good.

    ``learn_s`` is how long gateways have to tell what they know, ``sign_s`` how long they are kept
    waiting: a ledger that is slow or away must not close them while no loss is known. None where
    another worker does it.

    Raises:
        StoreNotReady: the ledger does not catch up, Redis was started again meanwhile, or it is
            from before the last rebuild.
    """
    async with lease(clients.ledger, _LOCK) as held:
        if held is None:
            return None
        await _require_epoch(clients, run_id)
        async with _signing(clients, run_id, sign_s):
            await asyncio.sleep(learn_s)
            recovered = await _recovered(clients, budgets, run_id, learn_s)
        # Where this process was stopped for a while another one compares, and is not done.
        await held.renew()
        kept = await forgotten_beat(clients)
        beats = {} if kept is None else {BEAT: str(kept)}
        # Of a start that came meanwhile a loss may be known already: that one stays.
        is_other = await clients.redis.hget(NODE, "lost") not in (None, run_id)
        gone = ("checking",) if is_other else ("lost", "checking")
        await _amend(clients, {"life": run_id, **beats}, gone)
        return recovered


async def _require_epoch(clients: Clients, run_id: str) -> None:
    epoch = await current_epoch(clients.ledger)
    found, lost = await clients.redis.hmget(NODE, "epoch", "lost")
    if epoch is None or found == epoch.epoch:
        return
    if lost != run_id:
        await _amend(clients, {"lost": run_id})
    raise StoreNotReady(
        f"Redis is of epoch {found} and the ledger of {epoch.epoch}: it was started from a file "
        "that is older than the last rebuild; run budget-gateway rebuild."
    )


async def _amend(clients: Clients, fields: Mapping[str, str], gone: Sequence[str] = ()) -> None:
    if not await amend_marker(clients.redis, fields, gone):
        # Also our own sign may have come in between.
        raise StoreNotReady("The marker was changed meanwhile; compare again.")


@asynccontextmanager
async def _signing(clients: Clients, run_id: str, sign_s: float) -> AsyncIterator[None]:
    """Show in the marker that somebody compares while this block runs, for a time."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + sign_s

    async def sign() -> None:
        while loop.time() < until_s:
            with suppress(StoreError):
                await amend_marker(clients.redis, {"checking": f"{run_id}/{ULID()}"})
            await asyncio.sleep(_SIGN_INTERVAL_S)

    task = asyncio.create_task(sign())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _recovered(
    clients: Clients, budgets: Bookkeeping, run_id: str, learn_s: float
) -> Recovered:
    orgs = [row["org"] for row in await clients.ledger.fetch(_ORGS)]
    await clients.ledger.execute(_ASK_AGAIN, ["credit", "correct"], 1)
    for some in _steps(orgs):
        await write_registry(clients, some)
    await _until_booked(clients)
    differing = await _differing(clients, budgets, orgs)
    lost, is_rebuilt = await _loss(clients, run_id, is_behind=any(differing.values()))
    restored: Sequence[str] = ()
    if lost and not is_rebuilt:
        restored, opened = await _restored(clients, budgets, orgs, learn_s)
        # Those that were restored as a whole agree now.
        differing = await _differing(clients, budgets, list(differing))
        differing |= dict.fromkeys(opened, True)
    repaired = await _repaired(clients, budgets, differing)
    if lost:
        await _rewrite(clients)
    return Recovered(len(orgs), tuple(sorted(repaired)), tuple(restored))


async def _loss(clients: Clients, run_id: str, *, is_behind: bool) -> tuple[bool, bool]:
    """Return whether Redis has lost something, and whether a rebuild has made all of it anew."""
    life, lost = await clients.redis.hmget(NODE, "life", "lost")
    if lost == run_id:
        # A rebuild leaves no life, and has just made limits, windows and credits what they were.
        return True, life == ""
    if not is_behind and await forgotten_beat(clients) is None:
        return False, False
    # Known now: nothing may be admitted until it is repaired, however long that takes.
    await _amend(clients, {"lost": run_id})
    return True, False


async def _restored(
    clients: Clients, budgets: Bookkeeping, orgs: Sequence[str], learn_s: float
) -> tuple[Sequence[str], Sequence[str]]:
    """Return the orgs whose limits were restored, and those of which windows were."""
    limits, opened = dict[str, bool](), list[str]()
    for some in _steps(orgs):
        restored = await restore(clients, _kinds(budgets), some)
        limits |= restored.limits
        opened += restored.windows
    if any(limits.values()):
        # Only now gateways can hold there again what they hold.
        await asyncio.sleep(learn_s)
    # How old the file is nobody knows, and no ledger compares what credits add.
    await clients.ledger.execute(_ASK_AGAIN, ["credit"], _CREDITS_H)
    await _until_told(clients)
    return tuple(limits), opened


async def _repaired(clients: Clients, budgets: Bookkeeping, differing: dict[str, bool]) -> set[str]:
    repaired = set[str]()
    for _ in range(_LOOKS):
        if not differing:
            break
        for org in differing:
            if await _is_repaired(clients, budgets, org):
                repaired.add(org)
        await _until_told(clients)
        differing = await _differing(clients, budgets, list(differing))
    return repaired


async def _rewrite(clients: Clients) -> None:
    """Have a file rewritten that broke off: Valkey 8.1 leaves half of its last transaction there.

    It would run that half at its next start, together with the next transaction.
    """
    with suppress(RedisError):
        persistence = await clients.redis.info("persistence")
        if persistence.get("aof_enabled"):
            await clients.redis.bgrewriteaof()


async def _differing(
    clients: Clients, budgets: Bookkeeping, orgs: Sequence[str]
) -> dict[str, bool]:
    found = [await drifting(clients, _kinds(budgets), some) for some in _steps(orgs)]
    return {org: is_behind for some in found for org, is_behind in some.items()}


def _kinds(budgets: Bookkeeping) -> Sequence[WindowKind]:
    if (node := budgets.wire.node) is None:
        raise StoreNotReady("The store has no node marker; run migrate or rebuild.")
    return node.windows


async def _is_repaired(clients: Clients, budgets: Bookkeeping, org: str) -> bool:
    try:
        return bool((await mend(clients, budgets, org, _WAIT_S)).differences)
    except StoreUnavailable:
        raise
    except GatewayError as error:
        # One org whose counters somebody has damaged must not keep the others closed.
        _log.error("recovery_failed", org=org, error=str(error))
        return False


async def _until_booked(clients: Clients) -> None:
    """Wait until the ledger has what is in the journal, and Redis what the ledger asks of it."""
    last = await clients.redis.xrevrange(JOURNAL, count=1)
    journal_id = last[0][0] if last else "0-0"

    async def is_booked() -> bool:
        return await is_posted(clients.redis, journal_id)

    await _until(is_booked, "The ledger has not booked the journal yet")
    await _until_told(clients)


async def _until_told(clients: Clients) -> None:
    async def is_told() -> bool:
        return not await clients.ledger.fetchval(_IS_DUE)

    await _until(is_told, "Redis was not told what the ledger asks of it yet")


async def _until(holds: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                if await holds():
                    return
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise StoreNotReady(f"{otherwise}, after {_WAIT_S:g} s.") from error


def _steps(orgs: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(orgs), _ORGS_PER_STEP):
        yield orgs[first : first + _ORGS_PER_STEP]
