"""Every field of the limits hash is known, and a wrong value is told with what was expected."""

import pytest

from gateway.domain.limits import check_field, check_override

WINDOWS = ["day", "month", "total"]
GARBAGE = ["nan", "inf", "-1", "0x10", "1e3", "5,000", "", " 5 ", "9" * 20, "1.2.3", "9999999999"]


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize("field", ["org.day.limit_cents", "agent.*.rpm", "agent.a.per_call_cents"])
def test_garbage_is_told(field: str, text: str) -> None:
    """A number that is not plain decimal within the cap is refused, and the field is named."""
    problem = check_field(field, text, WINDOWS)

    assert problem is not None
    assert problem.startswith(f"{field} is {text!r}; expected a number")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "active"),
        ("org.total.limit_cents", "none"),
        ("agent.researcher.day.limit_cents", "0.000001"),
        ("agent.*.month.mode", "shadow"),
        ("org.day.warn_at", "0.95"),
        ("org.day.warn_at", "1"),
        ("org.day.override_cents", "5000"),
        ("org.day.override_until", "1795348800"),
        ("agent.researcher.status", "frozen"),
        ("timezone", "America/Santiago"),
        ("on_expiry", "release"),
        ("hold_ttl_ms", "60000"),
        ("org.concurrency", "8"),
    ],
)
def test_valid_fields_pass(field: str, value: str) -> None:
    """Every field of the contract is known."""
    assert check_field(field, value, WINDOWS) is None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("org.day.limit_cent", "5"),
        ("org.week.limit_cents", "5"),
        ("org.status", "frozen"),
        ("agent.a b.day.limit_cents", "5"),
        ("day.limit_cents", "5"),
        ("org.day.mode", "Hard"),
        ("org.day.warn_at", "0"),
        ("org.day.warn_at", "0.00"),
        ("org.day.warn_at", "1.1"),
        ("org.day.warn_at", "0.12345"),
        ("org.day.override_cents", "none"),
        ("org.day.override_until", "soon"),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("on_expiry", "keep"),
        ("hold_ttl_ms", "0"),
    ],
)
def test_misspelt_and_malformed_fields_are_told(field: str, value: str) -> None:
    """What nothing would read, or nothing could, is named with what was expected."""
    problem = check_field(field, value, WINDOWS)

    assert problem is not None
    assert problem.startswith(f"{field} is {value!r}; expected ")


@pytest.mark.parametrize(
    ("limits", "wrong"),
    [
        ({"org.day.override_cents": "5", "org.day.override_until": "101"}, ""),
        ({"org.day.override_cents": "5"}, "org.day.override_cents is set without override_until"),
        ({"org.day.override_until": "101"}, "org.day.override_until is set without override_cents"),
        (
            {"org.day.override_cents": "5", "org.day.override_until": "100"},
            "org.day.override_cents is of an override that is over",
        ),
        (
            {"org.day.override_cents": "5", "org.month.override_until": "101"},
            "org.day.override_cents is set without override_until",
        ),
        # Field by field, as the scripts fall back.
        ({"agent.a.day.override_cents": "5", "agent.*.day.override_until": "101"}, ""),
        ({"agent.*.day.override_cents": "5", "agent.a.day.override_until": "101"}, ""),
        (
            {"agent.a.day.override_cents": "5", "agent.b.day.override_until": "101"},
            "agent.a.day.override_cents is set without override_until",
        ),
        (
            {"agent.a.day.override_cents": "5", "org.day.override_until": "101"},
            "agent.a.day.override_cents is set without override_until",
        ),
        ({"org.day.limit_cents": "5", "org.day.mode": "soft"}, ""),
    ],
)
def test_override_that_does_not_count_is_told(limits: dict[str, str], wrong: str) -> None:
    """At second 100; whoever set it believes in a limit that is not there."""
    told = [problem for field in limits if (problem := check_override(field, limits, 100))]

    assert (told[0] if told else "").startswith(wrong)
    assert bool(told) == bool(wrong)
