"""A small campaign: a few faults under load, and every account is one story afterwards.

The large ones are a command: `make campaign`, or `python -m tests.campaign --faults 500 --seed 7`.
"""

import pytest

from tests.campaign.play import Plan, play

# One that is killed, one that refuses, one that is cut: the others have their turn in large ones.
ONLY = ("kill_gateway", "fill_memory", "cut_replies")


@pytest.mark.timeout(300)
async def test_books_are_one_story_after_faults() -> None:
    """What was answered is booked once, to the microcent, and nothing is held any more."""
    said = list[str]()

    plan = Plan(1, 4, callers=4, answers_between=10, faults_per_loss=4, only=ONLY)
    played = await play(plan, said.append)

    assert played.books.wrong == [], said
    assert played.books.answered > 0
    assert {*ONLY} < {*played.struck}
    assert played.struck.total() == 4
