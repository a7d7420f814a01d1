"""Losing: an older append-only file is restored, or everything is taken out, under load.

What Redis knew in the moment before is read in the step that ends it, so it is known to the entry
what was lost.
"""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.budgets.keys import EXPIRY, JOURNAL
from gateway.registry.rebuild import rebuild
from tests.loss.deployment import Deployment

_PAUSE_MS = 5_000


class LastWords(NamedTuple):
    """What Redis knew last: which reservations were held, and which ends were perhaps not booked.

    They are ids.
    """

    held: frozenset[str]
    journaled: frozenset[str]


def copy_of(there: Deployment) -> Path:
    """Copy the append-only file while it is written, as a snapshot of a disk does."""
    copy = there.redis.folder / "older"
    shutil.rmtree(copy, ignore_errors=True)
    return Path(shutil.copytree(there.redis.folder / "appendonlydir", copy))


async def restore(there: Deployment, copy: Path) -> LastWords:
    """Kill Redis and start it from an older copy of its file."""
    last = await _last(there, ("CLIENT", "PAUSE", str(_PAUSE_MS), "ALL"))
    there.redis.kill()
    files = there.redis.folder / "appendonlydir"
    await asyncio.to_thread(shutil.rmtree, files)
    await asyncio.to_thread(copy.rename, files)
    await asyncio.to_thread(there.redis.start)
    return last


async def empty(there: Deployment, pause_s: float) -> LastWords:
    """Take everything out, and rebuild it of Postgres after a while."""
    last = await _last(there, ("FLUSHALL",))
    await asyncio.sleep(pause_s)
    await rebuild(there.clients)
    return last


async def _last(there: Deployment, command: Sequence[str]) -> LastWords:
    async with there.clients.redis.pipeline(transaction=True) as pipe:
        pipe.zrange(EXPIRY, 0, -1)
        pipe.xrange(JOURNAL)
        pipe.execute_command(*command)
        held, entries, _ = await pipe.execute()
    return _words(held, entries)


def _words(held: Sequence[str], entries: Sequence[tuple[str, dict[str, Any]]]) -> LastWords:
    ids = (member.partition("|")[2] for member in held)
    return LastWords(frozenset(ids), frozenset(fields.get("id", "") for _, fields in entries))
