"""Lengths of bodies as they stand in heads: most are small, and are not worked out each time.

To make a number of digits, or digits of one, takes as long as to compare a whole head.
"""

_DIGITS_MAX = 15
_KNOWN = range(8192)
# Plain ones: a dict that answers for what it does not hold is asked at five times the price.
DIGITS = {length: b"%d" % length for length in _KNOWN}
LENGTHS = {digits: length for length, digits in DIGITS.items()}


def length_of(digits: bytes) -> int | None:
    """Return a length by its digits; None for other bytes, and for too many."""
    return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None
