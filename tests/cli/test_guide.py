"""The printed lines follow where the budget stands; a budget without a limit promises no 402."""

import re
import sys

import pytest

from gateway.cli.demo import Demo
from gateway.cli.guide import BUDGET, MODEL, Place, guide
from gateway.domain.budget import Budget, Counters
from gateway.domain.price import quote_of
from gateway.domain.window import Window
from gateway.proxy.prices import Prices
from gateway.registry.standings import Standing

PLACE = Place("http://127.0.0.1:8080", 6380, Demo("bgk_demo_k1_secret", 9000))
DAY = Window("day", "2026-11-25", 0, 1)
PRICE = Prices().price_of(MODEL)


def standing(limit_microcents: int | None, spent_microcents: int = 0) -> Standing:
    """Return where the budget of the demo stands."""
    budget = None
    if limit_microcents is not None:
        budget = Budget("agent.researcher", "day", limit_microcents, "hard", 8000)
    return Standing("agent.researcher", DAY, budget, Counters(spent_microcents, 0, 0), "HELD")


@pytest.mark.parametrize(
    ("limit_microcents", "spent_microcents"),
    [(2_000_000, 0), (2_000_000, 1_900_000), (640_000_000, 3_000_000), (0, 0), (1_000, 9_000_000)],
)
def test_refused_call_does_not_fit_and_fits_after_the_raise(
    limit_microcents: int, spent_microcents: int
) -> None:
    """What is printed as 402 costs more than is left, and less than is left after the raise."""
    assert PRICE is not None
    printed = guide(PLACE, standing(limit_microcents, spent_microcents), PRICE)

    tokens = max(map(int, re.findall(r'"max_tokens":(\d+)', printed)))
    raised = re.search(rf"HSET 'bg:{{demo}}:limits' {BUDGET}.limit_cents (\d+)", printed)
    cost = quote_of(0, tokens, PRICE)
    assert cost > limit_microcents - spent_microcents
    assert raised is not None
    assert cost < int(raised[1]) * 1_000_000 - spent_microcents


def test_budget_without_a_limit_promises_no_refusal() -> None:
    """Somebody has lifted the limit of the demo: only the call that fits is left to show."""
    printed = guide(PLACE, standing(None), PRICE)

    assert "402" not in printed
    assert printed.count("curl") == 1
    assert "has no valid limit" in printed


def test_model_without_a_price_promises_no_refusal() -> None:
    """Where the price list has lost the model of the demo, nothing is said about its cost."""
    assert "402" not in guide(PLACE, standing(2_000_000), None)


@pytest.mark.parametrize(
    ("on_path", "started", "program"),
    [
        ("/usr/bin/budget-gateway", "anything", "budget-gateway"),
        (None, ".venv/bin/budget-gateway", ".venv/bin/budget-gateway"),
        (None, "/lib/gateway/__main__.py", f"{sys.executable} -m gateway"),
    ],
)
def test_printed_commands_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, on_path: str | None, started: str, program: str
) -> None:
    """However it was started: a module's file is no command."""
    monkeypatch.setattr("shutil.which", lambda _name: on_path)
    monkeypatch.setattr("sys.argv", [started, "dev"])
    assert PRICE is not None

    assert f"   {program} usage demo\n" in guide(PLACE, standing(2_000_000), PRICE) + "\n"
