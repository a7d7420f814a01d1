"""One campaign: faults by a seed under load, and the books afterwards.

The clock of Redis cannot jump here: its binary asks the kernel, and a clock of its own would need
root and another library. That of a gateway does.

python -m tests.campaign --faults 500 --seed 7       # half an hour; a table
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.campaign.books import Books, booked, settle_down, settled_books
from tests.campaign.fault import Fault
from tests.campaign.faults import FAULTS, LOSSES, OUTAGES
from tests.campaign.load import Load
from tests.campaign.watch import watching
from tests.campaign.world import World, world
from tests.until import until

# So many faults make a long campaign.
_LONG = 200


class Plan(NamedTuple):
    """How much of everything; the same seed strikes with the same faults in the same order.

    ``only`` are the faults to choose from, where not all of them are meant.
    """

    seed: int
    faults: int
    callers: int = 16
    answers_between: int = 20
    # One fault in so many is a loss of what Redis has confirmed; 0 is none.
    faults_per_loss: int = 8
    only: Sequence[str] = ()


class Played(NamedTuple):
    """What a campaign has done and left."""

    plan: Plan
    seconds: float
    struck: Counter[str]
    late_s: float
    books: Books


async def play(plan: Plan, progress: Callable[[str], object]) -> Played:
    """Play one campaign; where something is wrong, or does not come back, its folder is kept.

    Raises:
        AssertionError: something did not come back.
    """
    began_s, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix="campaign-"))
    progress(f"logs are in {folder}")
    async with world(folder) as there, httpx.AsyncClient() as client:
        progress(f"the disk of the spools is {'its own' if there.disk.is_mounted else 'shared'}")
        load = Load(there, plan.callers, plan.seed)
        async with watching(there.redis.url, lambda: there.worker.is_ready(client)) as watch:
            struck = await _strike(plan, there, load, progress)
            await settle_down(there)
            await _answered(there, load, plan.answers_between)
            await load.stop()
            has_lost = any(struck[loss] for loss in LOSSES)
            books = await settled_books(there, load.told, has_lost=has_lost)
    books.wrong.extend(watch.wrong)
    if not books.wrong:
        shutil.rmtree(folder)
    return Played(plan, time.monotonic() - began_s, struck, watch.late_s, books)


async def _strike(
    plan: Plan, there: World, load: Load, progress: Callable[[str], object]
) -> Counter[str]:
    chance, struck = random.Random(plan.seed), Counter[str]()
    decks = dict[tuple[str, ...], list[str]]()
    for number in range(plan.faults):
        await _answered(there, load, plan.answers_between)
        table = _table(plan, number)
        if table is LOSSES:
            await settle_down(there)
            await booked(there)
        deck = decks.setdefault(tuple(sorted(table)), [])
        if not deck:
            # Each strikes once before any strikes again.
            deck += chance.sample(sorted(table), len(table))
        fault = deck.pop()
        progress(f"{number + 1} {fault} after {len(load.told)} calls")
        await table[fault](there, chance)
        struck[fault] += 1
        # Who starts while Redis is away ends, and is started again by its supervisor.
        for program in (*there.gateways, there.worker):
            program.start()
    return struck


def _table(plan: Plan, number: int) -> Mapping[str, Fault]:
    is_loss = plan.faults_per_loss and number % plan.faults_per_loss == plan.faults_per_loss - 1
    if is_loss:
        return LOSSES
    if plan.faults >= _LONG and number == plan.faults // 2:
        return OUTAGES
    return {name: FAULTS[name] for name in plan.only} if plan.only else FAULTS


async def _answered(there: World, load: Load, more: int) -> None:
    """Wait until so many more calls have had their answer, so that a fault meets something."""
    enough = _whole(load) + more
    try:
        await until(lambda: _whole(load) >= enough, f"{more} calls to be answered", 60.0)
    except AssertionError as error:
        raise AssertionError(f"{error} {await there.states()}") from error


def _whole(load: Load) -> int:
    return sum(told.status == 200 for told in load.told)
