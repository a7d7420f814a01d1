"""Prices: the price list of the model vendors, as genai-prices keeps it."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from functools import lru_cache, partial

from genai_prices import Usage, calc_price
from genai_prices.types import ModelPrice, TieredPrices

from gateway.domain.money import MICROCENTS_PER_CENT
from gateway.domain.price import RATE_DECIMALS, Price, Rate, Tier

# Models come from callers: without a bound anyone could fill the memory with invented names.
_MODELS_MAX = 2_048
_MODEL_LENGTH_MAX = 200
# Some models cost less at night, others change their price on a date.
_FRESH_S = 60
_CENTS_PER_USD = 100
_CALLS_PER_KCOUNT = 1000
_DIGITS = 60


class Prices:
    """Looks up what a model costs; the search for a name happens once per model and minute."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._turn_to(now_s())
        # The list is read from disk now, and not while the first caller waits.
        self.price_of("gpt-4o")

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, or None where the list does not know it."""
        if not 0 < len(model) <= _MODEL_LENGTH_MAX:
            return None
        now_s = self._now_s()
        if not self._minute_s <= now_s < self._next_minute_s:
            self._turn_to(now_s)
        return self._look_up(model)

    def _turn_to(self, now_s: float) -> None:
        # A memory of one minute is asked by the name alone, which takes half of what a pair does.
        self._minute_s = int(now_s) // _FRESH_S * _FRESH_S
        self._next_minute_s = self._minute_s + _FRESH_S
        at = datetime.fromtimestamp(self._minute_s, UTC)
        self._look_up = lru_cache(_MODELS_MAX)(partial(_price, at))


def _price(at: datetime, model: str) -> Price | None:
    try:
        found = calc_price(Usage(input_tokens=1), model, genai_request_timestamp=at)
    except LookupError:
        return None
    listed = found.model_price
    # Priced by the second or the image: tokens say nothing about its cost.
    if listed.input_mtok is None and listed.output_mtok is None:
        return None
    return Price(
        f"{found.provider.id}/{found.model.id}",
        _rate(listed.input_mtok) or Rate(0),
        _rate(listed.output_mtok) or Rate(0),
        _rate(listed.cache_read_mtok),
        _rate(listed.cache_write_mtok),
        _call_microcents(listed),
    )


def _rate(listed: Decimal | TieredPrices | None) -> Rate | None:
    if listed is None:
        return None
    if isinstance(listed, TieredPrices):
        tiers = tuple(Tier(tier.start, _scaled(tier.price)) for tier in listed.tiers)
        return Rate(_scaled(listed.base), tiers)
    return Rate(_scaled(listed))


def _scaled(usd_per_mtok: Decimal) -> int:
    with localcontext(prec=_DIGITS):
        return int(usd_per_mtok.scaleb(RATE_DECIMALS).to_integral_value())


def _call_microcents(listed: ModelPrice) -> int:
    usd = listed.requests_kcount
    if not isinstance(usd, Decimal):
        return 0
    return int(usd * _CENTS_PER_USD * MICROCENTS_PER_CENT / _CALLS_PER_KCOUNT)
