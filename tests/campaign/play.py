"""One campaign: faults by a seed under load, and the books afterwards.

python -m tests.campaign --faults 500 --seed 7       # about fifteen minutes; a table
"""

import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from tests.campaign.books import Books, settle_down, settled_books
from tests.campaign.faults import FAULTS, LOSSES, Fault
from tests.campaign.load import Load
from tests.campaign.world import world
from tests.until import until


class Plan(NamedTuple):
    """How much of everything; the same seed strikes with the same faults in the same order."""

    seed: int
    faults: int
    callers: int = 16
    answers_between: int = 20
    # One fault in so many is a loss of what Redis has confirmed; 0 is none.
    faults_per_loss: int = 8


class Played(NamedTuple):
    """What a campaign has done and left."""

    plan: Plan
    seconds: float
    struck: Counter[str]
    books: Books


async def play(plan: Plan, progress: Callable[[str], object]) -> Played:
    """Play one campaign.

    Raises:
        AssertionError: something did not come back.
    """
    chance, struck, began_s = random.Random(plan.seed), Counter[str](), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-") as name:
        async with world(Path(name)) as there:
            load = Load(there, plan.callers, plan.seed)
            for number in range(plan.faults):
                await _answered(load, plan.answers_between)
                table = _table(plan, number)
                if table is LOSSES:
                    await settle_down(there)
                fault = chance.choice(sorted(table))
                progress(f"{number + 1} {fault} after {len(load.told)} calls")
                await table[fault](there, chance)
                struck[fault] += 1
                # Who starts while Redis is away ends, and is started again by its supervisor.
                for program in (*there.gateways, there.worker):
                    program.start()
            await settle_down(there)
            await _answered(load, plan.answers_between)
            await load.stop()
            has_lost = any(struck[loss] for loss in LOSSES)
            books = await settled_books(there, load.told, has_lost=has_lost)
    return Played(plan, time.monotonic() - began_s, struck, books)


def _table(plan: Plan, number: int) -> Mapping[str, Fault]:
    is_loss = plan.faults_per_loss and number % plan.faults_per_loss == plan.faults_per_loss - 1
    return LOSSES if is_loss else FAULTS


async def _answered(load: Load, more: int) -> None:
    """Wait until so many more calls have had their answer, so that a fault meets something."""
    enough = _whole(load) + more
    await until(lambda: _whole(load) >= enough, f"{more} calls to be answered", 60.0)


def _whole(load: Load) -> int:
    return sum(told.status == 200 for told in load.told)
