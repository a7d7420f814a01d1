"""What a run is refused for: books that do not agree with the answers, scripts that refuse."""

from typing import Any

import pytest

from bench import org
from bench.answers import COST_MICROCENTS
from bench.org import NotBooked, check_booked, write_org
from bench.server_time import ScriptRefused, ServerTime, measure
from bench.targets import lead, script_targets, turn_targets
from bench.turn import Turn, middle
from gateway.budgets.keys import JOURNAL, org_key

SPENT = org_key(org.ORG, "spend:total")
NAIVE = Turn("naive", "json", 64, 100, 500.0, 1.0, 1.0, 1.0, 1200.0, 1.0, 2.0)
FAST = NAIVE._replace(peer="gateway", requests_per_s=6000.0, cpu_us=100.0, busy=0.95)


async def write_books(redis: Any, answers: int, **changes: int) -> None:
    """Write what so many settled calls leave."""
    counters = {"org.spent": answers * COST_MICROCENTS, "org.held": 0, **changes}
    await redis.hset(SPENT, mapping=counters)
    for _ in range(answers):
        await redis.xadd(JOURNAL, {"kind": "settle"})


async def test_books_that_agree_pass(redis: Any) -> None:
    """Each answer has paid its cost and left one entry."""
    await write_books(redis, 3)

    await check_booked(redis, 3)


@pytest.mark.parametrize(
    ("answered", "changes"), [(2, {}), (4, {}), (3, {"org.held": 1}), (3, {"org.spent": 1})]
)
async def test_books_that_disagree_end_the_run(
    redis: Any, answered: int, changes: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that was paid twice or not at all, or is still held, gets no figure."""
    monkeypatch.setattr(org, "_SETTLED_S", 0.05)
    await write_books(redis, 3, **changes)

    with pytest.raises(NotBooked, match=f"After {answered} answers"):
        await check_booked(redis, answered)


async def test_scripts_that_refuse_are_not_timed(redis: Any, redis_url: str) -> None:
    """The time of a refusal must not pass for that of a hold."""
    await write_org(redis, 1, "http://127.0.0.1:9")
    await redis.hset(org_key(org.ORG, "limits"), "org.per_call_cents", "0")

    with pytest.raises(ScriptRefused, match="PER_CALL"):
        await measure(redis_url, 1, 1, 1)


def test_targets_tell_met_from_missed() -> None:
    """Twelve times the naive gateway with two scripts per request is met, one less is not."""
    slow = FAST._replace(cpu_us=FAST.cpu_us * 1.01)

    assert [target.met for target in turn_targets(lead([FAST], [NAIVE]), 2.0)] == [True, True]
    assert [target.met for target in turn_targets(lead([slow], [NAIVE]), 3.0)] == [False, False]


def test_script_targets_tell_met_from_missed() -> None:
    """Half as much again as the floor is the most."""
    found = script_targets([ServerTime(10, 3.0, 2.0, 1.5, 3.1, 2.0, 1.51)])

    assert [target.met for target in found] == [True, False]


def test_lead_says_when_the_other_cores_were_the_limit() -> None:
    """A gateway whose core was idle could have done more than it was asked for."""
    assert lead([FAST], [NAIVE]) == (12.0, 12.0, False)
    assert lead([FAST._replace(busy=0.8)], [NAIVE]).others_were_limit


def test_lead_is_that_of_most_rounds() -> None:
    """A machine that was slow for both says the same; one that was for one is outvoted."""
    slow = [turn._replace(cpu_us=2 * turn.cpu_us) for turn in (FAST, NAIVE)]
    fast, naive = [FAST, slow[0], slow[0]], [NAIVE, slow[1], NAIVE]

    assert lead(fast, naive).per_cpu_second == 12.0


def test_middle_is_the_median_of_each_figure() -> None:
    """One round that the machine has spoiled does not count."""
    spoiled = FAST._replace(requests_per_s=10.0, p99_ms=900.0)

    assert middle([FAST, spoiled, FAST]) == FAST
