"""Programs: our own processes over real stores, which can be killed, stopped and started again."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from signal import SIGCONT, SIGKILL

import httpx

from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import EmbeddedRedis
from tests.campaign.clock.sitecustomize import AHEAD_BYTES
from tests.house.sources import ROOT
from tests.servers import Servers
from tests.until import until

# Of gateways on a machine that is busy with everything at once.
PATIENT = {"GATEWAY_STORE_DEADLINE_MS": "1000", "GATEWAY_DRAIN_S": "5"}
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


def stores(stack: AsyncExitStack, folder: Path) -> tuple[EmbeddedRedis, EmbeddedPostgres]:
    """Start both until the stack ends; each writes to disk before it answers."""
    # Started by root, Postgres runs as another user, who must get in.
    os.chmod(folder, 0o755)
    servers = Servers(folder)
    stack.callback(servers.stop)
    redis = servers.own_redis(appendfsync="always")
    # Not the one of the tests, which writes its commits to disk later.
    postgres = EmbeddedPostgres(postgres_folder(), folder / "pg")
    stack.callback(postgres.stop)
    postgres.start()
    return redis, postgres


async def run(stack: AsyncExitStack, *programs: Program) -> None:
    """Start programs until the stack ends, and wait until all are ready."""
    for program in programs:
        stack.callback(program.end)
        program.start()
    for program in programs:
        await program.ready()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
