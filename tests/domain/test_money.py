"""Money is exact, and what is not an amount is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.money import (
    AMOUNT_MICROCENTS_MAX,
    cents_from_microcents,
    microcents_from_cents,
)

GARBAGE = [
    "nan",
    "inf",
    "-1",
    "+1",
    "0x10",
    "1e3",
    "5,000",
    "99999999999999999999",
    "1.2.3",
    "1.",
    ".5",
    "1.1234567",
    "$5",
    "٣",
    "9007199254.740992",
    "9999999999",
]


@pytest.mark.parametrize("text", ["", " 5 ", "5\n", *GARBAGE])
def test_garbage_is_no_amount(text: str) -> None:
    """A text that is not a plain decimal within the cap is refused, never guessed."""
    assert microcents_from_cents(text) is None


@pytest.mark.parametrize(
    ("text", "amount_microcents"),
    [
        ("0", 0),
        ("5", 5_000_000),
        ("0.000001", 1),
        ("007.5", 7_500_000),
        ("9007199254.740991", AMOUNT_MICROCENTS_MAX),
    ],
)
def test_cents_are_read_exactly(text: str, amount_microcents: int) -> None:
    """Cents with up to six decimals become exact microcents."""
    assert microcents_from_cents(text) == amount_microcents


@pytest.mark.parametrize(
    ("amount_microcents", "text"),
    [
        (0, "0"),
        (1, "0.000001"),
        (999_999, "0.999999"),
        (1_000_000, "1"),
        (1_500_000, "1.5"),
        (100_000_000, "100"),
        (AMOUNT_MICROCENTS_MAX, "9007199254.740991"),
    ],
)
def test_cents_are_written_plainly(amount_microcents: int, text: str) -> None:
    """No exponent, no zero that says nothing, no point without digits on both sides."""
    assert cents_from_microcents(amount_microcents) == text


@given(st.integers(0, AMOUNT_MICROCENTS_MAX))
def test_cents_round_trip(amount_microcents: int) -> None:
    """Every amount survives being written as cents and read again."""
    assert microcents_from_cents(cents_from_microcents(amount_microcents)) == amount_microcents


def test_negative_cents_keep_their_sign() -> None:
    """A signed amount below one cent is written with its sign."""
    assert cents_from_microcents(-1) == "-0.000001"
