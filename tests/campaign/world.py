"""The world of a campaign: real servers, two gateways, a worker, an upstream and the org acme.

The gateways reach Redis over a wire, and keep their spools on a disk, which faults may break.
"""

import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL
from typing import NamedTuple

import asyncpg
import httpx
from redis.asyncio import Redis

from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.cli.migrate import prepare
from gateway.ledger.pool import open_pool
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import rebuild
from tests.campaign.bill import Bill
from tests.campaign.clock.sitecustomize import AHEAD_BYTES
from tests.campaign.disk import Disk
from tests.campaign.wire import Wire, wire_to
from tests.house.sources import ROOT
from tests.servers import Servers
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.until import until

ORG, AGENTS = "acme", ("json", "stream")
HOLD_TTL_MS = 8_000
GATEWAYS = 2
_CEILING_CENTS = "5"
# More than a campaign can spend: what it proves here is that nothing is lost or doubled.
_LIMITS = {"org.month.limit_cents": "1000000000", "agent.*.day.limit_cents": "1000000000"}
_START_S = 60.0
_CLOCK = ROOT / "tests" / "campaign" / "clock"


class Program:
    """One of our own processes; it keeps its port and its folder over restarts."""

    def __init__(self, command: str, environment: Mapping[str, str], folder: Path) -> None:
        self.port = _free_port()
        self.ops_port = _free_port()
        self._command = command
        self._folder = folder
        folder.mkdir()
        self._clock = folder / "clock"
        self.set_clock(0.0)
        paths = [str(_CLOCK), str(ROOT), os.environ.get("PYTHONPATH", "")]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name[:8] != "GATEWAY_"},
            **environment,
            "GATEWAY_PORT": str(self.port),
            "GATEWAY_OPS_PORT": str(self.ops_port),
            "CAMPAIGN_CLOCK": str(self._clock),
            # What is tested is this checkout, wherever another one is installed.
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def set_clock(self, ahead_s: float) -> None:
        """Let its clock be ahead of that of the machine, from this moment on."""
        ahead = int(ahead_s * 1e9).to_bytes(AHEAD_BYTES, "little", signed=True)
        with self._clock.open("r+b" if self._clock.exists() else "wb") as file:
            file.write(ahead)

    def start(self) -> None:
        """Start it, where it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gateway", self._command],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        """Send it a signal, where it runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def end(self, number: int = SIGKILL) -> int:
        """End it by a signal and return its exit code."""
        assert self._process is not None
        self.signal(number)
        self.signal(SIGCONT)
        return self._process.wait(timeout=_START_S)

    async def says(self, client: httpx.AsyncClient) -> str:
        """Return what it says of itself: ok, or why it is not ready."""
        try:
            answer = await client.get(f"http://127.0.0.1:{self.ops_port}/readyz")
        except httpx.TransportError as error:
            return f"no answer: {error!r}"
        return answer.text.strip()

    async def is_ready(self, client: httpx.AsyncClient) -> bool:
        """Whether it says so itself."""
        return await self.says(client) == "ok"

    async def ready(self) -> None:
        """Wait until it says that it is ready."""
        async with httpx.AsyncClient() as client:

            async def is_ready() -> bool:
                # Who starts while a server is away ends; its supervisor starts it again.
                self.start()
                return await self.is_ready(client)

            await until(is_ready, f"{self._command} to be ready", _START_S)


class World(NamedTuple):
    """All that runs, and who called whom for how much."""

    redis: EmbeddedRedis
    postgres: EmbeddedPostgres
    gateways: list[Program]
    worker: Program
    wire: Wire
    disk: Disk
    upstream: StubUpstream
    bill: Bill
    database_url: str
    key: str

    async def states(self) -> str:
        """Return what each program says of itself, for whoever waits in vain."""
        async with httpx.AsyncClient() as client:
            said = [await program.says(client) for program in (*self.gateways, self.worker)]
        return f"Gateways and worker say: {'; '.join(said)}"

    async def rebuild(self) -> None:
        """Make an emptied Redis again of Postgres."""
        async with Redis.from_url(self.redis.url, decode_responses=True) as redis:
            pool = await open_pool(self.database_url)
            try:
                await rebuild(Clients(pool, redis))
            finally:
                await pool.close()


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start everything and stop it; Redis writes each change to disk before it answers."""
    # Started by root, Postgres runs as another user, who must get in.
    os.chmod(folder, 0o755)
    servers = Servers(folder)
    async with AsyncExitStack() as stack:
        stack.callback(servers.stop)
        redis = servers.own_redis(appendfsync="always")
        # Not the one of the tests, which writes its commits to disk later.
        postgres = EmbeddedPostgres(postgres_folder(), folder / "pg")
        stack.callback(postgres.stop)
        postgres.start()
        upstream, bill = await stack.enter_async_context(stub_upstream()), Bill()
        upstream.answers(bill.answer)
        key = await _furnish(redis.url, postgres.url(), upstream.url)
        wire = await stack.enter_async_context(wire_to(lambda: redis.port))
        disk = Disk(folder / "disk")
        stack.callback(disk.close)
        environment = {
            "GATEWAY_REDIS_URL": redis.url,
            "GATEWAY_DATABASE_URL": postgres.url(),
            "GATEWAY_HOLD_TTL_MS": str(HOLD_TTL_MS),
            "GATEWAY_STORE_DEADLINE_MS": "1000",
            "GATEWAY_DRAIN_S": "5",
        }
        gateways = [
            Program(
                "serve",
                {
                    **environment,
                    "GATEWAY_REDIS_URL": wire.url,
                    "GATEWAY_SPOOL_DIR": str(disk.folder / name),
                },
                folder / name,
            )
            for name in (f"gateway-{number}" for number in range(GATEWAYS))
        ]
        worker = Program("worker", environment, folder / "worker")
        for program in (*gateways, worker):
            stack.callback(program.end)
            program.start()
        for program in (*gateways, worker):
            await program.ready()
        places = (redis, postgres, gateways, worker, wire, disk, upstream, bill)
        yield World(*places, postgres.url(), key)


async def _furnish(redis_url: str, database_url: str, upstream: str) -> str:
    """Write tables, marker, org and agents; return a key."""
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        connection = await asyncpg.connect(database_url)
        await prepare(connection, redis)
        await connection.close()
        pool = await open_pool(database_url)
        clients = Clients(pool, redis)
        await add_org(clients, ORG, "UTC", _LIMITS, Author("campaign"))
        for agent in AGENTS:
            price = {"mode": "reported", "ceiling_cents": _CEILING_CENTS}
            await add_agent(
                clients, ORG, agent, {"upstream": f"{upstream}/{agent}", "price": price}
            )
        minted = await mint_key(clients, ORG, [])
        await pool.close()
        return minted.key


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
