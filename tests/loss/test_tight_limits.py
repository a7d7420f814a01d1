"""Redis forgets under load, and a tight limit is never granted twice.

Three gateways, a worker, real stores, two orgs that use up their budgets after the loss: an older
append-only file is restored, or everything is taken out and rebuilt of Postgres. The upstream's own
bill is the judge. ``LOSS_ROUNDS=20 pytest tests/loss`` plays twenty rounds of each kind; a round is
named by its seed.
"""

import itertools
import os
import tempfile
from pathlib import Path
from typing import Literal

import pytest

from tests.loss.deployment import deployment
from tests.loss.play import Plan, play

ROUNDS = int(os.environ.get("LOSS_ROUNDS", "1"))
_ROUND_S = 120


@pytest.mark.timeout(60 + 2 * _ROUND_S * ROUNDS)
@pytest.mark.parametrize("loss", ["older file", "emptied"])
async def test_loss_grants_nothing_twice(loss: Literal["older file", "emptied"]) -> None:
    """Limits hold to the microcent, each answer is booked once, and a budget can be used up.

    Where a gateway is killed as Redis forgets, they are passed by its open calls at most.
    """
    wrong, answers = list[str](), 0
    # Not below the folder of pytest: started by root, Postgres runs as another user.
    with tempfile.TemporaryDirectory(prefix="loss-") as folder:
        async with deployment(Path(folder)) as there:
            for seed, kills in itertools.product(range(1, ROUNDS + 1), (False, True)):
                played = await play(there, Plan(loss, seed, kills))
                answers += played.statuses[200]
                name = f"seed {seed}{' with a gateway killed' if kills else ''}"
                wrong += [f"{name}: {sentence}" for sentence in played.wrong]

    assert wrong == []
    assert answers > 100 * ROUNDS
