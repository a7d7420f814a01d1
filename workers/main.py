"""The worker process: pump, sweeper, outbox and the arq timetable, supervised together."""

import asyncio
import contextlib
import os
import random
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import structlog
import uvicorn
from arq.connections import ArqRedis
from arq.cron import CronJob, cron
from arq.worker import Worker
from prometheus_client import CollectorRegistry, Counter
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.errors import ConfigError, GatewayError, StoreUnavailable
from gateway.ledger.durability import check_durability
from gateway.ledger.migrations import ensure_partitions
from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients
from gateway.settings import Settings
from gateway.telemetry import new_registry, ops_app
from workers.journal_pump import BLOCK_MS, JournalPump, PumpMetrics
from workers.limits_watch import LimitsMetrics, watch_forever
from workers.outbox import OutboxMetrics, deliver_forever
from workers.reconcile import ReconcileMetrics, reconcile_forever
from workers.recovery import Recovery, RecoveryMetrics
from workers.sweeper import SweeperMetrics, sweep_forever

_log = structlog.get_logger()

_OPS_PORT = 9466
# Nobody waits for a reply here, so a slow Redis is better than a call of unknown outcome.
_STORE_DEADLINE_MS = 5_000
# A Redis that was stopped or cut off sends no error; the pump's own wait must fit in.
_SOCKET_TIMEOUT_S = 4 + BLOCK_MS / 1000
_CANCEL_AGAIN_S = 1.0
_FINISH_S = 5.0
# Gateways wait for these loops after each start of Redis.
_PAUSE_FIRST_S, _PAUSE_MAX_S = 0.2, 1.0
# A loop that has run for this long since it failed has been around at least once.
_STEADY_S = 3.0
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
        LedgerUnavailable, StoreUnavailable: Postgres or Redis cannot be reached at the start.
        ConfigError: an address or the ops port cannot be used.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
            stack.callback(loop.remove_signal_handler, number)
        pool = await open_pool(settings.database_url)
        stack.push_async_callback(pool.close)
        for finding in await check_durability(pool):
            _log.warning("postgres_setting", finding=finding)
        scripts = load_scripts()
        connection = Connection(read_address(settings.redis_url), scripts, _STORE_DEADLINE_MS)
        await connection.start()
        stack.push_async_callback(connection.close)
        if not await connection.tried():
            raise StoreUnavailable(connection.problem)
        budgets = Bookkeeping(
            connection, scripts, settings.hold_ttl_ms, settings.journal_entries_max
        )
        registry = new_registry()
        supervised = Supervisor(registry)

        def trouble() -> str:
            return connection.problem or supervised.trouble(loop.time())

        await _serve_ops(stack, settings, ops_app(registry, trouble))
        # The pump waits in XREADGROUP, so its client is its own.
        client, looks = (text_client(stack, settings.redis_url) for _ in range(2))
        consumer = f"{socket.gethostname()}-{os.getpid()}"
        pump = JournalPump(client, pool, consumer, PumpMetrics(registry))
        loops = {
            "journal_pump": pump.run,
            "timetable": lambda: run_timetable(settings.redis_url, pool),
            **_loops(Clients(pool, looks), budgets, connection, registry),
        }
        tasks = [asyncio.create_task(supervised.keep(name, run)) for name, run in loops.items()]
        await stop.wait()
        await _end(tasks)
        await _finish(pump)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    # More than once: a client library that is just running into its timeout can take the
    # cancellation for that, and the loop would be begun again.
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN_S)


async def _finish(pump: JournalPump) -> None:
    # Where a server is away, another worker takes what was left, or this one at its next start.
    with contextlib.suppress(TimeoutError, *_FAULTS):
        async with asyncio.timeout(_FINISH_S):
            await pump.finish()


