"""Prices: the price list of the model vendors, as genai-prices keeps it."""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from math import lcm

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, PriceCalculation, TieredPrices
from genai_prices.types import Tier as TierOfList

from gateway.domain.money import MICROCENTS_PER_CENT
from gateway.domain.price import Price, Rates, Tier

# Models come from callers: without a bound anyone could fill the memory with invented names.
_MODELS_MAX = 2_048
_MODEL_LENGTH_MAX = 200
# Some models cost less at night, others change their price on a date.
_FRESH_S = 60
# The list knows the maker of most models by their names; of OpenAI's embeddings it must be told.
_MAKERS = (None, "openai")
_CENTS_PER_USD = 100
_CALLS_PER_KCOUNT = 1000
# A USD per million tokens is so many microcents per token.
_MICROCENTS_PER_TOKEN = _CENTS_PER_USD * MICROCENTS_PER_CENT // 10**6


class Prices:
    """Looks up what a model costs; the search for a name happens once per model and minute."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._turn_to(now_s())
        # The list is read from disk now, and not while the first caller waits.
        self.price_of("gpt-4o")

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, or None where the list does not know it."""
        now_s = self._now_s()
        if not self._from_s <= now_s < self._until_s:
            self._turn_to(now_s)
        try:
            return self._found[model]
        except KeyError:
            return self._search(model)

    def _search(self, model: str) -> Price | None:
        if len(model) > _MODEL_LENGTH_MAX:
            return None
        if len(self._found) >= _MODELS_MAX:
            self._found.clear()
        price = self._found[model] = _price(self._at, model)
        return price

    def _turn_to(self, now_s: float) -> None:
        self._from_s = now_s // _FRESH_S * _FRESH_S
        self._until_s = self._from_s + _FRESH_S
        self._at = datetime.fromtimestamp(self._from_s, UTC)
        # By the name alone, and what the list does not know too.
        self._found: dict[str, Price | None] = {}


def _price(at: datetime, model: str) -> Price | None:
    found = _listed(at, model)
    if found is None:
        return None
    listed = found.model_price
    # Priced by the second or the image: tokens say nothing about its cost.
    if listed.input_mtok is None and listed.output_mtok is None:
        return None
    prices = (
        listed.input_mtok,
        listed.output_mtok,
        # Cached input that has no price of its own costs as much as any other input.
        listed.cache_read_mtok if listed.cache_read_mtok is not None else listed.input_mtok,
        listed.cache_write_mtok if listed.cache_write_mtok is not None else listed.input_mtok,
    )
    starts = {tier.start for price in prices for tier in _tiers(price)}
    by_start = [(start, [_rate(price, start + 1) for price in prices]) for start in sorted(starts)]
    base = [_rate(price, 0) for price in prices]
    parts = lcm(*(rate.denominator for _, rates in [(0, base), *by_start] for rate in rates))
    return Price(
        f"{found.provider.id}/{found.model.id}",
        _whole(base, parts),
        tuple(Tier(start, _whole(rates, parts)) for start, rates in by_start),
        _call_microcents(listed),
        parts,
    )


def _listed(at: datetime, model: str) -> PriceCalculation | None:
    for maker in _MAKERS:
        with suppress(LookupError):
            return calc_price(
                Usage(input_tokens=1), model, provider_id=maker, genai_request_timestamp=at
            )
    return None


def _tiers(listed: Decimal | TieredPrices | None) -> list[TierOfList]:
    return listed.tiers if isinstance(listed, TieredPrices) else []


def _rate(listed: Decimal | TieredPrices | None, input_tokens: int) -> Fraction:
    """Return the microcents of a token for calls with so much input, exactly."""
    usd_per_mtok = listed.base if isinstance(listed, TieredPrices) else listed
    for tier in _tiers(listed):
        if input_tokens > tier.start:
            usd_per_mtok = tier.price
    return Fraction(usd_per_mtok or 0) * _MICROCENTS_PER_TOKEN


def _whole(rates: list[Fraction], parts: int) -> Rates:
    return Rates(*(int(rate * parts) for rate in rates))


def _call_microcents(listed: ModelPrice) -> int:
    usd = listed.requests_kcount
    if not isinstance(usd, Decimal):
        return 0
    return int(usd * _CENTS_PER_USD * MICROCENTS_PER_CENT / _CALLS_PER_KCOUNT)
