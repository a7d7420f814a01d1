"""A small campaign: a few faults under load, and every account is one story afterwards.

The large ones are a command: `make campaign`, or `python -m tests.campaign --faults 500 --seed 7`.
"""

import pytest

from tests.campaign.faults import FAULTS, LOSSES
from tests.campaign.play import Plan, play

# Each seed strikes with other faults; together they are most of the table.
SEEDS = (1, 5)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
async def test_books_are_one_story_after_faults(seed: int) -> None:
    """What was answered is booked once, to the microcent, and nothing is held any more."""
    said = list[str]()

    played = await play(
        Plan(seed, 4, callers=4, answers_between=10, faults_per_loss=4), said.append
    )

    assert played.books.wrong == [], said
    assert played.books.answered > 0
    assert played.struck.total() == 4
    assert set(played.struck) <= {*FAULTS, *LOSSES}
