"""One turn: an empty Redis, one peer on its core, one load, and the books checked after it."""

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from redis.asyncio import Redis

from bench.load import Measured, WrongAnswer
from bench.org import KEY, check_booked, write_org
from bench.processes import ROOT, Command, Cores, cpu_s, free_port, pinned, running
from gateway.cli.embedded_redis import REDIS_OPTIONS, EmbeddedRedis, redis_binary

# A server of a run lives for seconds: a rewrite of its file in the middle would be noise.
_OPTIONS = {**REDIS_OPTIONS, "auto-aof-rewrite-percentage": "0"}
_UVICORN = ("-m", "uvicorn", "--no-access-log", "--log-level", "warning")
# A machine that is busy with other work for a moment must not end a run with a 503.
_STORE_DEADLINE_MS = "5000"


class Request(NamedTuple):
    """The load of a turn, as ``bench.load`` takes it."""

    kind: str
    callers: int
    seconds: float
    agents: int
    warmup: int


class Turn(NamedTuple):
    """What one peer did under one load.

    ``busy`` is the share of its core that the peer used: well below 1 means that the other core
    was the limit. ``scripts_per_request`` counts calls to Redis, by Redis.
    """

    peer: str
    kind: str
    callers: int
    answered: int
    requests_per_s: float
    first_p50_ms: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    busy: float
    scripts_per_request: float


def _bare(port: int, _redis_url: str) -> Command:
    return Command((*_UVICORN, "--port", str(port), "bench.peers.bare:app"), {})


def _naive(port: int, redis_url: str) -> Command:
    arguments = (*_UVICORN, "--port", str(port), "--factory", "bench.peers.naive:create")
    return Command(arguments, {"BENCH_REDIS_URL": redis_url})


def _gateway(port: int, redis_url: str) -> Command:
    environment = {
        "GATEWAY_REDIS_URL": redis_url,
        "GATEWAY_PORT": str(port),
        "GATEWAY_OPS_PORT": "0",
        "GATEWAY_STORE_DEADLINE_MS": _STORE_DEADLINE_MS,
    }
    return Command(("-m", "gateway", "serve"), environment)


PEERS: Mapping[str, Callable[[int, str], Command]] = {
    "bare": _bare,
    "naive": _naive,
    "gateway": _gateway,
}
# Bare uvicorn answers by itself: there is nothing to book.
_BOOKS = ("naive", "gateway")


@contextmanager
def fresh_redis(cpus: set[int], folder: Path) -> Iterator[str]:
    """Run an empty Redis with the options that the gateway recommends; yield its address."""
    server = EmbeddedRedis(redis_binary(), folder, _OPTIONS)
    with pinned(cpus):
        server.start()
    try:
        yield server.url
    finally:
        server.stop()


@contextmanager
def fixed_upstream(cpus: set[int], folder: Path) -> Iterator[str]:
    """Run the upstream; yield its address."""
    port = free_port()
    command = Command(("-m", "bench.upstream", "--port", str(port)), {})
    with pinned(cpus), running(command, port, folder):
        yield f"http://127.0.0.1:{port}"


def play(peer: str, request: Request, upstream: str, cores: Cores, folder: Path) -> Turn:
    """Return what a peer did, started for this turn and ended after it.

    Raises:
        WrongAnswer: an answer was wrong.
        NotBooked: the answers were right, the books are not.
        ProcessFailed: a process did not start, or ended.
    """
    # A folder of its own, because what Redis writes in a campaign would fill a disk.
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        fresh_redis(cores.rest, Path(own) / "redis") as redis_url,
    ):
        asyncio.run(_prepare(redis_url, request.agents, upstream))
        port = free_port()
        command = PEERS[peer](port, redis_url)
        with (
            pinned(cores.measured),
            running(command, port, Path(own) / peer) as pid,
            pinned(cores.rest),
        ):
            before_s = cpu_s(pid)
            measured = _load(port, request)
            used_s = cpu_s(pid) - before_s
            scripts = asyncio.run(_check(peer, redis_url, measured.answered))
    cpu_us = used_s / measured.answered * 1e6
    return Turn(
        peer,
        request.kind,
        request.callers,
        measured.answered,
        measured.requests_per_s,
        measured.first_p50_ms,
        measured.p50_ms,
        measured.p99_ms,
        round(cpu_us, 1),
        round(cpu_us * measured.requests_per_s / 1e6, 2),
        round(scripts / measured.answered, 3),
    )


def middle(turns: Sequence[Turn]) -> Turn:
    """Return the turn whose every figure is the median of those of one peer under one load."""
    figures = {
        name: round(statistics.median(getattr(turn, name) for turn in turns), 3)
        for name in Turn._fields[3:]
    }
    return turns[0]._replace(**figures)


def _load(port: int, request: Request) -> Measured:
    words = [f"--{name}={value}" for name, value in request._asdict().items()]
    ended = subprocess.run(
        [sys.executable, "-m", "bench.load", "127.0.0.1", str(port), f"--key={KEY}", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise WrongAnswer(ended.stderr.strip())
    return Measured(**orjson.loads(ended.stdout))


async def _prepare(redis_url: str, agents: int, upstream: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await write_org(redis, agents, f"{upstream}/base")


async def _check(peer: str, redis_url: str, answered: int) -> int:
    async with Redis.from_url(redis_url) as redis:
        if peer in _BOOKS:
            await check_booked(redis, answered)
        stats = (await redis.info("commandstats")).get("cmdstat_evalsha")
    # A call that failed asked for a script that was not loaded yet, and was repeated.
    return int(stats["calls"]) - int(stats["failed_calls"]) if stats else 0
