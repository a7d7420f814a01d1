"""Settles: a load of calls through our own scripts, and which of them Redis has acknowledged."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from redis.asyncio import Redis
from ulid import ULID

from bench.answers import COST_MICROCENTS
from bench.org import KEY_DIGEST, ORG, agent_name, write_org
from gateway.budgets.address import read_address
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.settling import Settling
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Held, Settled
from gateway.errors import StoreError

QUOTE_MICROCENTS = 2 * COST_MICROCENTS
_AGENTS = 10
_CALLERS = 64
_DEADLINE_MS = 30_000
_TTL_MS = 600_000
_JOURNAL_MAX = 10_000_000


class Settle(NamedTuple):
    """One settle that Redis has acknowledged: its number in the org, and when that was read."""

    id: str
    seq: int
    at_s: float


class Load:
    """Callers that reserve and settle one call after the other for as long as Redis answers."""

    def __init__(self, budgets: Budgets) -> None:
        self.acknowledged: list[Settle] = []
        self.began_s = time.monotonic()
        self._budgets = budgets
        callers = [self._calls(agent_name(number % _AGENTS)) for number in range(_CALLERS)]
        self._callers = asyncio.gather(*callers)

    async def end(self) -> None:
        """Wait until no caller is left; what Redis had answered before its end is read then."""
        await self._callers

    async def _calls(self, agent: str) -> None:
        while True:
            ask = Ask(str(ULID()), ORG, agent, QUOTE_MICROCENTS, KEY_DIGEST)
            try:
                held = await self._budgets.reserve(ask)
                assert isinstance(held, Held), held
                await self._settled(ask, held.windows)
            except StoreError:
                return

    def _settled(self, ask: Ask, windows: str) -> "asyncio.Future[None]":
        answer = _Answer(self.acknowledged)
        settlement = Settlement(ORG, ask.agent, ask.id, windows, COST_MICROCENTS, b"{}")
        send = self._budgets.calls.settle
        send(settlement, windows, Settling(settlement, send, answer))
        return answer.future


@asynccontextmanager
async def load(url: str) -> AsyncIterator[Load]:
    """Yield a load on an empty Redis."""
    async with Redis.from_url(url) as redis:
        await write_org(redis, _AGENTS, "http://127.0.0.1:9")
    scripts = load_scripts()
    connection = Connection(read_address(url), scripts, _DEADLINE_MS)
    await connection.start()
    try:
        await connection.tried()
        yield Load(Budgets(connection, scripts, _TTL_MS, _JOURNAL_MAX))
    finally:
        await connection.close()


class _Answer:
    """Notes one acknowledgement in the moment in which it is read."""

    def __init__(self, acknowledged: list[Settle]) -> None:
        self.future = asyncio.get_running_loop().create_future()
        self._acknowledged = acknowledged

    def ended(self, settlement: Settlement, end: Settled, seq: int, /) -> None:
        """Take what Redis has made of it."""
        assert end.status == "SETTLED", end
        self._acknowledged.append(Settle(settlement.id, seq, time.monotonic()))
        self.future.set_result(None)

    def failed(self, _: Settlement, fault: StoreError, /) -> None:
        """Take why that is not known."""
        self.future.set_exception(fault)
