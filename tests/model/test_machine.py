"""The contract as a state machine: any verb after any other, and both books the same after each.

Hypothesis shrinks a failure to the fewest steps. ``python -m tests.model.walk`` takes the same
steps by the million, on fakeredis and on real servers.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.steps import WEIGHTS, Walk
from tests.model.stores import FakeStore
from tests.model.twin import load

_dice = st.randoms(use_true_random=False)
_store = FakeStore()
load(_store)


class Contract(RuleBasedStateMachine):
    """One org; each step runs on the model and on fakeredis, and all they hold is compared."""

    @initialize(dice=_dice)
    def begin(self, dice: Random) -> None:
        """Open the org with limits of some kind."""
        self.walk = Walk(_store, dice)

    def take(self, dice: Random, step: Callable[[Walk], None]) -> None:
        """Do a step with dice of its own, and compare."""
        self.walk.dice = dice
        self.walk.do(step)
        self.walk.twin.check()


def _rule(step: Callable[[Walk], None]) -> Any:
    def taken(self: Contract, dice: Random) -> None:
        self.take(dice, step)

    taken.__name__ = step.__name__
    return rule(dice=_dice)(taken)


# Twice what comes often: a rule is chosen as often as any other.
for _step, _weight in WEIGHTS.items():
    for _turn in range(1 + (_weight > 5)):
        setattr(Contract, f"{_step.__name__}_{_turn}", _rule(_step))

TestContract = Contract.TestCase
TestContract.settings = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
