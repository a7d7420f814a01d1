"""Prices: what usage costs, exact until the one rounding of a cost."""

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, localcontext
from typing import NamedTuple

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.usage import Usage

MICROCENTS_PER_USD = 10**8
# 10^9 tokens at any price with a dozen decimals stay exact.
_DIGITS = 60


class Price(NamedTuple):
    """What one model costs. ``id`` names the price in the ledger.

    ``usd_of`` gives the exact cost of a usage in USD. It is a function, not a rate per token: some
    models cost more per token where the input is long.
    """

    id: str
    usd_of: Callable[[Usage], Decimal]


def cost_of(usage: Usage, price: Price) -> int:
    """Return the cost in microcents, rounded once, half away from zero."""
    return _microcents(usage, price, ROUND_HALF_UP)


def quote_of(usage: Usage, price: Price) -> int:
    """Return what so much usage costs without a cache, in microcents, rounded up once."""
    return _microcents(usage._replace(cached_tokens=0), price, ROUND_CEILING)


def _microcents(usage: Usage, price: Price, rounding: str) -> int:
    with localcontext(prec=_DIGITS):
        usd = price.usd_of(usage)
        amount = int((usd * MICROCENTS_PER_USD).to_integral_value(rounding))
    return min(amount, AMOUNT_MICROCENTS_MAX)
