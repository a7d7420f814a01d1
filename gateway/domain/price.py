"""Prices: what usage costs, exact until the one rounding of a cost."""

from msgspec import Struct

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.usage import Usage

# A rate is USD per million tokens times 10^18: the price list has up to 18 decimals.
RATE_DECIMALS = 18
# 1 USD is 10^8 microcents, so a rate is microcents per token times 10^16.
_RATES_PER_MICROCENT: int = 10 ** (RATE_DECIMALS - 2)
_RATES_ROUNDED_UP = _RATES_PER_MICROCENT - 1
_RATES_ROUNDED_HALF = _RATES_PER_MICROCENT // 2


class Tier(Struct, frozen=True, gc=False):
    """A rate for calls with more input than this; it is for all of their tokens."""

    above_input_tokens: int
    rate: int


class Rate(Struct, frozen=True, gc=False):
    """What tokens of one kind cost; the last tier that the input exceeds counts, or ``base``."""

    base: int
    tiers: tuple[Tier, ...] = ()


class Price(Struct, frozen=True, gc=False):
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
    read, cached, stored = usage.input_tokens, usage.cached_tokens, usage.stored_tokens
    rates, fresh = usage.output_tokens * _at(price.output, read), read
    if cached and price.cache_read is not None:
        rates += cached * _at(price.cache_read, read)
        fresh -= cached
    if stored and price.cache_write is not None:
        rates += stored * _at(price.cache_write, read)
        fresh -= stored
    return _amount(rates + fresh * _at(price.input, read) + _RATES_ROUNDED_HALF, price)


def quote_of(input_tokens: int, output_tokens: int, price: Price) -> int:
    """Return what so many tokens cost without a cache, in microcents, rounded up once."""
    rates = output_tokens * _at(price.output, input_tokens)
    rates += input_tokens * _at(price.input, input_tokens)
    return _amount(rates + _RATES_ROUNDED_UP, price)


def _amount(rates: int, price: Price) -> int:
    amount_microcents = rates // _RATES_PER_MICROCENT + price.call_microcents
    return amount_microcents if amount_microcents < AMOUNT_MICROCENTS_MAX else AMOUNT_MICROCENTS_MAX


def _at(rate: Rate, input_tokens: int) -> int:
    if rate.tiers:
        for tier in reversed(rate.tiers):
            if input_tokens > tier.above_input_tokens:
                return tier.rate
    return rate.base
