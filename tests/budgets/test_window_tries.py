"""A server that names other windows is followed, three times, and then no longer.

T1 a reserve is proposed again in the windows that run, twice
T2 whoever is told other windows each time gets an answer all the same
"""

import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Held, Refused
from gateway.errors import StoreError
from tests.budgets.stub_redis import healthy, packed, stub_redis

ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
ASK = Ask(ID, "acme", "researcher", 5)
HELD = packed("HELD", "9", "total", "", "0", "0", "", "1", "1")
# More than anybody should ask for.
ASKED_MAX = 20


async def answered(
    call: Callable[[Budgets], Awaitable[object]], *replies: bytes
) -> tuple[object, int]:
    """Return what a call ends with, and how often it asked; the last reply is given for ever."""
    asked = 0

    def answer(command: list[bytes]) -> bytes | None:
        nonlocal asked
        if command[0] != b"EVALSHA":
            return healthy(command)
        asked += 1
        # Nothing more is said to who asks for ever.
        return replies[min(asked, len(replies)) - 1] if asked < ASKED_MAX else None

    scripts = load_scripts()
    async with stub_redis(answer) as stub:
        connection = Connection(read_address(stub.url), scripts, 2_000)
        await connection.start()
        await connection.tried()
        try:
            end: object = await call(Budgets(connection, scripts, 60_000, 1_000))
        except StoreError as error:
            end = error
        await connection.close()
    return end, asked


def other_windows() -> bytes:
    """Return the answer that another day runs."""
    now_ms = time.time_ns() // 1_000_000
    return packed("WINDOW", "UTC", "day", "1999-01-01", 0, now_ms + 60_000, 1, now_ms)


async def test_third_proposal_counts() -> None:
    """T1: at a boundary the first may be wrong, and after a change of zone the second one, too."""
    end, asked = await answered(
        lambda budgets: budgets.reserve(ASK), other_windows(), other_windows(), HELD
    )

    assert isinstance(end, Held)
    assert asked == 3


async def test_fourth_proposal_is_not_made() -> None:
    """T2: the caller may come back."""
    end, asked = await answered(lambda budgets: budgets.reserve(ASK), other_windows())

    assert (end, asked) == (Refused("WINDOW"), 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda budgets: budgets.release("acme", "researcher", ID, "total"),
        lambda budgets: budgets.extend(ASK, "total"),
    ],
    ids=["release", "extend"],
)
async def test_fourth_windows_are_not_followed(
    call: Callable[[Budgets], Awaitable[object]],
) -> None:
    """T2: such a server cannot be read."""
    end, asked = await answered(call, packed("WINDOWS", "day:1999-01-01,total", "", 1, 1))

    assert isinstance(end, StoreError)
    assert asked == 3
