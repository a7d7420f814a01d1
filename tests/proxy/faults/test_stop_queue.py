"""A gateway that is told to stop while calls queue up loses none of them, and charges none twice.

STOP_ROUNDS=100 stops a hundred gateways, each at another moment; STOP_SEED begins at another seed.
"""

import asyncio
import os
import random
import signal
from typing import Any

import pytest

from tests.campaign.bill import MARK
from tests.campaign.load import Told, call
from tests.proxy import acme
from tests.proxy.conftest import StartProcess
from tests.stub_upstream import Received, StubUpstream
from tests.until import until
from tests.upstream_answers import Answering, raw_answer

CALLERS = 120
_FIRST = int(os.environ.get("STOP_SEED", "1"))
SEEDS = range(_FIRST, _FIRST + int(os.environ.get("STOP_ROUNDS", "3")))


class Desk:
    """An upstream that runs a call at once, and answers when ``opens`` is set."""

    def __init__(self) -> None:
        self.opens = asyncio.Event()
        self.cost_of_mark: dict[str, int] = {}

    def answer(self, received: Received) -> Answering:
        """Run a call: no two have the same cost."""
        mark = (received.header(MARK.encode()) or b"").decode()
        cost = self.cost_of_mark[mark] = 1_000 + len(self.cost_of_mark)
        head = f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: 0.{cost:06d}\r\n\r\n"
        return raw_answer(self.opens, head.encode() + b"{}")


async def _call_until_stopped(port: int, name: str) -> list[Told]:
    """Call again and again, until nobody answers any more."""
    told = list[Told]()
    while not told or told[-1].status == 200:
        told.append(await call(port, acme.KEY, "writer", f"{name}-{len(told)}"))
    return told


@pytest.mark.parametrize("seed", SEEDS)
async def test_stop_with_a_full_queue_loses_nothing(
    org: Any, redis_url: str, upstream: StubUpstream, start_process: StartProcess, seed: int
) -> None:
    """What was run is charged, what it has cost; what was not run is not; nothing stays held."""
    chance, desk = random.Random(seed), Desk()
    upstream.answers(desk.answer)
    reported = {"mode": "reported", "ceiling_cents": "1"}
    await acme.write_agent(org, "writer", upstream.url, reported)
    # A machine that is busy may not let Redis answer in time: that is not what is tested here.
    gateway = await start_process(
        redis_url, GATEWAY_DRAIN_S="20", GATEWAY_STORE_DEADLINE_MS="10000"
    )
    callers = [
        asyncio.create_task(_call_until_stopped(gateway.port, f"{seed}-{number}"))
        for number in range(CALLERS)
    ]
    # At the first ones the others are still on their way in; later all wait for their answers, or
    # have had some and are on their way again.
    met = chance.randrange(1, 3 * CALLERS)
    if met > CALLERS:
        desk.opens.set()
    await until(lambda: upstream.executions >= met, f"{met} calls to run", 30.0)

    gateway.process.send_signal(signal.SIGTERM)
    desk.opens.set()
    told = [each for caller in await asyncio.gather(*callers) for each in caller]
    await until(lambda: gateway.process.poll() is not None, "the gateway to end", 30.0)

    entries = {entry["id"]: int(entry["amount"]) for entry in await acme.journal(org)}
    whole = {each.id: each for each in told if each.status == 200}
    costs = desk.cost_of_mark
    assert gateway.process.returncode == 0
    assert sorted(entries.values()) == sorted(costs.values())
    assert {own_id: costs[each.mark] for own_id, each in whole.items()}.items() <= entries.items()
    assert all(each.cost_microcents == costs[each.mark] for each in whole.values())
    assert len(whole) == len(costs), "a call was run, and its caller was not told"
    assert {each.status for each in told} <= {200, 503, 0}
    total = sum(costs.values())
    assert await acme.counters(org) == {"org.spent": total, "agent.writer.spent": total}
    assert await org.zcard("bg:expiry") == 0
