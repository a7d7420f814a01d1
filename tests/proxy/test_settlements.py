"""Settlements: every end reaches Redis, once, whatever happens in between."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.budgets.address import read_address
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.keys import NODE
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.cli.embedded_redis import EmbeddedRedis
from gateway.domain.reservation import Ask, Held
from gateway.errors import StoreUnavailable
from gateway.proxy import settlements
from gateway.proxy.settlements import Settlements
from gateway.proxy.spool import Release, Spool, SpoolFile
from gateway.telemetry import ProxyMetrics
from tests.proxy import acme
from tests.until import until

Start = Callable[..., Awaitable["Gateway"]]


class Gateway:
    """The part of a gateway that ends reservations."""

    def __init__(self, url: str, spool: Spool, folder: Path, insist_s: float) -> None:
        scripts = load_scripts()
        self.connection = Connection(read_address(url), scripts, 500)
        self.budgets = Budgets(self.connection, scripts, 60_000, 1000)
        self.registry = CollectorRegistry()
        self.folder = folder
        metrics = ProxyMetrics(self.registry)
        self.settlements = Settlements(self.budgets, spool, metrics, insist_s)

    async def held(self, amount_microcents: int) -> tuple[Ask, Held]:
        """Reserve and insist that it is held."""
        ask = acme.ask(amount_microcents)
        held = await self.budgets.reserve(ask)
        assert isinstance(held, Held), held
        return ask, held

    def value(self, name: str, **labels: str) -> float:
        """Return a metric."""
        return self.registry.get_sample_value(f"budget_gateway_{name}", labels) or 0.0

    async def stop(self) -> None:
        """Close it."""
        await self.settlements.close(0.0)
        await self.connection.close()


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Yield a function that starts gateways over one spool folder."""
    gateways: list[Gateway] = []

    async def started(url: str, insist_s: float = 60.0, spool: Spool | None = None) -> Gateway:
        gateway = Gateway(url, spool or Spool(tmp_path), tmp_path, insist_s)
        gateways.append(gateway)
        await gateway.connection.start()
        await gateway.connection.tried()
        gateway.settlements.start()
        return gateway

    yield started
    for gateway in gateways:
        await gateway.stop()


def _settlement(ask: Ask, held: Held, cost_microcents: int) -> Settlement:
    return Settlement(ask.org, ask.agent, ask.id, held.windows, cost_microcents, b"{}")


async def test_settle_is_confirmed(start: Start, redis_url: str, redis: Any) -> None:
    """A settle needs nobody to wait for it; it is counted and forgotten."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)

    gateway.settlements.settle(_settlement(ask, held, 7))
    await until(lambda: not gateway.settlements.open, "the settle to be confirmed")

    assert await acme.counters(redis) == {"org.spent": 7, "agent.researcher.spent": 7}
    assert gateway.value("settles_total", word="SETTLED") == 1
    assert gateway.value("overages_total") == 1


async def test_release_of_an_unknown_reserve_voids_it(
    start: Start, redis_url: str, redis: Any
) -> None:
    """A release without any answer to the reserve leaves a mark that a late reserve meets."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask = acme.ask(5)

    gateway.settlements.release(Release(ask.org, ask.agent, ask.id, ""))
    await until(lambda: not gateway.settlements.open, "the release to be confirmed")

    assert not isinstance(await gateway.budgets.reserve(ask), Held)
    assert await acme.counters(redis) == {}


