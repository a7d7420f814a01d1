"""The server time of the scripts: what one call keeps Redis from doing anything else.

Reserve alone, then settle alone, 64 calls in one write, by Redis's own clock of EVALSHA. Our
scripts and the floor take turns on the same server, in many short rounds, so that a noisy moment is
noisy for both; the ratio is the median of the rounds' own ratios.
"""

import asyncio
import random
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis
from ulid import ULID

from bench.org import LIMITS, agent_name, write_org
from bench.verbs import Floor, Ours, Verbs, floor_scripts
from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Settled

PIPELINE = 64
_DEADLINE_MS = 30_000
_JOURNAL_MAX = 10_000_000
_SEED = 1


class ServerTime(NamedTuple):
    """Microseconds of server time per call, and how many times the floor's that is."""

    agents: int
    reserve_us: float
    floor_reserve_us: float
    reserve_ratio: float
    settle_us: float
    floor_settle_us: float
    settle_ratio: float


class ScriptRefused(Exception):
    """A script did not answer what the run needs: its time would be that of a refusal."""


async def measure(url: str, agents: int, rounds: int, calls: int) -> ServerTime:
    """Return the server time per call on an empty Redis, with so many agents that have spent.

    Raises:
        ScriptRefused: a call was not held or not settled.
    """
    ours, floor = load_scripts(), floor_scripts()
    async with Redis.from_url(url) as redis:
        await write_org(redis, agents, "http://127.0.0.1:9")
        await redis.hset("bg:{floor}:limits", mapping=LIMITS)
    connection = Connection(read_address(url), (*ours, *floor), _DEADLINE_MS)
    await connection.start()
    try:
        if not await connection.tried():
            raise ScriptRefused(connection.problem)
        budgets = Budgets(connection, ours, _DEADLINE_MS, _JOURNAL_MAX)
        forms: list[Verbs] = [Floor(connection, *floor), Ours(connection, budgets)]
        names = [agent_name(number) for number in range(agents)]
        return _summed(agents, await _measured(connection, forms, names, (rounds, calls)))
    finally:
        await connection.close()


async def _measured(
    connection: Connection, forms: list[Verbs], names: Sequence[str], size: tuple[int, int]
) -> list[dict[str, tuple[float, float]]]:
    (rounds, calls), chance = size, random.Random(_SEED)
    for form in forms:
        await _first_opening(form, names)
        await _round(connection, form, names)
    measured = []
    for _ in range(rounds):
        chosen = chance.choices(names, k=calls)
        measured.append({form.name: await _round(connection, form, chosen) for form in forms})
        forms.reverse()
    return measured


async def _first_opening(form: Verbs, names: Sequence[str]) -> None:
    """Open the windows with one call alone: the others then find them running."""
    id = str(ULID())
    await _all(form.reserve, [(id, names[0])], b"HELD")
    await _all(form.settle, [(id, names[0])], b"SETTLED")


async def _round(connection: Connection, form: Verbs, agents: Sequence[str]) -> tuple[float, float]:
    """Return the server time per reserve and per settle of one call for each agent."""
    calls = [(str(ULID()), agent) for agent in agents]
    reserved_us = await _timed(connection, form.reserve, calls, b"HELD")
    return reserved_us, await _timed(connection, form.settle, calls, b"SETTLED")


async def _timed(
    connection: Connection,
    verb: Callable[[str, str], "asyncio.Future[Any]"],
    calls: Sequence[tuple[str, str]],
    word: bytes,
) -> float:
    before = await _evalsha(connection)
    await _all(verb, calls, word)
    after = await _evalsha(connection)
    if after[0] - before[0] != len(calls):
        raise ScriptRefused(f"{len(calls)} calls became {after[0] - before[0]} on the server.")
    return (after[1] - before[1]) / len(calls)


async def _all(
    verb: Callable[[str, str], "asyncio.Future[Any]"],
    calls: Sequence[tuple[str, str]],
    word: bytes,
) -> None:
    for first in range(0, len(calls), PIPELINE):
        replies = await asyncio.gather(*(verb(*call) for call in calls[first : first + PIPELINE]))
        for reply in replies:
            found = reply.status.encode() if isinstance(reply, Settled) else reply[0]
            if found != word:
                raise ScriptRefused(f"A script answered {reply}, expected {word.decode()}.")


async def _evalsha(connection: Connection) -> tuple[int, int]:
    """Return how many scripts the server has run by their SHA, and for how many microseconds."""
    info: bytes = await connection.command("INFO", "commandstats")
    for line in info.decode().splitlines():
        name, _, text = line.partition(":")
        if name == "cmdstat_evalsha":
            fields = dict(field.split("=") for field in text.split(","))
            return int(fields["calls"]), int(fields["usec"])
    return 0, 0


def _summed(agents: int, rounds: Sequence[dict[str, tuple[float, float]]]) -> ServerTime:
    def median(verb: int, name: str) -> float:
        return round(statistics.median(times[name][verb] for times in rounds), 2)

    def ratio(verb: int) -> float:
        pairs = [times["ours"][verb] / times["floor"][verb] for times in rounds]
        return round(statistics.median(pairs), 3)

    return ServerTime(
        agents,
        *(median(0, "ours"), median(0, "floor"), ratio(0)),
        *(median(1, "ours"), median(1, "floor"), ratio(1)),
    )
