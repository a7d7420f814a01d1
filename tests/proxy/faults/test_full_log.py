"""A log that nobody takes, as on a full disk, ends nothing that it tells of."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.proxy import acme
from tests.proxy.gateways import Gateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

# Whatever is written there does not fit.
FULL = Path("/dev/full")


@contextmanager
def unheard(redis_url: str, port: int, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a gateway none of whose log lines is taken."""
    chosen = {"GATEWAY_REDIS_URL": redis_url, "GATEWAY_PORT": str(port), "GATEWAY_OPS_PORT": "0"}
    with FULL.open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--leash"],
            cwd=folder,
            env={**os.environ, **chosen},
            stdin=subprocess.PIPE,
            stdout=full,
            stderr=subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


async def test_full_log_ends_no_call(
    org: Any, redis_url: str, upstream: StubUpstream, tmp_path: Path
) -> None:
    """A gateway starts, drains what runs when it is told to stop, and settles it, unheard."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        gateway = Gateway(probe.getsockname()[1])
    with unheard(redis_url, gateway.port, tmp_path) as process:
        async with gateway.client() as client:

            async def is_ready() -> bool:
                assert process.poll() is None
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.TransportError:
                    return False

            await until(is_ready, "the gateway to be ready", 30.0)
            call = asyncio.create_task(client.post("/agents/researcher/invoke"))
            await until(lambda: upstream.executions == 1, "the call to run")
            process.send_signal(signal.SIGTERM)
            goes_on.set()
            answer = await call
            await until(lambda: process.poll() is not None, "the gateway to end", 30.0)

    assert (answer.status_code, process.returncode) == (200, 0)
    spent = {"org.spent": 2_000_000, "agent.researcher.spent": 2_000_000}
    assert await acme.counters(org) == spent
