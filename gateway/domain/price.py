"""Prices: what usage costs, exact until the one rounding of a cost."""

from msgspec import Struct

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.usage import Usage


class Rates(Struct, frozen=True, gc=False):
    """What one token of each kind costs, in the parts of a microcent that its price counts in."""

    input: int
    output: int
    cache_read: int
    cache_write: int


class Tier(Struct, frozen=True, gc=False):
    """Rates for calls with more input than this; they are for all of their tokens."""

    above_input_tokens: int
    rates: Rates


class Price(Struct, frozen=True, gc=False):
    """What one model costs. ``id`` names the price in the ledger.

    The last tier that the input exceeds counts, or ``rates``. So many ``parts`` are a microcent:
    as few as write every rate as a whole number, because small numbers count faster.
    ``call_microcents`` comes on top of each call.
    """

    id: str
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    call_microcents: int = 0
    parts: int = 1


def cost_of(usage: Usage, price: Price) -> int:
    """Return the cost in microcents, rounded once, half away from zero."""
    rates = _rates_at(price, usage.input_tokens) if price.tiers else price.rates
    cost = usage.input_tokens * rates.input + usage.output_tokens * rates.output
    # What went through a cache is counted as input so far.
    if usage.cached_tokens:
        cost += usage.cached_tokens * (rates.cache_read - rates.input)
    if usage.stored_tokens:
        cost += usage.stored_tokens * (rates.cache_write - rates.input)
    amount_microcents = (cost + price.parts // 2) // price.parts + price.call_microcents
    return amount_microcents if amount_microcents < AMOUNT_MICROCENTS_MAX else AMOUNT_MICROCENTS_MAX


def quote_of(input_tokens: int, output_tokens: int, price: Price) -> int:
    """Return what so many tokens cost without a cache, in microcents, rounded up once."""
    rates = _rates_at(price, input_tokens) if price.tiers else price.rates
    cost = input_tokens * rates.input + output_tokens * rates.output
    amount_microcents = -(-cost // price.parts) + price.call_microcents
    return amount_microcents if amount_microcents < AMOUNT_MICROCENTS_MAX else AMOUNT_MICROCENTS_MAX


def _rates_at(price: Price, input_tokens: int) -> Rates:
    for tier in reversed(price.tiers):
        if input_tokens > tier.above_input_tokens:
            return tier.rates
    return price.rates
