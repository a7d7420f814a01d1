"""A failing upstream is left alone, and found again soon after it is back."""

from gateway.domain.breaker import FAILURES_MAX, PROBE_INTERVAL_S, Breaker

START_S = 1000.0


def opened() -> Breaker:
    """Return a breaker that has just opened at START_S."""
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.fail(START_S)
    return breaker


def test_breaker_starts_closed() -> None:
    """A fresh breaker admits calls."""
    breaker = Breaker()
    assert breaker.state == "closed"
    assert breaker.admits(START_S)


def test_breaker_opens_after_failures_in_a_row() -> None:
    """The last of the allowed failures opens it, not the one before."""
    breaker = Breaker()
    for _ in range(FAILURES_MAX - 1):
        breaker.fail(START_S)
    assert breaker.admits(START_S)
    breaker.fail(START_S)
    assert breaker.state == "open"
    assert not breaker.admits(START_S)


def test_breaker_forgets_failures_on_success() -> None:
    """Failures with a success between them never open it."""
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            breaker.fail(START_S)
        breaker.succeed()
    assert breaker.state == "closed"


def test_breaker_admits_one_probe_per_interval() -> None:
    """Open, it lets exactly one call through when the interval is over."""
    breaker = opened()
    now_s = START_S + PROBE_INTERVAL_S
    assert not breaker.admits(now_s - 0.001)
    assert breaker.admits(now_s)
    assert breaker.state == "half-open"
    assert not breaker.admits(now_s)


def test_breaker_closes_when_the_probe_succeeds() -> None:
    """One success is enough to admit every call again."""
    breaker = opened()
    now_s = START_S + PROBE_INTERVAL_S
    assert breaker.admits(now_s)
    breaker.succeed()
    assert breaker.state == "closed"
    assert breaker.admits(now_s)
    assert breaker.admits(now_s)


def test_breaker_stays_open_when_the_probe_fails() -> None:
    """A failed probe starts another interval."""
    breaker = opened()
    now_s = START_S + PROBE_INTERVAL_S
    assert breaker.admits(now_s)
    breaker.fail(now_s)
    assert breaker.state == "open"
    assert not breaker.admits(now_s)
    assert breaker.admits(now_s + PROBE_INTERVAL_S)


def test_breaker_probes_again_when_a_probe_is_lost() -> None:
    """A probe whose outcome is never told does not shut the upstream for good."""
    breaker = opened()
    now_s = START_S + PROBE_INTERVAL_S
    assert breaker.admits(now_s)
    assert breaker.admits(now_s + PROBE_INTERVAL_S)
