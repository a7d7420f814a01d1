"""What a fault is: it strikes, and mends what it has broken before it ends."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.campaign.world import World

Fault = Callable[[World, random.Random], Awaitable[None]]


async def gone(chance: random.Random, longest_s: float, shortest_s: float = 0.0) -> None:
    """Wait for as long as something is away: the length is the fault's own, not a guess."""
    await asyncio.sleep(chance.uniform(shortest_s, longest_s))
