"""A gateway that is killed: what it held is charged by the sweeper, what it wrote by the next."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.domain.reservation import Held
from gateway.ledger.pool import open_pool
from gateway.proxy.spool import Spool
from tests.house.sources import ROOT
from tests.proxy import acme
from tests.proxy.conftest import StartPlane, StartProcess
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import hang, raw_answer
from workers.journal_pump import JournalPump, PumpMetrics
from workers.sweeper import SweeperMetrics, sweep


@pytest.fixture
async def bookkeeping(redis_url: str) -> AsyncIterator[Bookkeeping]:
    """Yield the budgets as a worker uses them."""
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, deadline_ms=2_000)
    await connection.start()
    await connection.tried()
    yield Bookkeeping(connection, scripts, 60_000, 1_000_000)
    await connection.close()


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    """Yield a pool of a fresh ledger."""
    opened = await open_pool(database_url)
    yield opened
    await opened.close()


async def test_call_of_a_killed_gateway_is_charged(
    org: Any,
    redis_url: str,
    upstream: StubUpstream,
    start_process: StartProcess,
    bookkeeping: Bookkeeping,
    pool: asyncpg.Pool,
) -> None:
    """Killed between reserve and settle: the hold expires, and journal and ledger show its cost."""
    upstream.answers(hang())
    gateway = await start_process(redis_url, GATEWAY_HOLD_TTL_MS="1000")
    metrics = SweeperMetrics(CollectorRegistry())
    async with gateway.client() as client:
        call = asyncio.create_task(client.post("/agents/researcher/invoke"))
        await until(lambda: upstream.executions == 1, "the call to run")
        gateway.process.kill()
        await asyncio.wait([call])
    held = await acme.counters(org)

    async def is_swept() -> bool:
        await sweep(bookkeeping, metrics)
        return not await org.zcard("bg:expiry")

    await until(is_swept, "the hold to expire")
    pump = JournalPump(org, pool, "w1", PumpMetrics(CollectorRegistry()))
    await pump.start()
    while await pump.step():
        pass
    [entry] = await acme.journal(org, "expire")
    [row] = await pool.fetch("SELECT kind, agent, amount_microcents, source FROM usage_entry")

    assert isinstance(call.exception(), Exception)
    assert held == {"org.held": 2_000_000, "agent.researcher.held": 2_000_000}
    assert await acme.counters(org) == {
        "org.spent": 2_000_000,
        "agent.researcher.spent": 2_000_000,
    }
    assert entry["amount"] == "2000000"
    assert tuple(row) == ("expire", "researcher", 2_000_000, "expired")


async def test_running_call_outlives_the_ttl_of_its_hold(
    org: Any,
    redis_url: str,
    upstream: StubUpstream,
    start: StartPlane,
    bookkeeping: Bookkeeping,
) -> None:
    """While its gateway lives a call is never swept, however long it takes."""
    upstream.answers(hang())
    gateway = await start(redis_url, hold_ttl_ms=1_500)
    metrics = SweeperMetrics(CollectorRegistry())
    async with gateway.client() as client:
        call = asyncio.create_task(client.post("/agents/researcher/invoke"))
        await until(lambda: upstream.executions == 1, "the call to run")
        [(_, first)] = await org.zrange("bg:expiry", 0, -1, withscores=True)

        async def is_past_its_first_deadline() -> bool:
            await sweep(bookkeeping, metrics)
            seconds, microseconds = await org.time()
            return bool(seconds * 1000 + microseconds // 1000 > first)

        await until(is_past_its_first_deadline, "the first deadline to pass")
        held = await acme.counters(org)
        upstream.drop()
        answer = await call
    await gateway.settled()

    assert held == {"org.held": 2_000_000, "agent.researcher.held": 2_000_000}
    assert answer.json()["error"] == "upstream_broken"
    assert await acme.journal(org, "expire") == []


async def test_ends_that_a_killed_gateway_has_spooled_are_replayed(
    org: Any, redis_url: str, start: StartPlane, bookkeeping: Bookkeeping, tmp_path: Path
) -> None:
    """What a process spooled is settled once by another, when it is dead and not before."""
    folder = tmp_path / "spool"
    first, second = await _held(bookkeeping), await _held(bookkeeping)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.proxy.faults.spooling"),
        *(str(folder), *first, "1234567"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"spooled\n"
    # Its file is the younger one, so the living process's file has been met when it is gone.
    dead = Spool(folder)
    dead.append([Settlement("acme", "writer", *second, 1_000_000, b"{}")])
    dead.close()

    living = await start(redis_url, spool_dir=folder)
    await until(partial(_are_open, org, 1), "the file without an owner to be replayed")
    left_alone = await acme.counters(org)
    process.kill()
    await process.communicate()
    await until(partial(_are_open, org, 0), "the file of the dead process to be replayed")
    await until(lambda: not list(folder.iterdir()), "the files to be deleted")
    await living.settled()

    assert left_alone["org.held"] == 5_000_000
    assert await acme.counters(org) == {"org.spent": 2_234_567, "agent.writer.spent": 2_234_567}
    assert len(await acme.journal(org)) == 2


async def test_end_is_on_disk_before_its_gateway_is_killed(
    own_org: Any,
    own_redis: EmbeddedRedis,
    upstream: StubUpstream,
    start_process: StartProcess,
    tmp_path: Path,
) -> None:
    """Redis away for more than a moment, then kill -9: the call is settled at its own cost."""
    goes_on = asyncio.Event()
    cost = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: 1.5\r\n\r\n{}"
    upstream.answers(raw_answer(goes_on, cost))
    gateway = await start_process(own_redis.url)
    async with gateway.client() as client:
        call = asyncio.create_task(client.post("/agents/writer/invoke"))
        await until(lambda: upstream.executions == 1, "the call to run")
        own_redis.kill()
        goes_on.set()
        await call

    def is_spooled() -> bool:
        return any(path.stat().st_size for path in tmp_path.glob("**/spool/*.jsonl"))

    await until(is_spooled, "the end to be on disk", timeout_s=20.0)
    gateway.process.kill()
    await until(lambda: gateway.process.poll() is not None, "the gateway to be dead")
    own_redis.start()
    await start_process(own_redis.url)
    await until(partial(_are_open, own_org, 0), "the next process to settle")

    assert await acme.counters(own_org) == {
        "org.spent": 1_500_000,
        "agent.writer.spent": 1_500_000,
    }
    assert len(await acme.journal(own_org)) == 1


async def _held(bookkeeping: Bookkeeping) -> tuple[str, str]:
    """Hold 5 cents for the writer; return what a settlement must name."""
    ask = acme.ask(5_000_000, agent="writer")
    held = await bookkeeping.reserve(ask)
    assert isinstance(held, Held)
    return ask.id, held.windows


async def _are_open(redis: Any, number: int) -> bool:
    return bool(await redis.zcard("bg:expiry") == number)
