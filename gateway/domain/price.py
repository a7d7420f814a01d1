"""Prices: what usage costs, exact until the one rounding of a cost."""

from typing import NamedTuple

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.usage import Usage

# A rate is USD per million tokens times 10^18: the price list has up to 18 decimals.
RATE_DECIMALS = 18
# 1 USD is 10^8 microcents, so a rate is microcents per token times 10^16.
_RATES_PER_MICROCENT: int = 10 ** (RATE_DECIMALS - 2)


class Tier(NamedTuple):
    """A rate for calls with more input than this; it is for all of their tokens."""

    above_input_tokens: int
    rate: int


class Rate(NamedTuple):
    """What tokens of one kind cost; the last tier that the input exceeds counts, or ``base``."""

    base: int
    tiers: tuple[Tier, ...] = ()


class Price(NamedTuple):
    """What one model costs. ``id`` names the price in the ledger.

    Cached input that has no rate of its own costs as much as any other input. ``call_microcents``
    comes on top of each call.
    """

    id: str
    input: Rate
    output: Rate
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    call_microcents: int = 0


def cost_of(usage: Usage, price: Price) -> int:
    """Return the cost in microcents, rounded once, half away from zero."""
    return _capped(_rates_of(usage, price) + _RATES_PER_MICROCENT // 2, price)


def quote_of(usage: Usage, price: Price) -> int:
    """Return what so much usage costs without a cache, in microcents, rounded up once."""
    read, written, cached, stored = usage
    fresh = Usage(read, written, 0) if cached or stored else usage
    return _capped(_rates_of(fresh, price) + _RATES_PER_MICROCENT - 1, price)


def _capped(rates: int, price: Price) -> int:
    return min(rates // _RATES_PER_MICROCENT + price.call_microcents, AMOUNT_MICROCENTS_MAX)


def _rates_of(usage: Usage, price: Price) -> int:
    read, written, cached, stored = usage
    rates = written * _at(price.output, read)
    fresh = read
    if cached and price.cache_read is not None:
        rates += cached * _at(price.cache_read, read)
        fresh -= cached
    if stored and price.cache_write is not None:
        rates += stored * _at(price.cache_write, read)
        fresh -= stored
    return rates + fresh * _at(price.input, read)


def _at(rate: Rate, input_tokens: int) -> int:
    base, tiers = rate
    for tier in reversed(tiers):
        if input_tokens > tier.above_input_tokens:
            return tier.rate
    return base