class Supervisor:
    """Runs loops again whenever they fail, so that no fault of a server ends the process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Name to the reason of its last failure and the instant it was begun again.
        self._failures: dict[str, tuple[str, float]] = {}
        self._failed = Counter(
            "budget_gateway_loop_failures",
            "Failures of a loop of the worker; it is begun again each time.",
            ["loop"],
            registry=registry,
        )

    def trouble(self, now_s: float) -> str:
        """Return why a loop is not running steadily, or nothing."""
        troubles = (why for why, begun_s in self._failures.values() if now_s - begun_s < _STEADY_S)
        return next(troubles, "")

    async def keep(self, name: str, run: Loop) -> None:
        """Run a loop until cancelled; a bug is logged with its trace, a server's fault without."""
        pause_s, loop, logged = _PAUSE_FIRST_S, asyncio.get_running_loop(), ""
        while True:
            begun_s = loop.time()
            try:
                await run()
            except _FAULTS as error:
                said = (str(error) or type(error).__name__).rstrip(".")
                # Faults of Redis and our own say whose they are; asyncpg lets the system's pass.
                away = "Postgres cannot be reached: " if isinstance(error, OSError) else ""
                why = f"{name} failed: {away}{said}."
                if why != logged:
                    # Once, not every second for as long as a server is away.
                    _log.warning("loop_failed", loop=name, error=why)
            # The top of a job: a bug in one loop must not end the others.
            except Exception as error:
                why = f"{name} failed: {error!r}."
                _log.exception("loop_broken", loop=name)
            else:
                why = f"{name} ended."
            self._failed.labels(name).inc()
            logged = why
            if loop.time() - begun_s > _STEADY_S:
                pause_s, logged = _PAUSE_FIRST_S, ""
            self._failures[name] = (why, float("inf"))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))
            self._failures[name] = (why, loop.time())
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)


def _loops(
    clients: Clients, budgets: Bookkeeping, connection: Connection, registry: CollectorRegistry
) -> dict[str, Loop]:
    sweeper, outbox = SweeperMetrics(registry), OutboxMetrics(registry)
    limits, differences = LimitsMetrics(registry), ReconcileMetrics(registry)
    recovery = Recovery(clients, budgets, lambda: connection.run_id, RecoveryMetrics(registry))
    return {
        "sweeper": lambda: sweep_forever(budgets, sweeper),
        "outbox": lambda: deliver_forever(clients.ledger, budgets, outbox),
        "limits_watch": lambda: watch_forever(clients, limits),
        "reconcile": lambda: reconcile_forever(
            clients, budgets, differences, lambda: connection.run_id
        ),
        "recovery": recovery.run,
    }


def text_client(stack: contextlib.AsyncExitStack, redis_url: str) -> Redis:
    """Return a client whose replies are text, whatever bytes are in Redis."""
    client: Redis = Redis.from_url(
        redis_url,
        decode_responses=True,
        encoding_errors="replace",
        socket_timeout=_SOCKET_TIMEOUT_S,
    )
    stack.push_async_callback(client.aclose)
    return client


async def run_timetable(redis_url: str, pool: asyncpg.Pool) -> None:
    """Run the periodic jobs until cancelled.

    arq ends for good when Redis blinks, so every life gets a worker of its own.
    """
    queue = job_queue(redis_url)
    worker = Worker(
        functions=[keep_partitions],
        cron_jobs=timetable(),
        redis_pool=queue,
        handle_signals=False,
        queue_name=queue.default_queue_name,
        health_check_key="bg:arq:health",
        job_serializer=queue.job_serializer,
        job_deserializer=queue.job_deserializer,
        timezone=UTC,
        ctx={"pool": pool},
    )
    # Not awaited directly: arq takes a cancellation for its own end and swallows it.
    run = asyncio.create_task(worker.async_run())
    try:
        await asyncio.wait([run])
        run.result()
    finally:
        jobs = [run, *worker.tasks.values()]
        for job in jobs:
            job.cancel()
        await asyncio.wait(jobs)
        # Not worker.close(): it closes in a way that redis-py 5 warns of.
        await queue.aclose(close_connection_pool=True)


def job_queue(redis_url: str) -> ArqRedis:
    """Return a client of the jobs. They travel as JSON: arq's own pickle would run what it reads.

    From the URL, because arq's own settings drop the TLS options of one.
    """
    return ArqRedis(
        ConnectionPool.from_url(redis_url, socket_timeout=_SOCKET_TIMEOUT_S),
        job_serializer=lambda job: orjson.dumps(job, default=repr),
        job_deserializer=orjson.loads,
        default_queue_name="bg:arq",
    )


class _OpsServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the process."""
        yield


async def _serve_ops(stack: contextlib.AsyncExitStack, settings: Settings, app: Any) -> None:
    port = _OPS_PORT if settings.ops_port is None else settings.ops_port
    if not port:
        return
    try:
        family = socket.AF_INET6 if ":" in settings.ops_host else socket.AF_INET
        bound = stack.enter_context(socket.create_server((settings.ops_host, port), family=family))
    except OSError as error:
        raise ConfigError(
            f"The ops port {settings.ops_host}:{port} is not free: {error}."
        ) from error
    config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", access_log=False)
    server = _OpsServer(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))

    async def stop_server() -> None:
        server.should_exit = True
        await asyncio.wait([task])

    stack.push_async_callback(stop_server)
