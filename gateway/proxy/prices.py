"""Prices: the price list of the model vendors, as genai-prices keeps it."""

from decimal import Decimal
from functools import lru_cache

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price

from gateway.domain.price import Price
from gateway.domain.usage import Usage

# Models come from callers: without a bound anyone could fill the memory with invented names.
_MODELS_MAX = 2_048
_MODEL_LENGTH_MAX = 200


class Prices:
    """Looks up what a model costs; the search for a name happens once per model."""

    def __init__(self) -> None:
        self._look_up = lru_cache(_MODELS_MAX)(_price)

    def price_of(self, model: str) -> Price | None:
        """Return the price of a model, or None where the list does not know it."""
        return self._look_up(model) if 0 < len(model) <= _MODEL_LENGTH_MAX else None


def _price(model: str) -> Price | None:
    try:
        found = calc_price(PricedUsage(input_tokens=1), model)
    except LookupError:
        return None

    def usd_of(usage: Usage) -> Decimal:
        # The list prices by steps of the input length, so it must see all of the usage at once.
        priced = found.model_price.calc_price(
            PricedUsage(
                input_tokens=usage.input_tokens,
                cache_read_tokens=usage.cached_tokens,
                output_tokens=usage.output_tokens,
            )
        )
        return Decimal(priced["total_price"])

    return Price(f"{found.provider.id}/{found.model.id}", usd_of)
