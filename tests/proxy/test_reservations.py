"""A reservation ends once: the first end counts, whatever comes later."""

from typing import Any

import pytest

from gateway.proxy.meter import Metered
from gateway.proxy.reservations import Reservation
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway

COST = Metered(3, "flat")


def end(reservation: Reservation, how: str) -> None:
    """Settle or release it."""
    if how == "settle":
        reservation.settle(COST, 200)
    else:
        reservation.release()


@pytest.mark.parametrize("second", ["settle", "release"])
@pytest.mark.parametrize("first", ["settle", "release"])
async def test_first_end_counts(org: Any, gateway: PlaneGateway, first: str, second: str) -> None:
    """An answer and a failure behind it, or a caller who leaves twice."""
    reservations = gateway.plane.reservations
    reservation = await reservations.reserve(acme.ask(5), acme.CALLER)
    assert isinstance(reservation, Reservation)

    end(reservation, first)
    end(reservation, second)
    await gateway.settled()

    spent = {"org.spent": 3, "agent.researcher.spent": 3} if first == "settle" else {}
    assert await acme.counters(org) == spent
    assert len(await acme.journal(org)) == len(spent) // 2
