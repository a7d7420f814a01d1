"""How long the fuzz tests search: `GATEWAY_TEST_FUZZ=50 pytest ...` looks at 50 times as much.

What fails is printed with its smallest input; `--hypothesis-seed=N` searches the same again.
"""

import os

from hypothesis import HealthCheck, settings

_FACTOR = int(os.environ.get("GATEWAY_TEST_FUZZ", "1"))


def examples(count: int) -> settings:
    """Return the settings of a search: so many examples in a run of all tests."""
    return settings(
        max_examples=count * _FACTOR,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )
