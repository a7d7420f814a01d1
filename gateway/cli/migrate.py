"""The command ``migrate``: the tables of the ledger, and the mark that Redis may be used."""

import asyncio
from contextlib import suppress
from typing import Annotated, NamedTuple

import asyncpg
import typer
from redis.exceptions import NoPermissionError
from ulid import ULID

from gateway.budgets.keys import NODE
from gateway.budgets.node import (
    SCHEMA,
    Node,
    amend_marker,
    read_node,
    read_windows,
    write_marker,
)
from gateway.cli import environment, output
from gateway.cli.clients import open_clients
from gateway.domain.window import WindowKind
from gateway.errors import ConfigError
from gateway.ledger.epochs import Epoch, begin_epoch, current_epoch, set_windows
from gateway.ledger.migrations import migrate
from gateway.registry.clients import RedisClient

_KNOWS = "SELECT EXISTS (SELECT FROM usage_entry) OR EXISTS (SELECT FROM org)"
WINDOWS: tuple[WindowKind, ...] = ("day", "month", "total")


class Prepared(NamedTuple):
    """What the stores are after it: migrations applied now, and the node marker."""

    migrations: list[str]
    node: Node


def run(
    windows: Annotated[
        str, typer.Option(help="All windows to count from now on, such as day,month,total,week.")
    ] = "",
    from_zero: Annotated[
        bool, typer.Option("--from-zero", help="Count from zero although the ledger has spend.")
    ] = False,
    as_json: output.AsJson = False,
) -> None:
    """Apply what is missing in Postgres and mark Redis as ours; repeat it at will."""
    prepared = asyncio.run(_run(windows, from_zero))
    applied = ", ".join(prepared.migrations) or "nothing to apply"
    counted = ", ".join(prepared.node.windows)
    output.show(
        prepared,
        f"Postgres: {applied}.\nRedis: marked, epoch {prepared.node.epoch}, windows {counted}.",
        as_json=as_json,
    )


async def _run(windows: str, from_zero: bool) -> Prepared:
    settings = environment.load()
    async with open_clients(settings) as clients:
        # A connection of its own: a migration may wait for others longer than a pool allows.
        connection = await asyncpg.connect(settings.database_url)
        try:
            return await prepare(connection, clients.redis, _windows(windows), from_zero=from_zero)
        finally:
            await connection.close()


async def prepare(
    connection: asyncpg.Connection,
    redis: RedisClient,
    windows: tuple[WindowKind, ...] = (),
    *,
    from_zero: bool = False,
) -> Prepared:
    """Bring both stores to this release. No ``windows`` keeps what is counted.

    Raises:
        ConfigError: the marker is of another release, ``windows`` leaves out one that is counted,
            Redis has lost what the ledger remembers, or it is not the one that was rebuilt last.
    """
    applied = await migrate(connection)
    known, epoch = await node_of(redis), await current_epoch(connection)
    if known is None and not from_zero and await connection.fetchval(_KNOWS):
        raise ConfigError(
            "The ledger has orgs or spend and Redis has no marker, so Redis has lost its data or "
            "is another one: check GATEWAY_REDIS_URL, restore it with rebuild, or use --from-zero "
            "to forget what was spent."
        )
    if known and epoch and known.epoch != epoch.epoch and not from_zero:
        raise ConfigError(
            f"Redis is of epoch {known.epoch} and the ledger of {epoch.epoch}, so this is not the "
            "Redis that was rebuilt last: check GATEWAY_REDIS_URL."
        )
    if known and windows and not set(known.windows) <= set(windows):
        counted = ",".join(known.windows)
        raise ConfigError(
            f"--windows leaves out what is counted now; expected {counted} and what is to be added."
        )
    node = Node(SCHEMA, known.epoch if known else str(ULID()), windows or WINDOWS)
    if known and not windows:
        node = known
    # Postgres first: what a rebuild does not know of it cannot restore.
    counted = ",".join(node.windows)
    if epoch is None or epoch.epoch != node.epoch:
        await begin_epoch(connection, Epoch(node.epoch, counted, 0), "migrate")
    elif epoch.windows != counted:
        await set_windows(connection, node.epoch, counted)
    if node != known:
        await write_marker(redis, node)
    if known is None:
        # Nothing was ever confirmed here that this start of it may have forgotten.
        with suppress(NoPermissionError):
            await amend_marker(redis, {"life": (await redis.info("server"))["run_id"]})
    return Prepared(applied, node)


async def node_of(redis: RedisClient) -> Node | None:
    """Return the node marker, or None where there is none.

    Raises:
        ConfigError: it is of another release, or somebody holds it back.
    """
    fields: dict[str, str] = await redis.hgetall(NODE)
    try:
        node = read_node({name.encode(): value.encode() for name, value in fields.items()})
    except ValueError as error:
        raise ConfigError(f"The marker {NODE} cannot be used: {error}") from error
    if fields and node is None:
        raise ConfigError(
            f"The marker {NODE} is not ready: a rebuild has begun; repeat rebuild to end it."
        )
    return node


def _windows(text: str) -> tuple[WindowKind, ...]:
    try:
        return read_windows(text) if text else ()
    except ValueError as error:
        raise ConfigError(str(error)) from error
