"""The printed lines promise what comes, wherever the budgets of the demo stand by now."""

import re
import sys

import pytest

from gateway.cli.demo import Demo
from gateway.cli.guide import BUDGET, MODEL, Place, guide
from gateway.domain.budget import Budget, Counters, Mode
from gateway.domain.price import quote_of
from gateway.domain.window import Window
from gateway.proxy.prices import Prices
from gateway.registry.standings import NextCall, Standing, Standings

PLACE = Place("http://127.0.0.1:8080", 6380, Demo("bgk_demo_k1_secret", 9000))
DAY, MONTH = Window("day", "2026-11-25", 0, 1), Window("month", "2026-11", 0, 1)
AGENT = "agent.researcher"
CENT = 1_000_000
PRICE = Prices().price_of(MODEL)


def standing(
    scope: str, limit: int | None, spent: int = 0, mode: Mode = "hard", word: NextCall = "HELD"
) -> Standing:
    """Return where one budget stands, in microcents."""
    window = MONTH if scope == "org" else DAY
    budget = Budget(scope, window.kind, limit, mode, 8000) if limit is not None else None
    return Standing(scope, window, budget, Counters(spent, 0, 0), word)


def standings(*found: Standing, **invalid: str) -> Standings:
    """Return where the demo stands."""
    return Standings("demo", frozenset({"researcher", "writer"}), (MONTH, DAY), found, invalid)


@pytest.mark.parametrize(
    ("org", "agent"),
    [
        ((10_000 * CENT, 0), (2 * CENT, 0)),
        ((10_000 * CENT, 0), (2 * CENT, 1_900_000)),
        ((10_000 * CENT, 0), (640 * CENT, 3 * CENT)),
        ((10_000 * CENT, 0), (0, 0)),
        ((10_000 * CENT, 0), (1_000, 9 * CENT)),
        ((100 * CENT, 0), (9_000 * CENT, 0)),
        ((100 * CENT, 99 * CENT), (9 * CENT, 5 * CENT)),
        ((0, 0), (0, 0)),
    ],
)
def test_refused_call_does_not_fit_and_fits_after_the_raise(
    org: tuple[int, int], agent: tuple[int, int]
) -> None:
    """What is printed as 402 costs more than is left, and less than is left after the raise."""
    assert PRICE is not None
    printed = guide(PLACE, standings(standing("org", *org), standing(AGENT, *agent)), PRICE)

    tokens = max(map(int, re.findall(r'"max_tokens":(\d+)', printed)))
    raised = dict(re.findall(r"(\S+\.limit_cents) (\d+)", printed))
    cost = quote_of(0, tokens, PRICE)
    left = {"org.month.limit_cents": org, f"{BUDGET}.limit_cents": agent}
    assert raised.keys() <= left.keys()
    assert cost > min(limit - spent for limit, spent in left.values())
    for field, (limit, spent) in left.items():
        assert cost < int(raised.get(field, 0)) * CENT - spent or cost < limit - spent
    assert all(f"{field}={limit}" in printed for field, limit in raised.items())


@pytest.mark.parametrize(("left", "fits"), [(2 * CENT, True), (1000, False), (-CENT, False)])
def test_call_that_fits_is_promised_where_it_does(left: int, fits: bool) -> None:
    """After the demo was played nothing may be left; then the first line is not a promise."""
    printed = guide(PLACE, standings(standing(AGENT, 2 * CENT, 2 * CENT - left)), PRICE)

    assert ("A call that fits, 200" in printed) == fits


@pytest.mark.parametrize("mode", ["soft", "shadow"])
def test_budget_that_admits_promises_no_refusal(mode: Mode) -> None:
    """A budget that only tells never answers 402."""
    printed = guide(PLACE, standings(standing(AGENT, CENT, 5 * CENT, mode)), PRICE)

    assert "402" not in printed
    assert printed.count("curl") == 1


def test_budget_without_a_limit_promises_no_refusal() -> None:
    """Somebody has lifted the limit of the demo: only the call that fits is left to show."""
    printed = guide(PLACE, standings(standing(AGENT, None)), PRICE)

    assert "402" not in printed
    assert printed.count("curl") == 1
    assert "has no valid limit" in printed


def test_limit_above_every_call_promises_no_refusal() -> None:
    """No call may ask for so much, however many tokens it wishes."""
    assert "402" not in guide(PLACE, standings(standing(AGENT, 10**15)), PRICE)


@pytest.mark.parametrize(
    ("scope", "thaw"),
    [("org", "org thaw demo"), (AGENT, "limits set demo agent.researcher.status=active")],
)
def test_frozen_demo_promises_no_call(scope: str, thaw: str) -> None:
    """It says how to thaw it instead."""
    found = standings(standing(scope, 2 * CENT, word="FROZEN"))

    printed = guide(PLACE, found, PRICE)

    assert "curl" not in printed
    assert thaw in printed


@pytest.mark.parametrize("scope", ["org", AGENT])
def test_limits_that_refuse_promise_no_call(scope: str) -> None:
    """The field is named, and the command that tells what is wrong with it."""
    printed = guide(PLACE, standings(**{scope: "status"}), PRICE)

    assert "curl" not in printed
    assert "status cannot be used" in printed
    assert "limits check demo" in printed


def test_model_without_a_price_promises_no_refusal() -> None:
    """Where the price list has lost the model of the demo, nothing is said about its cost."""
    assert "402" not in guide(PLACE, standings(standing(AGENT, 2 * CENT)), None)


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

    assert (
        f"   {program} usage demo\n"
        in guide(PLACE, standings(standing(AGENT, 2 * CENT)), PRICE) + "\n"
    )
