"""How a recovery ends: with a marker that says so, and with a file that is whole.

The server is the test's own, because its append-only file is looked at.

M1 a marker that is not ready any more is not called good, and nobody goes on as if it were
M2 whoever was stopped for so long that another one may compare does not call it good
A1 after a loss the append-only file is written anew; without one it is left alone
"""

import asyncio

import asyncpg
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.errors import StoreNotReady
from gateway.registry.clients import Clients
from gateway.registry.orgs import add_org
from gateway.registry.recovery import Recovered, recover
from tests.registry.rebuilding import AUTHOR
from tests.servers import Servers
from tests.until import until
from workers.journal_pump import JournalPump, PumpMetrics

RUN = "run-2"


@pytest.fixture
def server(servers: Servers) -> EmbeddedRedis:
    """Return a server whose files nobody else writes."""
    return servers.own_redis()


@pytest.fixture
async def redis_url(server: EmbeddedRedis) -> str:
    """Return its address; it was marked in a life before this one."""
    async with Redis.from_url(server.url) as redis:
        await write_marker(redis, Node(SCHEMA, "1", ("day", "month", "total")))
        await redis.hset(NODE, "life", "run-1")
    return server.url


@pytest.fixture(autouse=True)
async def group(clients: Clients) -> None:
    """Make the group of the ledger, so that an empty journal is a booked one."""
    await JournalPump(clients.redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry())).start()


def bases(server: EmbeddedRedis) -> set[str]:
    """Return the files that the append-only file of a server begins with."""
    return {path.name for path in (server.folder / "appendonlydir").glob("*.base.*")}


async def test_marker_that_went_is_not_called_good(clients: Clients, budgets: Bookkeeping) -> None:
    """M1: a rebuild may have begun meanwhile, and only that opens what it has made."""
    await clients.redis.hset(NODE, "ready", "0")

    with pytest.raises(StoreNotReady, match="changed meanwhile"):
        await recover(clients, budgets, RUN, 0.0, 0.0)

    assert await clients.redis.hmget(NODE, "ready", "life") == ["0", "run-1"]


async def test_lost_lease_calls_nothing_good(clients: Clients, budgets: Bookkeeping) -> None:
    """M2: Postgres has ended its session."""
    running = asyncio.create_task(recover(clients, budgets, RUN, 0.5, 0.0))
    ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE locktype = 'advisory'"
    own = "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    await until(lambda: clients.ledger.fetchval(f"{ended} {own}"), "its lock to be taken")

    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await running

    assert await clients.redis.hget(NODE, "life") == "run-1"


async def test_file_is_written_anew_after_a_loss(
    clients: Clients, budgets: Bookkeeping, server: EmbeddedRedis
) -> None:
    """A1: half a transaction at its end would be run with the next one, at the next start."""
    await add_org(clients, "acme", "UTC", {"org.total.limit_cents": "5"}, AUTHOR)
    await clients.redis.hset(NODE, "lost", RUN)
    before = bases(server)

    await recover(clients, budgets, RUN, 0.0, 0.0)

    await until(lambda: bases(server) and not bases(server) & before, "the file to be rewritten")


async def test_file_is_left_alone_where_nothing_is_lost(
    clients: Clients, budgets: Bookkeeping, server: EmbeddedRedis
) -> None:
    """A1: a large Redis takes a copy of its memory to write one."""
    await add_org(clients, "acme", "UTC", {"org.total.limit_cents": "5"}, AUTHOR)
    before = bases(server)

    assert await recover(clients, budgets, RUN, 0.0, 0.0) == Recovered(1, (), ())

    persistence = await clients.redis.info("persistence")
    assert persistence["aof_rewrite_in_progress"] == 0
    assert bases(server) == before
