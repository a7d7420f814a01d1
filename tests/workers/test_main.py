"""The worker process books what is spent, outlives its servers, and stops when it is told to."""

import asyncio
import os
import pickle
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from redis.asyncio import Redis
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.node import SCHEMA, Node, write_marker
from gateway.errors import ConfigError, LedgerUnavailable, StoreUnavailable
from gateway.settings import Settings, read_settings
from gateway.telemetry import new_registry
from tests.ledger.test_posting import entry
from tests.servers import Servers
from tests.until import until
from tests.workers.calls import held, ledger_total
from workers import main
from workers.main import Supervisor, work


def environment(redis_url: str, database_url: str, ops_port: int = 0) -> Settings:
    """Return what the environment says; no ops port where none is asked for."""
    settings, _ = read_settings(
        {
            "GATEWAY_REDIS_URL": redis_url,
            "GATEWAY_DATABASE_URL": database_url,
            "GATEWAY_OPS_PORT": str(ops_port),
        }
    )
    return settings


@asynccontextmanager
async def worker(redis_url: str, database_url: str, ops_port: int = 0) -> AsyncIterator[None]:
    """Run a worker, and stop it as an operator would."""
    task = asyncio.create_task(work(environment(redis_url, database_url, ops_port)))
    try:
        yield
        assert not task.done(), task
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    finally:
        task.cancel()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def test_worker_books_and_stops(
    redis_url: str, database_url: str, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """A settled call is in the ledger shortly after, and SIGTERM ends the process cleanly."""
    async with worker(redis_url, database_url):
        await budgets.settle(await held(budgets, 100))

        await until(lambda: _is_booked(pool, 100), "the settle to be booked")


async def _is_booked(pool: asyncpg.Pool, amount_microcents: int) -> bool:
    return await ledger_total(pool) == amount_microcents


async def test_worker_outlives_its_ledger_connections(
    redis_url: str, database_url: str, pool: asyncpg.Pool, budgets: Bookkeeping
) -> None:
    """After Postgres has cut every connection the next call is booked, without a restart."""
    async with worker(redis_url, database_url):
        await budgets.settle(await held(budgets, 100))
        await until(lambda: _is_booked(pool, 100), "the settle to be booked")
        admin = await asyncpg.connect(database_url)
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await admin.close()
        await budgets.settle(await held(budgets, 50))

        await until(lambda: _is_booked_anew(database_url, 150), "the next settle to be booked")


async def _is_booked_anew(database_url: str, amount_microcents: int) -> bool:
    connection = await asyncpg.connect(database_url)
    try:
        spent = await connection.fetchval(
            "SELECT spent_microcents FROM spend_window WHERE agent = '' AND \"window\" = 'total'"
        )
        return bool(spent == amount_microcents)
    finally:
        await connection.close()


async def test_worker_outlives_a_restart_of_redis(
    servers: Servers, database_url: str, pool: asyncpg.Pool
) -> None:
    """Redis is killed and comes back: what is journaled then is booked, without a restart."""
    server = servers.own_redis()
    async with worker(server.url, database_url):
        await journal(server.url)
        await until(lambda: _is_booked(pool, 100), "the first entry to be booked")
        server.kill()
        server.start()
        await journal(server.url)

        await until(lambda: _is_booked(pool, 200), "the second entry to be booked", 30)


async def journal(url: str) -> None:
    """Append one settle of 100 microcents to the journal."""
    _, fields = entry("settle", str(ULID()), 100)
    async with Redis.from_url(url) as redis:
        await redis.xadd("bg:journal", {**fields})


async def test_worker_outlives_a_redis_that_stands_still(
    servers: Servers, database_url: str, pool: asyncpg.Pool
) -> None:
    """Redis is stopped for longer than any answer is waited for, and what follows is booked."""
    server = servers.own_redis()
    port = free_port()
    async with worker(server.url, database_url, port), httpx.AsyncClient() as client:
        await journal(server.url)
        await until(lambda: _is_booked(pool, 100), "the first entry to be booked")
        os.kill(server.pid, signal.SIGSTOP)

        async def pump_has_given_up() -> bool:
            metrics = await client.get(f"http://127.0.0.1:{port}/metrics")
            return 'loop_failures_total{loop="journal_pump"}' in metrics.text

        await until(pump_has_given_up, "the pump to stop waiting", 20)
        os.kill(server.pid, signal.SIGCONT)
        await journal(server.url)

        await until(lambda: _is_booked(pool, 200), "the second entry to be booked", 30)


async def test_worker_stops_while_redis_is_away(servers: Servers, database_url: str) -> None:
    """SIGTERM ends the process also where nothing can be told to Redis any more."""
    server = servers.own_redis()
    async with worker(server.url, database_url):
        async with Redis.from_url(server.url, decode_responses=True) as redis:
            await until(lambda: redis.exists("bg:arq:health"), "the timetable to run")
        server.kill()


async def test_worker_that_stops_posts_what_it_has_read(
    redis_url: str, redis: Any, database_url: str, pool: asyncpg.Pool
) -> None:
    """Others would take it over only after half a minute; and its name leaves the group."""
    async with worker(redis_url, database_url):
        await journal(redis_url)
        await until(lambda: _is_booked(pool, 100), "the first entry to be booked")
        await until(lambda: redis.exists("bg:arq:health"), "the timetable to run")
        _, fields = entry("settle", str(ULID()), 100)
        # Read in its name, as if it were stopped between its reading and its booking.
        async with redis.pipeline(transaction=True) as pipe:
            pipe.xadd("bg:journal", {**fields})
            consumer = f"{socket.gethostname()}-{os.getpid()}"
            pipe.xreadgroup("ledger", consumer, {"bg:journal": ">"})
            await pipe.execute()

    assert await _is_booked(pool, 200)
    assert await redis.xinfo_consumers("bg:journal", "ledger") == []


async def test_worker_that_stops_does_not_wait_for_its_ledger(
    redis_url: str,
    redis: Any,
    database_url: str,
    pool: asyncpg.Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where Postgres does not answer the process ends all the same; what it has read stays read."""
    monkeypatch.setattr(main, "_FINISH_S", 0.2)
    async with pool.acquire() as other, other.transaction(), worker(redis_url, database_url):
        await until(lambda: redis.exists("bg:arq:health"), "the timetable to run")
        await other.execute("LOCK TABLE usage_entry")
        await journal(redis_url)
        await until(lambda: _is_read(redis), "the entry to be read")

    assert await _is_read(redis)
    assert not await _is_booked(pool, 100)


async def _is_read(redis: Any) -> bool:
    return bool((await redis.xpending("bg:journal", "ledger"))["pending"])


async def test_ops_port_tells_how_the_worker_is(servers: Servers, database_url: str) -> None:
    """Ready while everything runs, alive but not ready without Redis, and ready again after it."""
    server = servers.own_redis()
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    async with Redis.from_url(server.url) as redis:
        await write_marker(redis, Node(SCHEMA, "1", ("day", "month", "total")))
    async with worker(server.url, database_url, port), httpx.AsyncClient() as client:

        async def answers(path: str, status: int) -> bool:
            try:
                return (await client.get(base + path)).status_code == status
            except httpx.ConnectError:
                return False

        await until(lambda: answers("/readyz", 200), "the worker to be ready")
        server.kill()
        await until(lambda: answers("/readyz", 503), "the worker to notice")
        assert await answers("/livez", 200)
        why = (await client.get(base + "/readyz")).text
        server.start()
        await until(lambda: answers("/readyz", 200), "the worker to be ready again", 30)
        metrics = (await client.get(base + "/metrics")).text

    assert "Redis" in why
    for name in ("journal_lag_seconds", "overdue_seconds", "outbox_rows", "journal_entries"):
        assert f"budget_gateway_{name}" in metrics


async def test_timetable_makes_the_partitions_of_today(
    redis_url: str, database_url: str, pool: asyncpg.Pool
) -> None:
    """The job runs at the start, so that a worker of any age has this month and the next."""
    name = f"usage_entry_{datetime.now(UTC):%Y_%m}"
    await pool.execute(f"DROP TABLE {name}")

    async def is_made() -> bool:
        return bool(await pool.fetchval("SELECT to_regclass($1) IS NOT NULL", name))

    async with worker(redis_url, database_url):
        await until(is_made, "the partition to be made")


async def test_job_that_is_a_pickle_is_refused(
    redis: Any, redis_url: str, database_url: str, tmp_path: Path
) -> None:
    """Who can write to Redis cannot run code in the worker."""
    touched = tmp_path / "touched"
    await redis.set("arq:job:evil", pickle.dumps(Evil(str(touched))))
    await redis.zadd("bg:arq", {"evil": 1})

    async with worker(redis_url, database_url):
        await until(lambda: _is_gone(redis), "the job to be refused")

    assert not touched.exists()


async def _is_gone(redis: Any) -> bool:
    return await redis.zscore("bg:arq", "evil") is None


class Evil:
    """An object whose pickle makes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        """Say how it is made again."""
        return os.mkdir, (self.path,)


async def test_taken_ops_port_is_one_sentence(redis_url: str, database_url: str) -> None:
    """The process does not start half: the sentence names the address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} is not free"):
            await work(environment(redis_url, database_url, port))


async def test_worker_without_a_ledger_says_so() -> None:
    """At the start an unreachable Postgres is one sentence."""
    with pytest.raises(LedgerUnavailable, match="Postgres cannot be reached"):
        await work(environment("redis://127.0.0.1:1", "postgresql://127.0.0.1:1/none"))


async def test_worker_without_redis_says_so(database_url: str) -> None:
    """At the start an unreachable Redis is one sentence, and nothing stays open."""
    with pytest.raises(StoreUnavailable, match=r"Redis at redis://127\.0\.0\.1:1/0 cannot"):
        await work(environment("redis://127.0.0.1:1", database_url))


async def test_fault_without_words_is_told_by_its_name() -> None:
    """A timeout says nothing of itself; whoever asks is still told what it was."""
    supervisor = Supervisor(new_registry())

    async def times_out() -> None:
        raise TimeoutError

    loop = asyncio.get_running_loop()
    task = asyncio.create_task(supervisor.keep("outbox", times_out))
    await until(lambda: bool(supervisor.trouble(loop.time())), "the loop to fail")
    task.cancel()

    told = supervisor.trouble(loop.time())
    assert told == "outbox failed: Postgres cannot be reached: TimeoutError."
