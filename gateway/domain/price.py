"""Prices: money per million tokens, exact until the one rounding of a cost."""

from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal, localcontext
from typing import NamedTuple

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.usage import Usage

MICROCENTS_PER_USD = 10**8
_TOKENS = Decimal(10**6)
# 10^9 tokens at any price with 12 decimals stay exact.
_DIGITS = 60


class Price(NamedTuple):
    """USD per million tokens, by kind. ``id`` names the price in the ledger."""

    id: str
    input_usd: Decimal
    output_usd: Decimal
    cached_usd: Decimal


def cost_of(usage: Usage, price: Price) -> int:
    """Return the cost in microcents, rounded once, half away from zero."""
    return _microcents(usage, price, ROUND_HALF_UP)


def quote_of(usage: Usage, price: Price) -> int:
    """Return the most that so much usage can cost, in microcents, rounded up once."""
    dearest = max(price.input_usd, price.cached_usd)
    return _microcents(usage, price._replace(input_usd=dearest, cached_usd=dearest), ROUND_CEILING)


def _microcents(usage: Usage, price: Price, rounding: str) -> int:
    with localcontext(prec=_DIGITS):
        usd = (
            (usage.input_tokens - usage.cached_tokens) * price.input_usd
            + usage.cached_tokens * price.cached_usd
            + usage.output_tokens * price.output_usd
        ) / _TOKENS
        amount = int((usd * MICROCENTS_PER_USD).to_integral_value(rounding))
    return min(amount, AMOUNT_MICROCENTS_MAX)
