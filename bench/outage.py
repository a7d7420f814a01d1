"""Outages: a server that dies under load and is started again, and what it has forgotten."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from redis.asyncio import Redis

from bench.append_only_file import cut_power
from bench.org import ORG
from bench.settles import QUOTE_MICROCENTS, Load, Settle, load
from gateway.budgets.keys import EXPIRY, JOURNAL, org_key
from gateway.cli.embedded_redis import EmbeddedRedis

Death = Literal["process", "machine"]


class Books(NamedTuple):
    """What Redis says of the org, each figure from two places: they agree where it is whole."""

    spent: int
    journaled: int
    held: int
    quoted: int
    holds: int
    deadlines: int

    @property
    def are_whole(self) -> bool:
        """Whether counters, journal, holds and deadlines tell the same story."""
        return (self.spent, self.held, self.holds) == (self.journaled, self.quoted, self.deadlines)


class Outage(NamedTuple):
    """What was acknowledged before a server died, and what of it there was afterwards."""

    seconds: float
    died_s: float
    acknowledged: list[Settle]
    survived: set[str]
    books: Books

    @property
    def lost(self) -> list[Settle]:
        """The settles that were acknowledged and are not there."""
        return [settle for settle in self.acknowledged if settle.id not in self.survived]

    @property
    def oldest_lost_ms(self) -> float:
        """How long before the end the oldest of these was acknowledged."""
        return max(
            (1000 * max(0.0, self.died_s - settle.at_s) for settle in self.lost), default=0.0
        )


async def outage(
    server: EmbeddedRedis, death: Death, until_due: Callable[[Load], Awaitable[None]]
) -> Outage:
    """Load an empty server, let it die when that is due, start it again and compare."""
    async with load(server.url) as running:
        await until_due(running)
        died_s = time.monotonic()
        if death == "process":
            server.kill()
        else:
            cut_power(server)
        await running.end()
    await asyncio.to_thread(server.start)
    async with Redis.from_url(server.url, decode_responses=True) as redis:
        entries = [fields for _, fields in await redis.xrange(JOURNAL)]
        counters = await redis.hgetall(org_key(ORG, "spend:total"))
        holds = await redis.hlen(org_key(ORG, "holds"))
        books = Books(
            spent=int(counters.get("org.spent", 0)),
            journaled=sum(int(entry["counted"]) for entry in entries),
            held=int(counters.get("org.held", 0)),
            quoted=holds * QUOTE_MICROCENTS,
            holds=holds,
            deadlines=await redis.zcard(EXPIRY),
        )
    survived = {entry["id"] for entry in entries}
    return Outage(died_s - running.began_s, died_s, running.acknowledged, survived, books)
