"""The prices are those of the list, to the last digit, and what it does not know has none."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import genai_prices
import pytest
from genai_prices.data import providers
from genai_prices.types import TimeOfDateConstraint
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.price import cost_of
from gateway.domain.usage import Usage
from gateway.proxy.prices import Prices

# Some models cost less at some hours, so the hour stands still.
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
PRICES = Prices(NOON.timestamp)
LISTED = sorted({model.id for provider in providers for model in provider.models})
PRICED = {model: price for model in LISTED if (price := PRICES.price_of(model)) is not None}
TOKENS = st.integers(0, 400_000)


@given(st.sampled_from(sorted(PRICED)), TOKENS, TOKENS, TOKENS, TOKENS)
def test_cost_is_that_of_the_list(
    model: str, fresh: int, cached: int, stored: int, written: int
) -> None:
    """For any model and any usage our integers give what the list's own decimals give."""
    price = PRICED[model]
    usage = Usage(fresh + cached + stored, written, cached, stored)
    listed = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=written,
            cache_read_tokens=cached,
            cache_write_tokens=stored,
        ),
        model,
        provider_id=price.id.partition("/")[0],
        genai_request_timestamp=NOON,
    )

    assert abs(cost_of(usage, price) - listed.total_price * 10**8) <= Decimal("0.5001")
    assert price.id == f"{listed.provider.id}/{listed.model.id}"


def test_rates_lose_no_digit() -> None:
    """Every price of the list is held to its last digit."""
    for model, price in PRICED.items():
        used = genai_prices.Usage(input_tokens=1)
        maker = price.id.partition("/")[0]
        listed = genai_prices.calc_price(
            used, model, provider_id=maker, genai_request_timestamp=NOON
        ).model_price
        if isinstance(listed.input_mtok, Decimal):
            # A USD per million tokens is a hundred microcents per token.
            assert Fraction(price.rates.input, price.parts * 100) == listed.input_mtok, model


@pytest.mark.parametrize(
    ("model", "usd_per_mtok"),
    [
        ("text-embedding-3-small", "0.02"),
        ("text-embedding-3-large", "0.13"),
        ("text-embedding-ada-002", "0.1"),
    ],
)
def test_embeddings_of_openai_have_a_price(model: str, usd_per_mtok: str) -> None:
    """The list does not tell their maker by their names, and SDKs call them by these."""
    price = PRICES.price_of(model)

    assert price is not None
    assert price.id == f"openai/{model}"
    assert Fraction(price.rates.input, price.parts * 100) == Fraction(usd_per_mtok)


@pytest.mark.parametrize("model", ["no-such-model", "m" * 201, "", "whisper-1"])
def test_model_without_a_price_by_tokens_has_none(model: str) -> None:
    """What the list does not know, or sells by the second, is no price; no name fills memory."""
    assert PRICES.price_of(model) is None


def test_price_is_that_of_the_hour() -> None:
    """A model that costs less at night is looked up again when the night begins."""
    nightly = [
        model.id
        for provider in providers
        for model in provider.models
        if isinstance(model.prices, list)
        and any(isinstance(price.constraint, TimeOfDateConstraint) for price in model.prices)
    ]
    now = [NOON.timestamp()]
    prices = Prices(lambda: now[0])

    found = []
    # The clock goes round, and then back.
    for hour in [*range(24), *reversed(range(24))]:
        now[0] = (NOON + timedelta(hours=hour)).timestamp()
        price = prices.price_of(nightly[0])
        assert price is not None
        found.append(Fraction(price.rates.input, price.parts))

    assert len(set(found)) > 1
    assert found[24:] == found[23::-1]


def test_price_is_searched_once_in_a_minute() -> None:
    """A price is remembered to the end of its minute, and not a second longer."""
    now = [NOON.timestamp()]
    prices = Prices(lambda: now[0])

    first = prices.price_of("gpt-4o-mini")
    now[0] += 59.999
    last = prices.price_of("gpt-4o-mini")
    now[0] += 0.001
    next_one = prices.price_of("gpt-4o-mini")

    assert first is last
    assert next_one == first
    assert next_one is not first


def test_names_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers invent names: only some are remembered, and of those that are too long none."""
    searched: list[str] = []
    monkeypatch.setattr("gateway.proxy.prices._MODELS_MAX", 2)
    prices = Prices(NOON.timestamp)
    monkeypatch.setattr("gateway.proxy.prices._price", lambda _, model: searched.append(model))

    for model in ("a", "b", "c", "a", "x" * 201, "x" * 201):
        assert prices.price_of(model) is None

    assert searched == ["a", "b", "c", "a"]
