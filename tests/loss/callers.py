"""Callers that go on calling two orgs until their budgets are used up, and remember the answers."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from tests.campaign.load import Told, call
from tests.loss.bill import QUOTES
from tests.loss.deployment import Deployment

CALLERS = 24
# While calls are refused, callers do not spin.
_PAUSE_S = 0.1


class Open(NamedTuple):
    """A call that was made: through which gateway, and for how much at most."""

    gateway: int
    org: str
    quote_microcents: int


class Callers:
    """Callers until ``stop``.

    ``told`` is what they were told, ``made`` each call by its mark and ``open`` the marks of those
    that wait for their answer. ``used_up`` are the orgs whose smallest call was refused for money.
    """

    def __init__(self, there: Deployment, keys: Mapping[str, str], seed: int) -> None:
        self.told: list[Told] = []
        self.made: dict[str, Open] = {}
        self.open: set[str] = set()
        self.used_up: set[str] = set()
        self._there = there
        self._keys = keys
        self._stopping = False
        orgs = sorted(keys)
        self._tasks = [
            asyncio.create_task(
                self._call_on(orgs[number % len(orgs)], number, random.Random(f"{seed}/{number}"))
            )
            for number in range(CALLERS)
        ]

    async def stop(self) -> None:
        """Let the calls that run come to their end."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    def statuses(self) -> Counter[int]:
        """Return how many calls have had which answer; 0 is none, or not a whole one."""
        return Counter(told.status for told in self.told)

    def refused(self) -> int:
        """Return how many calls were refused because there was no room."""
        return sum(told.status in (402, 429) for told in self.told)

    async def _call_on(self, org: str, number: int, chance: random.Random) -> None:
        count = 0
        while not self._stopping:
            count += 1
            gateway, agent = chance.randrange(len(self._there.gateways)), chance.choice([*QUOTES])
            mark = f"{org}/{number}-{count}"
            self.made[mark] = Open(gateway, org, QUOTES[agent])
            self.open.add(mark)
            told = await call(self._there.gateways[gateway].port, self._keys[org], agent, mark)
            self.open.discard(mark)
            self.told.append(told)
            if told.status == 402 and agent == "small":
                self.used_up.add(org)
            if told.status != 200:
                await asyncio.sleep(_PAUSE_S)
