"""The bill of the upstream: what it has run for whom, and what each call has cost there.

Every second call costs all of its quote, and an answer takes its time, so calls are always open.
"""

import asyncio
import random
from decimal import Decimal
from typing import NamedTuple

from tests.campaign.bill import MARK
from tests.stub_upstream import Received
from tests.upstream_answers import Answering, raw_answer

QUOTES = {"large": 5_000_000, "small": 1_000_000}
USUAL_S = 0.3


class Item(NamedTuple):
    """One call that was run."""

    org: str
    agent: str
    cost_microcents: int


class Bill:
    """Answers calls; ``items`` has each one that was run by its mark.

    The mark of a call begins with its org and ends at a slash. ``longest_s`` is how long an answer
    may take at most.
    """

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.longest_s = USUAL_S
        self._chance = random.Random(1)

    def answer(self, received: Received) -> Answering:
        """Run a call: it costs anything up to its quote."""
        mark = (received.header(MARK.encode()) or b"").decode()
        agent = received.path.decode().split("/")[1]
        quote = QUOTES[agent]
        cost = quote if self._chance.random() < 0.5 else self._chance.randrange(quote + 1)
        self.items[mark] = Item(mark.partition("/")[0], agent, cost)
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(self._chance.uniform(0, self.longest_s), done.set)
        cents = f"{Decimal(cost).scaleb(-6):f}"
        head = f"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbudget-cost: {cents}\r\n\r\n"
        return raw_answer(done, head.encode() + b"{}")

    def cost(self, org: str, agent: str = "") -> int:
        """Return what an org, or one of its agents, has cost in microcents."""
        return sum(
            item.cost_microcents
            for item in self.items.values()
            if item.org == org and agent in ("", item.agent)
        )
