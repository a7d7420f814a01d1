"""Gateways for the tests: the real data plane, in this event loop or as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson

from gateway.proxy.process import Plane, running
from gateway.settings import Settings
from tests.proxy import acme
from tests.until import until

# A machine that runs other tests too must not fail these.
_DEADLINE_MS = 2000
_START_S = 30.0


class Gateway:
    """A gateway that serves: where it is, and clients of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def client(self, key: str = acme.KEY, **headers: str) -> httpx.AsyncClient:
        """Return a client that shows this key; an empty one shows none."""
        shown = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.AsyncClient(
            base_url=self.url, headers={**shown, **headers}, timeout=30.0, trust_env=False
        )


class PlaneGateway(Gateway):
    """A gateway in this event loop: ``plane`` is its inside."""

    def __init__(self, plane: Plane) -> None:
        super().__init__(plane.port)
        self.plane = plane

    def value(self, name: str, **labels: str) -> float:
        """Return a metric, 0 where it was never counted."""
        registry = self.plane.metrics.registry
        return registry.get_sample_value(f"budget_gateway_{name}", labels) or 0.0

    async def settled(self) -> None:
        """Wait until no call runs and every end is confirmed by Redis or on disk."""
        await until(
            lambda: not self.plane.reservations and not self.plane.settlements.open,
            "every reservation to be ended",
        )


class ProcessGateway(Gateway):
    """``budget-gateway serve`` as a process, which a test may signal."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        super().__init__(port)
        self.process = process
        self.log = log

    async def stop(self) -> int:
        """Ask it to stop; return its exit code when it has ended."""
        self.process.send_signal(signal.SIGTERM)
        await until(lambda: self.process.poll() is not None, "the gateway to end", 60.0)
        return self.process.wait()


@asynccontextmanager
async def plane_gateway(
    redis_url: str, folder: Path, environ: Mapping[str, str] | None = None, **settings: Any
) -> AsyncIterator[PlaneGateway]:
    """Run a gateway in this event loop; ``settings`` are fields of Settings."""
    chosen: dict[str, Any] = {
        "redis_url": redis_url,
        "port": 0,
        "ops_port": 0,
        "spool_dir": folder / "spool",
        "credentials_dir": folder / "credentials",
        "store_deadline_ms": _DEADLINE_MS,
    }
    async with running(Settings(**(chosen | settings)), environ or {}) as plane:
        yield PlaneGateway(plane)


@asynccontextmanager
async def process_gateway(
    redis_url: str, folder: Path, **environment: str
) -> AsyncIterator[ProcessGateway]:
    """Run ``budget-gateway serve`` in a folder; ``environment`` are GATEWAY_* variables."""
    log = folder / "serve.log"
    own = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    chosen = {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_PORT": "0",
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_STORE_DEADLINE_MS": str(_DEADLINE_MS),
    }
    with _process(own | chosen | environment, log) as process:
        await until(lambda: _port(log) or process.poll() is not None, "serve to start", _START_S)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        yield ProcessGateway(process, _port(log), log)


@contextmanager
def _process(environment: Mapping[str, str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            # On a leash: where the tests are killed, it ends with them.
            [sys.executable, "-m", "gateway", "serve", "--leash"],
            cwd=log.parent,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _port(log: Path) -> int:
    """Return the port that the process says it serves, 0 while it says none."""
    for line in log.read_bytes().splitlines():
        if b'"serving"' in line and line.endswith(b"}"):
            return int(orjson.loads(line)["port"])
    return 0
