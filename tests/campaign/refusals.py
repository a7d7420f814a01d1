"""Faults of what is there and refuses: a full memory, a read-only Redis, a full disk, a clock."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from tests.campaign.fault import gone
from tests.campaign.world import World

# Longer than a gateway insists before an end goes to its disk.
_INSISTS_S = 5.0
# An id that is further than five minutes from the clock of Redis is refused.
_JUMP_S_MAX = 400.0


@asynccontextmanager
async def _operator(world: World) -> AsyncIterator[Any]:
    async with Redis.from_url(world.redis.url) as redis:
        yield redis


async def fill_memory(world: World, chance: random.Random) -> None:
    """Leave Redis no memory: what would hold more is refused, what ends a hold is not."""
    async with _operator(world) as redis:
        await redis.config_set("maxmemory", 1)
        await gone(chance, 3.0)
        await redis.config_set("maxmemory", 0)


async def make_read_only(world: World, chance: random.Random) -> None:
    """Make Redis the replica of nobody, as a failover that goes wrong does: it takes no writes."""
    async with _operator(world) as redis:
        # Nobody listens there, so nothing is ever copied over what it holds.
        await redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await gone(chance, 3.0)
        await redis.execute_command("REPLICAOF", "NO", "ONE")


async def fill_disk(world: World, chance: random.Random) -> None:
    """Fill the disk of the spools while Redis is away for so long that ends have to go there."""
    world.disk.fill()
    world.redis.kill()
    await gone(chance, _INSISTS_S + 3.0, _INSISTS_S)
    has_room_first = chance.random() < 0.5
    if has_room_first:
        world.disk.free()
        await gone(chance, 1.0)
    await asyncio.to_thread(world.redis.start)
    if not has_room_first:
        await gone(chance, 1.0)
        world.disk.free()


async def jump_clock(world: World, chance: random.Random) -> None:
    """Let the clock of a gateway jump, forwards or backwards, and later back."""
    program = chance.choice(world.gateways)
    program.set_clock(chance.uniform(-_JUMP_S_MAX, _JUMP_S_MAX))
    await gone(chance, 3.0, 1.0)
    program.set_clock(0.0)
