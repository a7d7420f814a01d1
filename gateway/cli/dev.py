"""The command ``dev``: everything on one machine, with real servers and nothing to install."""

import asyncio
import hashlib
import os
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated

import asyncpg
import typer

from gateway.cli import environment
from gateway.cli.child import Child, start_child
from gateway.cli.clients import open_clients
from gateway.cli.data_folder import own
from gateway.cli.demo import ORG, Demo, prepare_demo, read_demo
from gateway.cli.guide import MODEL, Place, guide
from gateway.cli.healthcheck import ask, ops_port
from gateway.cli.migrate import prepare
from gateway.cli.output import complain, say
from gateway.cli.stores import Stores, read_stores
from gateway.errors import ConfigError
from gateway.proxy.listener import bind
from gateway.proxy.prices import Prices
from gateway.registry.standings import read_standings
from gateway.settings import Settings

_POLL_S = 0.05
_START_S = 30.0
_REDIS_PORT = 6380
_WORKER_APART = 2
# What `dev` makes in its data folder, and what --fresh therefore may delete.
_OURS = ("redis", "postgres", "demo.json")
# As root Postgres runs as another user, who must be able to enter every folder above its data.
_ROOT_FOLDER = Path("/var/lib/budget-gateway")


def run(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where both servers keep their data.", show_default=False)
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget what an earlier start kept.")] = (
        False
    ),
) -> None:
    """Run the gateway, its worker, Redis, Postgres and a demo agent until Ctrl-C."""
    settings = environment.load()
    folder = (data_dir or _default_folder()).absolute()
    try:
        folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        own(folder)
    except OSError as error:
        raise ConfigError(f"The data folder {folder} cannot be used: {error.strerror}.") from error
    if fresh:
        _forget(folder, settings.spool_dir)
    for name in ("GATEWAY_REDIS_URL", "GATEWAY_DATABASE_URL"):
        if name in os.environ:
            complain(f"{name} of the environment is not used by dev; other commands will use it.")
    asyncio.run(_dev(settings, folder))


def _default_folder() -> Path:
    if os.geteuid() != 0:
        return environment.FOLDER
    # One for each working folder, as it would be for any other user.
    here = Path.cwd()
    return _ROOT_FOLDER / f"{here.name}-{hashlib.sha256(bytes(here)).hexdigest()[:8]}"


def _forget(folder: Path, spool: Path) -> None:
    for name in _OURS:
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    shutil.rmtree(spool, ignore_errors=True)


async def _dev(settings: Settings, folder: Path) -> None:
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        children = list[Child]()
        starting = asyncio.create_task(_start(stack, settings, folder, children))
        try:
            if await _until(stopped, starting):
                return
            say(starting.result())
            ends = [asyncio.create_task(child.wait()) for child in children]
            if not await _until(stopped, *ends):
                raise next(child.fault() for child in children if child.ended)
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            say("Stopping; calls that are open are finished first.")


async def _until(stopped: asyncio.Event, *others: "asyncio.Task[str] | asyncio.Task[None]") -> bool:
    """Wait for the signal to stop or for one of the others; return whether it was the signal."""
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait([waiting, *others], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return stopped.is_set()


async def _start(
    stack: AsyncExitStack, settings: Settings, folder: Path, children: list[Child]
) -> str:
    """Start everything in its order, each to be stopped when ``stack`` ends; return the guide."""
    _check_ports(settings)
    stores = await _stores(stack, folder, children)
    environ = {
        "GATEWAY_REDIS_URL": stores.redis_url,
        "GATEWAY_DATABASE_URL": stores.database_url,
    }
    environment.write_file(environ)
    settings = settings.model_copy(
        update={"redis_url": stores.redis_url, "database_url": stores.database_url}
    )
    known = read_demo(folder)
    agent_port = _free(known.agent_port if known else 0)
    agent = ["-m", "gateway.cli.demo_agent", str(agent_port)]
    await _child(stack, children, "agent", agent, environ)
    demo = await _prepare(settings, folder, agent_port)
    worker_port = _worker_port(settings)
    own = environ | {"GATEWAY_OPS_PORT": str(worker_port)}
    await _child(stack, children, "worker", ["-m", "gateway", "worker", "--leash"], own)
    await _child(stack, children, "serve", ["-m", "gateway", "serve", "--leash"], environ)
    await _ready(children, settings.host, settings.port)
    if worker_port:
        await _ready(children, settings.ops_host, worker_port)
    return await _guide(settings, stores.redis_port, demo)


def _check_ports(settings: Settings) -> None:
    # Before anything starts: another gateway there would look like ours being ready.
    bind(settings.host, settings.port, "GATEWAY_PORT").close()
    for port in (ops_port(settings, "serve"), _worker_port(settings)):
        if port:
            bind(settings.ops_host, port, "GATEWAY_OPS_PORT").close()


def _worker_port(settings: Settings) -> int:
    # One setting, two processes on this machine: where it is set they are as far apart as ever.
    return settings.ops_port + _WORKER_APART if settings.ops_port else ops_port(settings, "worker")


async def _stores(stack: AsyncExitStack, folder: Path, children: list[Child]) -> Stores:
    arguments = ["-m", "gateway.cli.stores", str(folder), str(_last_redis_port())]
    child = await start_child("stores", arguments, {}, _logs(), keeps_output=True)
    children.append(child)
    stack.push_async_callback(child.stop)
    stores = read_stores(await child.first_line())
    if stores is None:
        await child.wait()
        raise child.fault()
    return stores


async def _child(
    stack: AsyncExitStack,
    children: list[Child],
    name: str,
    arguments: list[str],
    environ: dict[str, str],
) -> None:
    child = await start_child(name, arguments, environ, _logs())
    children.append(child)
    stack.push_async_callback(child.stop)


async def _prepare(settings: Settings, folder: Path, agent_port: int) -> Demo:
    async with open_clients(settings) as clients:
        connection = await asyncpg.connect(settings.database_url)
        try:
            await prepare(connection, clients.redis)
        finally:
            await connection.close()
        return await prepare_demo(clients, folder, agent_port)


async def _ready(children: list[Child], host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    end_s = loop.time() + _START_S
    while not (health := await asyncio.to_thread(ask, host, port)).ready:
        for child in children:
            if child.ended:
                raise child.fault()
        if loop.time() > end_s:
            raise ConfigError(f"Not ready after {_START_S:g} s: {health.says}")
        await asyncio.sleep(_POLL_S)


async def _guide(settings: Settings, redis_port: int, demo: Demo) -> str:
    async with open_clients(settings) as clients:
        standings = await read_standings(clients.redis, ORG)
    place = Place(f"http://{settings.host}:{settings.port}", redis_port, demo)
    return guide(place, standings, Prices().price_of(MODEL))


def _logs() -> Path:
    try:
        environment.FOLDER.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        place = environment.FOLDER.absolute()
        raise ConfigError(f"The folder {place} cannot be made: {error.strerror}.") from error
    return environment.FOLDER


def _last_redis_port() -> int:
    url = environment.read_file(environment.FILE).get("GATEWAY_REDIS_URL", "")
    port = url.rpartition(":")[2].partition("/")[0]
    return int(port) if port.isdigit() else _REDIS_PORT


def _free(port: int) -> int:
    """Return the port where it is free, or any other that is."""
    for wanted in (port, 0):
        try:
            with bind("127.0.0.1", wanted, "The port of the demo agent") as bound:
                found: int = bound.getsockname()[1]
                return found
        except ConfigError:
            continue
    raise ConfigError("No port of loopback is free.")
