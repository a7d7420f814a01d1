"""Lengths of bodies as they stand in heads: most are small, and are not worked out each time.

To make a number of digits, or digits of one, takes as long as to compare a whole head.
"""

_DIGITS_MAX = 15
_KNOWN = range(8192)


class _Lengths(dict[bytes, int | None]):
    def __missing__(self, digits: bytes) -> int | None:
        return int(digits) if digits.isdigit() and len(digits) <= _DIGITS_MAX else None


class _Digits(dict[int, bytes]):
    def __missing__(self, length: int) -> bytes:
        return b"%d" % length


# A length by its digits: None for other bytes, and for too many. And its digits by a length.
# Both answer for what they do not hold, and do not keep it: others send it.
DIGITS = _Digits((length, b"%d" % length) for length in _KNOWN)
LENGTHS = _Lengths((digits, length) for length, digits in DIGITS.items())
