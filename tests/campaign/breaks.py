"""Faults of the wire between the gateways and Redis, which both ends survive."""

import random

from tests.campaign.fault import gone
from tests.campaign.wire import Way, cuts
from tests.campaign.world import World

# A reply to reserve has about 150 bytes; what a connection hears at its start has a few hundred.
_REPLY_BYTES_MAX = 2_000
_SLOWEST_S = 0.3


async def cut_replies(world: World, chance: random.Random) -> None:
    """Cut every connection in the middle of a reply, those that are made meanwhile too."""
    world.wire.cut_after = cuts(chance, _REPLY_BYTES_MAX)
    await gone(chance, 2.0)
    world.wire.cut_after = None


async def _held(world: World, chance: random.Random, way: Way) -> None:
    world.wire.hold(way)
    await gone(chance, 3.0)
    world.wire.flow(way)


async def hold_replies(world: World, chance: random.Random) -> None:
    """Let Redis do what it is told, and say nothing: all outcomes are unknown for a while."""
    await _held(world, chance, "replies")


async def hold_calls(world: World, chance: random.Random) -> None:
    """Keep what gateways say for a while: Redis does it after they have given up."""
    await _held(world, chance, "calls")


async def slow_wire(world: World, chance: random.Random) -> None:
    """Let each piece of each conversation take its time."""
    world.wire.pause_s = chance.uniform(0, _SLOWEST_S)
    await gone(chance, 3.0)
    world.wire.pause_s = 0.0


async def half_open(world: World, chance: random.Random) -> None:
    """Lose the other end of every connection without a word; new ones are whole."""
    world.wire.lose()
    await gone(chance, 1.0)
