"""Fixtures of the commands: both stores, an org that spends, and a way to run a command."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from gateway.cli import dispatch
from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.registry.conftest import budgets, clients
from workers.journal_pump import JournalPump, PumpMetrics

__all__ = ["budgets", "clients"]


class Said(NamedTuple):
    """What a command ended with and wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on standard output."""
        return orjson.loads(self.out)


Run = Callable[..., Awaitable[Said]]


@pytest.fixture
def command(
    redis_url: str,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Return a function that runs a command against both stores in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_REDIS_URL", redis_url)
    monkeypatch.setenv("GATEWAY_DATABASE_URL", database_url)

    async def run(*arguments: str) -> Said:
        capsys.readouterr()
        # In a thread, because a command brings its own event loop.
        code = await asyncio.to_thread(dispatch.run, arguments)
        return Said(code, *capsys.readouterr())

    return run


@pytest.fixture
async def acme(clients: Clients, redis_url: str) -> AsyncIterator[JournalPump]:
    """Add acme, which may spend 10 cents a month, and its agents; yield a pump of its ledger."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))
    for agent in ("researcher", "writer"):
        await clients.redis.hset("bg:{acme}:agents", agent, "{}")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        pump = JournalPump(redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry()))
        await pump.start()
        yield pump
