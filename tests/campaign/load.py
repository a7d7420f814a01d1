"""The load of a campaign: callers that go on calling, and remember what they were told."""

import asyncio
import random
from contextlib import suppress
from typing import NamedTuple

import httptools

from gateway.domain.money import microcents_from_cents
from tests.campaign.bill import MARK
from tests.campaign.world import AGENTS, World

_READ_BYTES = 65_536
# Longer than anything that a call may wait for.
_PATIENCE_S = 60.0
# Where a gateway is down, its callers do not spin.
_PAUSE_S = 0.02


class Told(NamedTuple):
    """What one caller was told of one call; ``status`` is 0 where its answer was not whole.

    ``cost_microcents`` is None where the head could not say it yet.
    """

    mark: str
    agent: str
    status: int
    id: str
    cost_microcents: int | None


class _Answer:
    """What the parser reads of one answer."""

    def __init__(self) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.is_whole = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.lower()] = value

    def on_message_complete(self) -> None:
        self.is_whole = True


class Load:
    """Callers until ``stop``; ``told`` is what they were told."""

    def __init__(self, world: World, callers: int, seed: int) -> None:
        self.told: list[Told] = []
        self._world = world
        self._stopping = False
        self._tasks = [
            asyncio.create_task(
                self._call_on(f"{seed}-{number}", random.Random(f"{seed}/{number}"))
            )
            for number in range(callers)
        ]

    async def stop(self) -> None:
        """Let the calls that run come to their end."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def _call_on(self, name: str, chance: random.Random) -> None:
        number = 0
        while not self._stopping:
            number += 1
            port = chance.choice(self._world.gateways).port
            agent = chance.choice(AGENTS)
            told = await call(port, self._world.key, agent, f"{name}-{number}")
            self.told.append(told)
            if told.status != 200:
                await asyncio.sleep(_PAUSE_S)


async def call(port: int, key: str, agent: str, mark: str) -> Told:
    """Make one call over a connection of its own."""
    answer = _Answer()
    parser, status = httptools.HttpResponseParser(answer), 0
    with suppress(OSError, httptools.HttpParserError, TimeoutError):
        async with asyncio.timeout(_PATIENCE_S):
            status = await _exchange(port, key, agent, mark, parser)
    cost = answer.headers.get(b"budget-cost")
    return Told(
        mark,
        agent,
        status if answer.is_whole else 0,
        answer.headers.get(b"budget-request-id", b"").decode(),
        microcents_from_cents(cost.decode()) if cost is not None else None,
    )


async def _exchange(
    port: int, key: str, agent: str, mark: str, parser: httptools.HttpResponseParser
) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"POST /agents/{agent}/run HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n"
            f"{MARK}: {mark}\r\nauthorization: Bearer {key}\r\n"
            "content-length: 2\r\n\r\n{}".encode()
        )
        while data := await reader.read(_READ_BYTES):
            parser.feed_data(data)
        return parser.get_status_code()
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
