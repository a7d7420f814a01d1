"""The process ``serve``: the data plane from its settings to its last settle."""

import asyncio
import gc
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.budgets.address import read_address
from gateway.budgets.connection import CONNECT_TIMEOUT_S, Connection
from gateway.budgets.keys import NODE
from gateway.budgets.node import amend_marker, check_server
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.errors import ConfigError, StoreError, StoreUnavailable
from gateway.proxy.admission import Admission, Rules
from gateway.proxy.agents import Agents
from gateway.proxy.api import Api
from gateway.proxy.api_holds import ApiHolds
from gateway.proxy.app import App
from gateway.proxy.credentials import Credentials
from gateway.proxy.exposure import Exposure
from gateway.proxy.forward import Forwarding
from gateway.proxy.listener import Listener, Listening, bind, quiet_server_log, stop
from gateway.proxy.prices import Prices
from gateway.proxy.redo import Redo
from gateway.proxy.refusals import Refusals
from gateway.proxy.reservations import Reservations
from gateway.proxy.settlements import Settlements
from gateway.proxy.spool import Spool
from gateway.proxy.upstream import Upstreams
from gateway.proxy.visitor import Visitors
from gateway.settings import Settings
from gateway.telemetry import ProxyMetrics, new_registry, ops_app

_OPS_PORT = 9464
# What was settled in the last moment of a drain still has this long to reach Redis.
_SETTLE_S = 5.0
_SKEW_LOOK_S = 1.0
_SKEW_MAX_MS = 1000
_OBJECTS_PER_COLLECTION = 50_000

_log = structlog.get_logger()


async def serve(settings: Settings, environ: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT; then finish what runs, and settle all of it.

    ``environ`` is where ``env:GATEWAY_CREDENTIAL_*`` header values come from.

    Raises:
        ConfigError: a port, a folder or a setting of Redis is not usable.
        StoreUnavailable: Redis cannot be reached at the start; later it is waited for.
    """
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopped.set)
            stack.callback(loop.remove_signal_handler, number)
        plane = await stack.enter_async_context(running(settings, environ))
        _spare_the_collector()
        _log.info("serving", port=plane.port, redis=str(read_address(settings.redis_url)))
        await _first(stopped, plane.listeners)
        plane.app.draining = True
        _log.info("draining", open_calls=len(plane.reservations))
        await plane.app.drained(settings.drain_s)


def _spare_the_collector() -> None:
    """Keep Python's collector from walking through the price list again and again.

    What is there at the start stays. Calls leave hardly any circles, so looking seldom is enough;
    by default a twelfth of the CPU went into it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 20, 50)


class Plane(NamedTuple):
    """A data plane that serves, as far as its process has to do with it."""

    app: App
    reservations: Reservations
    settlements: Settlements
    metrics: ProxyMetrics
    listeners: Sequence[Listening]

    @property
    def port(self) -> int:
        """The port of the data plane, also where the settings left it to the system."""
        return self.listeners[0][0].port


@asynccontextmanager
async def running(settings: Settings, environ: Mapping[str, str]) -> AsyncIterator[Plane]:
    """Run a data plane in this event loop; leaving closes its ports, then settles what is left.

    Raises like ``serve``.
    """
    async with AsyncExitStack() as stack:
        plane = await _plane(stack, settings, environ)
        listeners = _listen(settings, plane)
        stack.push_async_callback(stop, listeners)
        yield plane._replace(listeners=listeners)


async def _plane(stack: AsyncExitStack, settings: Settings, environ: Mapping[str, str]) -> Plane:
    metrics = ProxyMetrics(new_registry())
    connection, budgets = await _budgets(stack, settings)
    spool = Spool(settings.spool_dir)
    spool.prepare()
    settlements = Settlements(budgets, spool, metrics)
    settlements.start()
    stack.push_async_callback(settlements.close, _SETTLE_S)
    reservations = Reservations(budgets, settlements, metrics)
    reservations.start()
    stack.push_async_callback(reservations.close)
    redo = Redo(
        budgets, reservations, settlements, metrics, lambda: _report_loss(settings, connection)
    )
    connection.renewed = redo.renewed
    stack.push_async_callback(redo.close)
    upstreams = Upstreams()
    stack.push_async_callback(upstreams.close)
    exposure = Exposure(budgets, settings.expose_amounts)
    rules = Rules(settings.org if settings.auth == "none" else "", settings.max_body_bytes)
    agents = Agents(budgets.agent_json, Credentials(environ, settings.credentials_dir))
    refusals = Refusals(budgets, exposure)
    admission = Admission(agents, reservations, Prices().price_of, refusals, rules)
    holds = ApiHolds(budgets, agents, reservations, refusals)
    api = Api(Visitors(refusals, rules.trusted_org), holds)
    forwarding = Forwarding(upstreams, exposure, metrics, settings.max_body_bytes)
    _watch_clock(stack, connection, metrics)
    app = App(admission, forwarding, api, lambda: connection.problem, metrics)
    return Plane(app, reservations, settlements, metrics, ())


