"""The faults of a campaign: what can be killed, stopped and cut, each mended before it ends."""

import asyncio
import os
import random
import shutil
import signal

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.campaign.breaks import cut_replies, half_open, hold_calls, hold_replies, slow_wire
from tests.campaign.fault import Fault, gone
from tests.campaign.program import Program
from tests.campaign.refusals import fill_disk, fill_memory, jump_clock, make_read_only
from tests.campaign.world import World

_LONG_S, _LONGER_S = 10.0, 150.0


async def _killed(program: Program, chance: random.Random) -> None:
    program.end(signal.SIGKILL)
    await gone(chance, 1.0)
    program.start()


async def _frozen(program: Program, chance: random.Random) -> None:
    program.signal(signal.SIGSTOP)
    await gone(chance, 2.0)
    program.signal(signal.SIGCONT)


async def kill_gateway(world: World, chance: random.Random) -> None:
    """Kill a gateway with all its calls."""
    await _killed(chance.choice(world.gateways), chance)


async def kill_worker(world: World, chance: random.Random) -> None:
    """Kill the worker, wherever it is in a batch."""
    await _killed(world.worker, chance)


async def freeze_gateway(world: World, chance: random.Random) -> None:
    """Stop a gateway, and let it go on as if nothing had been."""
    await _frozen(chance.choice(world.gateways), chance)


async def freeze_worker(world: World, chance: random.Random) -> None:
    """Stop the worker, and let it go on as if nothing had been."""
    await _frozen(world.worker, chance)


async def stop_gateway(world: World, chance: random.Random) -> None:
    """Ask a gateway to stop, as a deployment does, and start it again."""
    program = chance.choice(world.gateways)
    program.start()
    await program.ready()
    code = await asyncio.to_thread(program.end, signal.SIGTERM)
    assert code == 0, f"a gateway that was asked to stop ended with {code}"
    program.start()


async def kill_redis(world: World, chance: random.Random) -> None:
    """Kill Redis; what it has answered is on its disk."""
    world.redis.kill()
    await gone(chance, 2.0)
    await asyncio.to_thread(world.redis.start)


async def freeze_redis(world: World, chance: random.Random) -> None:
    """Stop Redis: its sockets stay, and nobody answers."""
    os.kill(world.redis.pid, signal.SIGSTOP)
    await gone(chance, 3.0)
    os.kill(world.redis.pid, signal.SIGCONT)


async def kill_postgres(world: World, chance: random.Random) -> None:
    """Kill Postgres, wherever a transaction is."""
    await asyncio.to_thread(world.postgres.kill)
    await gone(chance, 3.0)
    await asyncio.to_thread(world.postgres.start)


async def lose_postgres(world: World, _chance: random.Random) -> None:
    """Take Postgres away for ten seconds: the journal keeps what the ledger does not take."""
    await asyncio.to_thread(world.postgres.kill)
    await asyncio.sleep(_LONG_S)
    await asyncio.to_thread(world.postgres.start)


async def lose_postgres_for_minutes(world: World, _chance: random.Random) -> None:
    """Take Postgres away for two and a half minutes, while calls go on."""
    await asyncio.to_thread(world.postgres.kill)
    await asyncio.sleep(_LONGER_S)
    await asyncio.to_thread(world.postgres.start)


async def cut_connections(world: World, _chance: random.Random) -> None:
    """Cut every connection to Redis in the middle of whatever it says."""
    async with Redis.from_url(world.redis.url) as redis:
        try:
            await redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        except (RedisError, OSError):
            return


async def forget_scripts(world: World, _chance: random.Random) -> None:
    """Let Redis forget every script."""
    async with Redis.from_url(world.redis.url) as redis:
        try:
            await redis.script_flush()
        except (RedisError, OSError):
            return


async def restore_redis(world: World, chance: random.Random) -> None:
    """Kill Redis and start it again from an older copy of its append-only file."""
    files, copy = world.redis.folder / "appendonlydir", world.redis.folder / "older"
    shutil.rmtree(copy, ignore_errors=True)
    # Copied while it is written, as a snapshot of a disk would be: its last command may be torn.
    await asyncio.to_thread(shutil.copytree, files, copy)
    await gone(chance, 3.0)
    world.redis.kill()
    await asyncio.to_thread(shutil.rmtree, files)
    copy.rename(files)
    await asyncio.to_thread(world.redis.start)


async def empty_redis(world: World, chance: random.Random) -> None:
    """Take everything out of Redis, and rebuild it of Postgres."""
    async with Redis.from_url(world.redis.url) as redis:
        await redis.flushall()
    await gone(chance, 1.0)
    await world.rebuild()


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_gateway,
        kill_worker,
        freeze_gateway,
        freeze_worker,
        stop_gateway,
        kill_redis,
        freeze_redis,
        kill_postgres,
        lose_postgres,
        cut_connections,
        forget_scripts,
        fill_memory,
        make_read_only,
        fill_disk,
        jump_clock,
        cut_replies,
        hold_replies,
        hold_calls,
        slow_wire,
        half_open,
    )
}
# In the middle of a long campaign, once: it would make each of them longer by hours.
OUTAGES: dict[str, Fault] = {lose_postgres_for_minutes.__name__: lose_postgres_for_minutes}
# After these Redis has forgotten what it had confirmed. What nobody else knows is lost: a hold
# whose gateway was killed before. So they strike where everything runs and is booked.
LOSSES: dict[str, Fault] = {fault.__name__: fault for fault in (restore_redis, empty_redis)}
