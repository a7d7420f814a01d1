"""Redo tells a hold as it is now: its amount, and a whole life from this moment on."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from ulid import ULID

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.proxy.redo import Redo
from gateway.proxy.reservations import Reservation, Reservations
from gateway.proxy.settlements import Settlements
from gateway.proxy.spool import Spool
from gateway.telemetry import ProxyMetrics
from tests.proxy import acme
from tests.until import until

HOLDS = "bg:{acme}:holds"


class Gateway:
    """The part of a gateway that holds, and tells its holds again."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        metrics = ProxyMetrics(CollectorRegistry())
        budgets = Budgets(connection, load_scripts(), 60_000, 1000)
        settlements = Settlements(budgets, Spool(folder), metrics)
        self.reservations = Reservations(budgets, settlements, metrics)
        self.redo = Redo(budgets, self.reservations, settlements, metrics, self._lost)

    async def held(self, **changes: Any) -> Reservation:
        """Hold 5 microcents."""
        reservation = await self.reservations.reserve(acme.ask(5, **changes), acme.CALLER)
        assert isinstance(reservation, Reservation)
        return reservation

    async def _lost(self) -> None:
        return


@pytest.fixture
async def gateway(redis: Any, redis_url: str, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Yield a gateway before acme that does not look at its holds by itself."""
    await acme.write_org(redis)
    connection = Connection(read_address(redis_url), load_scripts(), 500)
    await connection.start()
    await connection.tried()
    own = Gateway(connection, tmp_path)
    yield own
    await own.redo.close()
    await own.reservations.close()
    await connection.close()


async def now_ms(redis: Any) -> int:
    """Return the instant of the server."""
    seconds, microseconds = await redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


async def test_hold_of_a_gateway_whose_clock_is_ahead_lives_on(
    gateway: Gateway, redis: Any
) -> None:
    """Its id is two minutes younger than Redis, and it is told before its first extension."""
    ahead = str(ULID.from_timestamp(await now_ms(redis) + 120_000))
    reservation = await gateway.held(id=ahead)
    told_ms = await now_ms(redis)
    await redis.delete(HOLDS, "bg:expiry", "bg:{acme}:spend:total")

    gateway.redo.renewed()

    member = f"acme|{reservation.ask.id}"

    async def deadline_ms() -> float:
        return await redis.zscore("bg:expiry", member) or 0.0

    await until(deadline_ms, "the hold to be made again")
    # The look at the clock of Redis is good to a moment.
    assert await deadline_ms() > told_ms + 50_000


async def test_hold_of_before_its_extension_lives_as_long_as_after_it(
    gateway: Gateway, redis: Any
) -> None:
    """An older file has the hold as it was first; nobody may expire it sooner than was granted."""
    reservation = await gateway.held(ttl_ms=2000)
    member, record = f"acme|{reservation.ask.id}", await redis.hget(HOLDS, reservation.ask.id)
    first_ms = await redis.zscore("bg:expiry", member)
    gateway.reservations.start()

    async def is_later(instant_ms: float) -> bool:
        return bool(await redis.zscore("bg:expiry", member) > instant_ms)

    await until(lambda: is_later(first_ms), "the hold to be extended")
    await gateway.reservations.close()
    extended_ms = await redis.zscore("bg:expiry", member)
    await redis.hset(HOLDS, reservation.ask.id, record)
    await redis.zadd("bg:expiry", {member: first_ms})

    gateway.redo.renewed()

    # Both are told by clocks that were read at other moments.
    await until(lambda: is_later(extended_ms - 100), "the hold to be raised")
    again = (await redis.hget(HOLDS, reservation.ask.id)).split("|")
    assert (again[1], float(again[6])) == ("5", await redis.zscore("bg:expiry", member))