async def test_ends_wait_for_redis(start: Start, own_redis: EmbeddedRedis, own_client: Any) -> None:
    """Ends that find Redis dead are repeated until it is back, and count once."""
    await acme.write_org(own_client)
    gateway = await start(own_redis.url)
    settled, released = await gateway.held(5), await gateway.held(6)

    own_redis.kill()
    gateway.settlements.settle(_settlement(*settled, 7))
    gateway.settlements.release(Release("acme", "researcher", released[0].id, ""))
    await until(lambda: not gateway.connection.connected, "the connection to be lost")
    own_redis.start()
    await until(lambda: not gateway.settlements.open, "both ends to be confirmed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}
    assert gateway.value("spooled_total") == 0


async def test_end_that_is_not_answered_is_kept(
    start: Start, own_redis: EmbeddedRedis, own_client: Any
) -> None:
    """Who waits for an end and hears a fault need not repeat it: it is told until it is known."""
    await acme.write_org(own_client)
    gateway = await start(own_redis.url)
    ask, held = await gateway.held(5)

    own_redis.kill()
    with pytest.raises(StoreUnavailable):
        await gateway.settlements.end(_settlement(ask, held, 7))
    own_redis.start()
    await until(lambda: not gateway.settlements.open, "the end to be confirmed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}


async def test_end_that_met_another_is_not_told_again(
    start: Start, redis_url: str, redis: Any
) -> None:
    """What a Redis that forgets is told once more are the ends that it had booked, no others."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)
    first, other = _settlement(ask, held, 7), _settlement(ask, held, 8)

    told = [await gateway.settlements.end(end) for end in (first, other)]
    released = await gateway.settlements.end(Release("acme", ask.agent, ask.id, held.windows))

    assert [end.status for end in (*told, released)] == ["SETTLED", "DONE_OTHER", "DONE"]
    assert [end for _, end in gateway.settlements.confirmed] == [first]


async def test_ends_go_to_disk_and_come_back(
    start: Start, own_redis: EmbeddedRedis, own_client: Any
) -> None:
    """Ends that could not reach Redis in time are on disk, and are replayed when it is back."""
    await acme.write_org(own_client)
    gateway = await start(own_redis.url, insist_s=0.1)
    ask, held = await gateway.held(5)

    own_redis.kill()
    gateway.settlements.settle(_settlement(ask, held, 7))
    await until(lambda: gateway.value("spooled_total") == 1, "the settle to be on disk")
    assert gateway.settlements.open == 0
    assert gateway.value("spool_entries") == 1
    own_redis.start()
    # A thread deletes the file, and the count follows it.
    await until(lambda: gateway.value("spool_entries") == 0, "the spool to be replayed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}
    assert list(gateway.folder.iterdir()) == []


async def test_end_that_finds_no_disk_is_kept(
    start: Start, own_redis: EmbeddedRedis, own_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While neither Redis nor the disk takes it, it is open, and it is tried again."""
    monkeypatch.setattr(settlements, "_PAUSE_MAX_S", 0.1)
    await acme.write_org(own_client)
    gateway = await start(own_redis.url, insist_s=0.1)
    ask, held = await gateway.held(5)
    gateway.folder.rename(gateway.folder.with_suffix(".away"))

    own_redis.kill()
    gateway.settlements.settle(_settlement(ask, held, 7))
    await until(lambda: gateway.value("faults_total") > 0, "the disk to fail")
    assert (gateway.settlements.open, gateway.value("spooled_total")) == (1, 0)
    gateway.folder.with_suffix(".away").rename(gateway.folder)
    await until(lambda: not gateway.settlements.open, "the settle to be on disk")
    own_redis.start()
    await until(lambda: not list(gateway.folder.iterdir()), "the spool to be replayed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}


async def test_replay_without_redis_leaves_the_file(
    start: Start, own_redis: EmbeddedRedis, own_client: Any
) -> None:
    """What another process has left is let go of, and taken again when Redis is back."""
    await acme.write_org(own_client)
    gateway = await start(own_redis.url)
    ask, held = await gateway.held(5)
    own_redis.kill()
    await until(lambda: not gateway.connection.connected, "the connection to be lost")

    _leave(gateway.folder, _settlement(ask, held, 7))
    await until(lambda: gateway.value("spool_entries") == 1, "the file to be taken")
    own_redis.start()
    await until(lambda: not list(gateway.folder.iterdir()), "the spool to be replayed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}


async def test_replay_waits_for_the_marker(start: Start, redis_url: str, redis: Any) -> None:
    """A Redis that is being rebuilt has not its counters yet, nor the epoch of the entry."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)
    marker = await redis.hgetall(NODE)
    await redis.delete(NODE)
    await until(lambda: gateway.connection.node is None, "the marker to be missed")

    _leave(gateway.folder, _settlement(ask, held, 7))
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    # The spool is looked at once a second.
    await until(lambda: loop.time() > began_s + 1.5, "a replay that does not come")
    assert await acme.journal(redis) == []
    await redis.hset(NODE, mapping=marker)
    await until(lambda: not list(gateway.folder.iterdir()), "the spool to be replayed")

    assert [entry["epoch"] for entry in await acme.journal(redis)] == [marker["epoch"]]


async def test_end_that_redis_refuses_is_kept(start: Start, redis_url: str, redis: Any) -> None:
    """A sound end, too: somebody has damaged what it would be written to."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)
    await redis.delete("bg:journal")
    await redis.set("bg:journal", "no stream")

    gateway.settlements.settle(_settlement(ask, held, 7))
    await until(
        lambda: [path.suffix for path in gateway.folder.iterdir()] == [".refused"],
        "the end to be kept aside",
    )

    assert ask.id in next(gateway.folder.iterdir()).read_text()


class SlowSpool(Spool):
    """A spool whose disk has finished a file, and does not say so yet."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.has_finished, self.may_say_so = threading.Event(), threading.Event()

    def finish(self, file: SpoolFile, *, keep: bool) -> None:
        """Finish it, and wait."""
        super().finish(file, keep=keep)
        self.has_finished.set()
        self.may_say_so.wait(10)


async def test_stop_in_the_middle_of_a_replay_closes_nothing_twice(
    start: Start, redis_url: str, redis: Any, tmp_path: Path
) -> None:
    """What was the file's descriptor is somebody else's by then; and the stop comes to its end."""
    await acme.write_org(redis)
    spool = SlowSpool(tmp_path)
    gateway = await start(redis_url, spool=spool)
    _leave(tmp_path, _settlement(*await gateway.held(5), 7))
    await until(spool.has_finished.is_set, "the replay")
    # The lowest number that is free is given out first.
    others = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]

    await asyncio.wait_for(gateway.stop(), 10)
    spool.may_say_so.set()

    for descriptor in others:
        os.close(descriptor)


def _leave(folder: Path, end: Settlement) -> None:
    """Leave an end behind, as a process does that was killed."""
    spool = Spool(folder)
    spool.append([end])
    spool.close()


async def test_next_process_replays(
    start: Start, own_redis: EmbeddedRedis, own_client: Any
) -> None:
    """What a stopped gateway left on disk is settled by the next one."""
    await acme.write_org(own_client)
    first = await start(own_redis.url)
    ask, held = await first.held(5)

    own_redis.kill()
    first.settlements.settle(_settlement(ask, held, 7))
    await first.stop()
    assert len(list(first.folder.iterdir())) == 1
    del first
    own_redis.start()
    second = await start(own_redis.url)
    await until(lambda: not list(second.folder.iterdir()), "the spool to be replayed")

    assert await acme.counters(own_client) == {"org.spent": 7, "agent.researcher.spent": 7}
    assert len(await acme.journal(own_client)) == 1


async def test_close_waits_for_the_reply(start: Start, redis_url: str, redis: Any) -> None:
    """A settle that is under way when the process stops is confirmed, not spooled."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)

    gateway.settlements.settle(_settlement(ask, held, 7))
    await gateway.settlements.close(5.0)

    assert gateway.settlements.open == 0
    assert list(gateway.folder.iterdir()) == []
    assert (await acme.counters(redis))["org.spent"] == 7


async def test_cancelled_caller_changes_nothing(start: Start, redis_url: str, redis: Any) -> None:
    """An end that was handed over by a task that is cancelled at once still happens."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)

    running = asyncio.Event()

    async def caller() -> None:
        try:
            running.set()
            await asyncio.Event().wait()
        finally:
            gateway.settlements.release(Release("acme", "researcher", ask.id, held.windows))

    task = asyncio.create_task(caller())
    await running.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await until(lambda: not gateway.settlements.open, "the release to be confirmed")

    assert await acme.counters(redis) == {}


async def test_settle_that_differs_is_counted(start: Start, redis_url: str, redis: Any) -> None:
    """A second settle with another cost changes nothing and shows in the metric."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)

    gateway.settlements.settle(_settlement(ask, held, 7))
    gateway.settlements.settle(_settlement(ask, held, 8))
    await until(
        lambda: gateway.value("settles_total", word="DONE_OTHER") == 1, "the second to be counted"
    )

    assert (await acme.counters(redis))["org.spent"] == 7


async def test_refused_end_is_kept(start: Start, redis_url: str, redis: Any) -> None:
    """An end that Redis will never take is kept on disk for a person, and does not block others."""
    await acme.write_org(redis)
    gateway = await start(redis_url)
    ask, held = await gateway.held(5)
    broken = Settlement("acme", "researcher", ask.id, "no windows", 7, b"{}")

    gateway.settlements.settle(broken)
    await until(
        lambda: [path.suffix for path in gateway.folder.iterdir()] == [".refused"],
        "the end to be kept aside",
    )
    gateway.settlements.settle(_settlement(ask, held, 7))
    await until(lambda: not gateway.settlements.open, "the right one to be confirmed")

    assert (await acme.counters(redis))["org.spent"] == 7
    assert gateway.value("faults_total") >= 1