async def _budgets(stack: AsyncExitStack, settings: Settings) -> tuple[Connection, Budgets]:
    scripts = load_scripts()
    address = read_address(settings.redis_url)
    connection = Connection(address, scripts, settings.store_deadline_ms)
    await connection.start()
    stack.push_async_callback(connection.close)
    if not await connection.tried():
        raise StoreUnavailable(connection.problem)
    async with _client(settings) as redis:
        findings = await check_server(redis)
    for finding in findings:
        if finding.severity == "refuse":
            raise ConfigError(f"Redis at {address} is not set up to keep money: {finding}")
        _log.warning("redis_setting", finding=str(finding))
    budgets = Budgets(connection, scripts, settings.hold_ttl_ms, settings.journal_entries_max)
    return connection, budgets


def _client(settings: Settings) -> Any:
    # A Redis that is cut off sends no error: without a timeout a start would wait for ever.
    return Redis.from_url(
        settings.redis_url, decode_responses=True, socket_timeout=CONNECT_TIMEOUT_S
    )


async def _report_loss(settings: Settings, connection: Connection) -> None:
    """Note in the marker that this Redis has lost writes, unless a worker has repaired it since."""
    run_id = connection.run_id.decode()
    try:
        async with _client(settings) as redis:
            if run_id and await redis.hget(NODE, "life") not in (None, run_id):
                await amend_marker(redis, {"lost": run_id})
    except (RedisError, StoreError) as error:
        # It is away again; the next start of it is looked at as well.
        _log.warning("loss_not_noted", error=str(error))


def _watch_clock(stack: AsyncExitStack, connection: Connection, metrics: ProxyMetrics) -> None:
    metrics.store_ready.set_function(lambda: float(connection.ready))
    metrics.clock_skew_seconds.set_function(lambda: (connection.skew_ms or 0) / 1000)
    watch = asyncio.create_task(_alarm_on_skew(connection), name="clock watch")
    stack.callback(watch.cancel)


async def _alarm_on_skew(connection: Connection) -> None:
    is_alarmed = False
    while True:
        skew_ms = connection.skew_ms or 0
        is_skewed = abs(skew_ms) > _SKEW_MAX_MS
        if is_skewed and not is_alarmed:
            _log.error("clock_skew", ahead_of_redis_ms=skew_ms)
        is_alarmed = is_skewed
        await asyncio.sleep(_SKEW_LOOK_S)


def _listen(settings: Settings, plane: Plane) -> list[Listening]:
    quiet_server_log()
    places: list[tuple[Any, str, int, str]] = [
        (plane.app, settings.host, settings.port, "GATEWAY_PORT")
    ]
    ops_port = _OPS_PORT if settings.ops_port is None else settings.ops_port
    if ops_port:
        ops = ops_app(plane.metrics.registry, plane.app.trouble)
        places.append((ops, settings.ops_host, ops_port, "GATEWAY_OPS_PORT"))
    with ExitStack() as opened:
        # Bound first, all of them: a port that is taken stops the process before it serves.
        bound = [opened.enter_context(bind(host, port, name)) for _, host, port, name in places]
        opened.pop_all()
    listeners = [Listener(app, one) for (app, *_), one in zip(places, bound, strict=True)]
    return [(listener, asyncio.create_task(listener.run_until_stopped())) for listener in listeners]


async def _first(stopped: asyncio.Event, listeners: Sequence[Listening]) -> None:
    """Wait for the signal to stop; a listener that ends by itself is a fault and is raised."""
    waiting = asyncio.create_task(stopped.wait())
    tasks = [waiting, *(task for _, task in listeners)]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for task in done - {waiting}:
        task.result()
