"""Rebuild: an empty Redis made again from Postgres, by one rebuilder, under a new epoch.

The marker is not ready until everything is there, so gateways answer 503. The mark of each org
comes at the end too, with the epoch: a gateway that has not seen the new marker yet is refused by
the scripts, before and after, for it has not told yet what it holds.
Every write is fenced: it is made only while the marker and Postgres have the epoch of this rebuild.
Whatever ends it half-way leaves a marker that is not ready, and a repeat finishes the work.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
from redis.exceptions import WatchError
from ulid import ULID

from gateway.budgets.keys import NODE, org_key
from gateway.budgets.node import SCHEMA, Node, marker_fields, read_node, read_windows
from gateway.domain.window import WindowKind
from gateway.errors import ConfigError, StoreError
from gateway.ledger.epochs import (
    Epoch,
    begin_epoch,
    current_epoch,
    is_known_epoch,
    try_lock_rebuild,
)
from gateway.ledger.sql import statement
from gateway.registry.clients import Clients, RedisClient, run_id_of
from gateway.registry.limits import DEFAULT_WINDOWS
from gateway.registry.orgs import SCHEMA as ORG_SCHEMA
from gateway.registry.restoring import OrgContent, queue_content, queue_removal, read_content
from gateway.registry.windows import kept_windows

_CONFIRM = statement("confirm_credit")
_LOCK_ORGS = "SELECT FROM org WHERE org = ANY($1) ORDER BY org FOR NO KEY UPDATE"
# So much is written in one step of Redis, which stops for some milliseconds.
_ORGS_PER_STEP = 200
# What gateways, workers and registry leave in a Redis that is empty: settles of calls from before
# the loss, the journal of them, jobs, and copies of what Postgres has.
_LEFT_BEHIND = re.compile(
    r"bg:node|bg:journal|bg:arq.*|bg:\{[^}]*\}:(?:meta|agents|keys|(?:done|applied|idem):.*)"
)
_META = re.compile(r"bg:\{[^}]*\}:meta")


class Rebuilt(NamedTuple):
    """What was restored. ``closed`` orgs refuse every call, because nobody knows their limits."""

    epoch: str
    windows: tuple[WindowKind, ...]
    orgs: int
    counters: int
    credits: int
    closed: tuple[str, ...]


async def rebuild(clients: Clients) -> Rebuilt:
    """Restore keys, agents, limits, counters and credits of every org, and open the gate.

    Open holds are not restored; what they cost is booked when they are settled.

    Raises:
        ConfigError: there is nothing to rebuild or nothing to rebuild from, Redis has what an empty
            one has not, or another rebuild is running.
        StoreError: another rebuild took over, or Redis was emptied again: repeat it.
    """
    try:
        async with clients.ledger.acquire() as connection:
            # The lock is this connection's: where that is lost, so is the lock, and fences fail.
            if not await try_lock_rebuild(connection):
                raise ConfigError("Another rebuild is running; wait for it.")
            return await _rebuild(connection, clients.redis)
    except WatchError as error:
        raise _fenced() from error


async def _rebuild(connection: asyncpg.pool.PoolConnectionProxy, redis: RedisClient) -> Rebuilt:
    rebuilder = await _begin(connection, redis)
    orgs = [row["org"] for row in await connection.fetch("SELECT org FROM org ORDER BY org")]
    steps = [orgs[first : first + _ORGS_PER_STEP] for first in range(0, len(orgs), _ORGS_PER_STEP)]
    counted, closed = Counter[str](), list[str]()
    for some in steps:
        content = await rebuilder.restore(some)
        counted.update(
            name.rpartition(".")[2]
            for found in content.values()
            for fields in found.spend.values()
            for name in fields
        )
        closed += [org for org, found in content.items() if not found.limits]
    for some in steps:
        await rebuilder.mark(some)
    await rebuilder.open()
    node = rebuilder.node
    amounts = counted["spent"], counted["credit"]
    return Rebuilt(node.epoch, node.windows, len(orgs), *amounts, tuple(closed))


class _Rebuilder:
    """The one who may write: each step checks that it still is."""

    def __init__(
        self,
        connection: asyncpg.pool.PoolConnectionProxy,
        redis: RedisClient,
        node: Node,
        now_ms: int,
        stale: Sequence[str],
    ) -> None:
        self.node = node
        self._connection = connection
        self._redis = redis
        self._now_ms = now_ms
        self._stale = stale

    async def restore(self, orgs: Sequence[str]) -> dict[str, OrgContent]:
        """Write everything of some orgs but the mark that they exist."""
        async with self._connection.transaction():
            # Who changes a key, an agent or a limit meanwhile writes after this, or was read.
            await self._connection.execute(_LOCK_ORGS, orgs)
            content = await read_content(self._connection, orgs, self.node.windows, self._now_ms)
            async with self._redis.pipeline() as pipe:
                await self._fence(pipe)
                for org, found in content.items():
                    if self._stale:
                        queue_removal(pipe, org, self._stale)
                    queue_content(pipe, org, found)
                await pipe.execute()
        return content

    async def mark(self, orgs: Sequence[str]) -> None:
        """Write the mark of some orgs."""
        async with self._redis.pipeline() as pipe:
            await self._fence(pipe)
            for org in orgs:
                mark = {"schema": ORG_SCHEMA, "epoch": self.node.epoch}
                pipe.hset(org_key(org, "meta"), mapping=mark)
            await pipe.execute()

    async def open(self) -> None:
        """Say in the marker that everything is there."""
        run_id = await run_id_of(self._redis)
        async with self._redis.pipeline() as pipe:
            await self._fence(pipe)
            # No life yet: gateways first hold again what is open and tell again what has ended,
            # which the ledger does not know. Until a worker has booked that nobody may open.
            lost = {"lost": run_id} if run_id else {}
            pipe.hset(NODE, mapping={"ready": "1", "life": "", **lost})
            await pipe.execute()

    async def _fence(self, pipe: RedisClient) -> None:
        """Begin a transaction that Redis refuses where the marker changes from now on."""
        await pipe.watch(NODE)
        found = await pipe.hgetall(NODE)
        epoch = await current_epoch(self._connection)
        is_own = found == marker_fields(self.node, ready=False)
        if not is_own or epoch is None or epoch.epoch != self.node.epoch:
            raise _fenced()
        pipe.multi()


async def _begin(connection: asyncpg.pool.PoolConnectionProxy, redis: RedisClient) -> _Rebuilder:
    async with redis.pipeline() as pipe:
        await pipe.watch(NODE)
        is_repeat = await _check_marker(connection, await pipe.hgetall(NODE))
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM org)"):
            raise ConfigError("The ledger knows no org, so there is nothing to rebuild from.")
        if not is_repeat and (foreign := await _foreign(redis)):
            raise ConfigError(
                f"Redis has {foreign} and no marker, so it is not one that lost its data: check "
                "GATEWAY_REDIS_URL, or empty it and repeat."
            )
        windows = await _windows(connection)
        seconds, microseconds = await redis.time()
        now_ms = seconds * 1000 + microseconds // 1000
        node = Node(SCHEMA, str(ULID()), windows)
        # Postgres first: from here on whatever asks for a repair of the old counters is refused,
        # and what is booked late is repaired.
        await begin_epoch(connection, Epoch(node.epoch, ",".join(windows), now_ms), "rebuild")
        await connection.execute(_CONFIRM)
        pipe.multi()
        pipe.delete(NODE)
        pipe.hset(NODE, mapping=marker_fields(node, ready=False))
        await pipe.execute()
    stale = kept_windows(windows, now_ms) if is_repeat else []
    return _Rebuilder(connection, redis, node, now_ms, stale)


async def _check_marker(
    connection: asyncpg.pool.PoolConnectionProxy, fields: dict[str, str]
) -> bool:
    """Return whether a rebuild was begun here before, also one that an older file has undone."""
    if not fields:
        return False
    try:
        node = read_node({name.encode(): value.encode() for name, value in fields.items()})
    except ValueError as error:
        raise ConfigError(f"The marker {NODE} cannot be used: {error}") from error
    epoch = await current_epoch(connection)
    is_current = epoch is None or node is None or node.epoch == epoch.epoch
    if node is not None and (is_current or not await is_known_epoch(connection, node.epoch)):
        raise ConfigError(
            f"Redis is ready, epoch {node.epoch}: there is nothing to rebuild. What differs from "
            "the ledger is repaired by reconcile --repair."
        )
    if not await is_known_epoch(connection, fields.get("epoch", "")):
        raise ConfigError(
            f"The marker {NODE} is of an epoch that this ledger does not know: check "
            "GATEWAY_REDIS_URL and GATEWAY_DATABASE_URL."
        )
    return True


async def _foreign(redis: RedisClient) -> str:
    """Return a key that no empty Redis has, or nothing."""
    async for key in redis.scan_iter(match="bg:*", count=1000):
        if not _LEFT_BEHIND.fullmatch(key):
            return str(key)
        if _META.fullmatch(key) and await redis.hexists(key, "schema"):
            return str(key)
    return ""


async def _windows(connection: asyncpg.pool.PoolConnectionProxy) -> tuple[WindowKind, ...]:
    epoch = await current_epoch(connection)
    if epoch is not None:
        return read_windows(epoch.windows)
    # Lost before any `migrate` of this release: what was counted is what the ledger has.
    rows = await connection.fetch('SELECT DISTINCT "window" FROM spend_window ORDER BY "window"')
    counted = [*DEFAULT_WINDOWS.split(","), *(row["window"] for row in rows)]
    return read_windows(",".join(dict.fromkeys(counted)))


def _fenced() -> StoreError:
    return StoreError(
        f"The marker {NODE} was changed while Redis was rebuilt, by another rebuild or because it "
        "was emptied again, or the connection was lost. Nothing is admitted; repeat it."
    )
