"""The worker process: pump, sweeper, outbox and the arq timetable, supervised together."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from arq.connections import RedisSettings, create_pool
from arq.cron import CronJob, cron
from arq.worker import Worker
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.errors import GatewayError
from gateway.ledger.migrations import ensure_partitions
from gateway.ledger.pool import open_pool
from gateway.settings import Settings
from workers.journal_pump import JournalPump
from workers.outbox import deliver_forever
from workers.sweeper import sweep_forever

_log = structlog.get_logger()

# Nobody waits for a reply here, so a slow Redis is better than a call of unknown outcome.
_STORE_DEADLINE_MS = 5_000
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.2, 5.0
_FAULTS = (RedisError, asyncpg.PostgresError, asyncpg.InterfaceError, GatewayError, OSError)

Loop = Callable[[], Awaitable[None]]


async def keep_partitions(ctx: dict[str, Any]) -> None:
    """Make the ledger's partitions of this month and the next."""
    async with ctx["pool"].acquire() as connection:
        await ensure_partitions(connection, [datetime.now(UTC)])


def timetable() -> list[CronJob]:
    """Return the periodic jobs. A job that runs twice, or late, does no harm."""
    return [cron(keep_partitions, hour={0, 12}, minute=5, run_at_startup=True)]


async def work(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Servers that go away are waited for; the process stays.

    Raises:
        LedgerUnavailable: Postgres cannot be reached at the start.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        pool = await open_pool(settings.database_url)
        stack.push_async_callback(pool.close)
        scripts = load_scripts()
        connection = Connection(read_address(settings.redis_url), scripts, _STORE_DEADLINE_MS)
        await connection.start()
        stack.push_async_callback(connection.close)
        budgets = Bookkeeping(
            connection, scripts, settings.hold_ttl_ms, settings.journal_entries_max
        )
        loops = await _loops(stack, settings, pool, budgets)
        tasks = [asyncio.create_task(supervise(name, run)) for name, run in loops.items()]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _loops(
    stack: contextlib.AsyncExitStack, settings: Settings, pool: asyncpg.Pool, budgets: Bookkeeping
) -> dict[str, Loop]:
    # The pump waits in XREADGROUP, so its client is its own.
    clients = [Redis.from_url(settings.redis_url, decode_responses=True) for _ in range(2)]
    for client in clients:
        stack.push_async_callback(client.aclose)
    consumer = f"{socket.gethostname()}-{os.getpid()}"
    pump_client, sweep_client = clients

    async def timetable_loop() -> None:
        # arq ends for good when Redis blinks, so every life gets a worker of its own.
        queue = await create_pool(RedisSettings.from_dsn(settings.redis_url))
        worker = Worker(
            functions=[keep_partitions],
            cron_jobs=timetable(),
            redis_pool=queue,
            handle_signals=False,
            queue_name="bg:arq",
            health_check_key="bg:arq:health",
            ctx={"pool": pool},
        )
        # Not awaited directly: arq takes a cancellation for its own end and swallows it.
        run = asyncio.create_task(worker.async_run())
        try:
            await asyncio.wait([run])
            run.result()
        finally:
            run.cancel()
            await asyncio.wait([run])
            # Not worker.close(): it closes in a way that redis-py 5 warns of.
            await queue.aclose()

    return {
        "journal_pump": lambda: JournalPump(pump_client, pool, consumer).run(),
        "sweeper": lambda: sweep_forever(sweep_client, budgets),
        "outbox": lambda: deliver_forever(pool, budgets),
        "timetable": timetable_loop,
    }


async def supervise(name: str, run: Loop) -> None:
    """Run a loop again whenever it fails; a bug is logged with its trace."""
    pause_s = _PAUSE_FIRST_S
    loop = asyncio.get_running_loop()
    while True:
        began_s = loop.time()
        try:
            await run()
        except _FAULTS as error:
            _log.warning("loop_failed", loop=name, error=str(error))
        # The top of a job: a bug in one loop must not end the others.
        except Exception:
            _log.exception("loop_broken", loop=name)
        if loop.time() - began_s > 2 * _PAUSE_MAX_S:
            pause_s = _PAUSE_FIRST_S
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = min(2 * pause_s, _PAUSE_MAX_S)
