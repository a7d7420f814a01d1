"""Money: integer microcents, read and written as plain decimal cents."""

import re

MICROCENTS_PER_CENT = 10**6
# 2^53-1: the largest integer that a Lua number, a double, still holds exactly.
AMOUNT_MICROCENTS_MAX = 2**53 - 1

# A half of a fraction: to look it up takes less than to cut it from a text.
_HALF = 1_000
_HALVES = tuple(f"{number:03}" for number in range(_HALF))
_LAST_HALVES = tuple(digits.rstrip("0") for digits in _HALVES)
# [0-9], not \d: \d also matches the digits of other scripts, which the Lua reader refuses.
_CENTS = re.compile(r"([0-9]{1,10})(?:\.([0-9]{1,6}))?")


def microcents_from_cents(text: str) -> int | None:
    """Return the exact microcents of a cents text, or None where it is not a valid amount.

    Valid is 1 to 10 digits, optionally a point and 1 to 6 digits, at most 9007199254.740991:
    the rule of every ``*_cents`` limit. Signs, exponents, blanks and separators are refused.
    """
    match = _CENTS.fullmatch(text)
    if match is None:
        return None
    whole, fraction = match.groups(default="")
    # Joined as text: a decimal multiplied as a float would round.
    amount_microcents = int(whole + fraction.ljust(6, "0"))
    return amount_microcents if amount_microcents <= AMOUNT_MICROCENTS_MAX else None


def cents_from_microcents(amount_microcents: int) -> str:
    """Return a signed amount as plain decimal cents without trailing zeros."""
    if amount_microcents < 0:
        return f"-{cents_from_microcents(-amount_microcents)}"
    whole = amount_microcents // MICROCENTS_PER_CENT
    fraction = amount_microcents % MICROCENTS_PER_CENT
    if not fraction:
        return str(whole)
    last = fraction % _HALF
    if not last:
        return f"{whole}.{_LAST_HALVES[fraction // _HALF]}"
    return f"{whole}.{_HALVES[fraction // _HALF]}{_LAST_HALVES[last]}"
