"""A quote is the most a call can cost, a cost is exact, and missing usage is never zero."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert, structs

from gateway.domain.agent import Agent, read_agent
from gateway.domain.price import Price, Rates, Tier, cost_of, quote_of
from gateway.domain.quote import Quote, Wish, quote_for
from gateway.domain.usage import ToldUsage, Usage, merged, usage_of

# In quarters of a microcent; no rate of its own for what is written to a cache.
MINI = Price("openai/gpt-4o-mini", Rates(15 * 4, 60 * 4, 30, 15 * 4), parts=4)
BODY_BYTES = 400
WISH = Wish(model="m", max_tokens=100)


def agent(mode: str, **price: object) -> Agent:
    """Return an agent with a price."""
    return read_agent({"upstream": "http://a", "price": {"mode": mode, **price}})


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"prompt_tokens": 12, "completion_tokens": 34}, Usage(12, 34, 0)),
        (
            {
                "prompt_tokens": 12,
                "completion_tokens": 34,
                "prompt_tokens_details": {"cached_tokens": 5},
            },
            Usage(12, 34, 5),
        ),
        (
            {
                "prompt_tokens": 12,
                "completion_tokens": None,
                "prompt_tokens_details": {"cached_tokens": None},
            },
            Usage(12, 0, 0),
        ),
        ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 0)),
        ({"input_tokens": 8, "total_tokens": 8}, Usage(8, 0, 0)),
        (
            {
                "input_tokens": 7,
                "output_tokens": 9,
                "input_tokens_details": {"cached_tokens": 3},
            },
            Usage(7, 9, 3),
        ),
        (
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 20,
                "cache_read_input_tokens": 30,
                "output_tokens": 4,
            },
            Usage(60, 4, 30, 20),
        ),
        ({"input_tokens": 10, "output_tokens": 1}, Usage(10, 1, 0)),
        # What a cache gave is Anthropic's, also beside the details of OpenAI.
        (
            {
                "input_tokens": 10,
                "output_tokens": 1,
                "cache_read_input_tokens": 5,
                "input_tokens_details": {"cached_tokens": 3},
            },
            Usage(15, 1, 5),
        ),
        ({"output_tokens": 40}, Usage(0, 40, 0)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0, 0)),
    ],
)
def test_usage_of_known_answers(told: dict[str, object], usage: Usage) -> None:
    """Each API is read; what was cached is part of the input; an explicit zero is zero."""
    assert usage_of(convert(told, ToldUsage)) == usage


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"prompt_tokens": None},
        {"prompt_tokens": -1, "completion_tokens": 1},
        {"prompt_tokens": 1.5, "completion_tokens": 1},
        {"prompt_tokens": True, "completion_tokens": 1},
        {"prompt_tokens": "12", "completion_tokens": 1},
        {"prompt_tokens": 10**12, "completion_tokens": 1},
        {"prompt_tokens": 1, "completion_tokens": -1},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 2}},
        {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": -1}},
        {"input_tokens": 1},
        {"input_tokens": 1, "output_tokens": 1, "cache_read_input_tokens": -1},
        {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": True},
        {"input_tokens": 1.5, "output_tokens": 1},
        {"output_tokens": 10**9 + 1},
    ],
)
def test_what_is_no_usage_is_not_zero(told: dict[str, object]) -> None:
    """Missing, negative, fractional or impossible counts are no usage at all."""
    assert usage_of(convert(told, ToldUsage)) is None


def test_anthropic_stream_counts_once() -> None:
    """The first event has the input, the last one all of the output."""
    usage = merged(Usage(10, 1, 2, 3), Usage(0, 20, 0))

    assert merged(usage, Usage(0, 40, 0)) == Usage(10, 40, 2, 3)


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        (Usage(12, 34, 0), 12 * 15 + 34 * 60),
        # 1 cached token costs 7.5 microcents: half goes away from zero.
        (Usage(1, 0, 1), 8),
        (Usage(3, 0, 3), 23),
        (Usage(0, 0, 0), 0),
    ],
)
def test_cost_is_rounded_once(usage: Usage, cost: int) -> None:
    """Tokens times price, exact, and one rounding at the end."""
    assert cost_of(usage, MINI) == cost


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        # What is written to a cache costs a quarter more than other input.
        (Usage(100, 0, 0, 40), 60 * 15 + 40 * 18.75),
        (Usage(100, 0, 60, 40), 60 * 7.5 + 40 * 18.75),
        # Above 1,000 tokens of input everything costs the rate of that tier.
        (Usage(1_000, 1, 0), 1_000 * 15 + 60),
        (Usage(1_001, 1, 0), 1_001 * 30 + 120),
    ],
)
def test_cost_by_kind_and_tier(usage: Usage, cost: float) -> None:
    """Each kind of token has its rate, and a long input raises the rate of every token."""
    tiered = structs.replace(
        MINI,
        rates=Rates(15 * 4, 60 * 4, 30, 75),
        tiers=(Tier(1_000, Rates(30 * 4, 120 * 4, 30, 75)),),
    )

    assert cost_of(usage, tiered) == cost


def test_call_of_a_model_can_cost_by_itself() -> None:
    """A price per call comes on top of the tokens, in the quote too."""
    price = structs.replace(MINI, call_microcents=500_000)

    assert cost_of(Usage(1, 1, 0), price) == quote_of(1, 1, price) == 500_075


def test_cost_ends_at_the_largest_amount() -> None:
    """What cannot be counted exactly is not counted at all: the cap is the most."""
    dear = structs.replace(MINI, rates=Rates(0, 10**8, 0, 0), parts=1)

    assert cost_of(Usage(0, 10**9, 0), dear) == 2**53 - 1


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_quote_covers_every_cost_within_it(read: int, cached: int, written: int) -> None:
    """No usage within the quoted one costs more than the quote, however much was cached."""
    most = quote_of(read + cached, written, MINI)

    assert cost_of(Usage(read + cached, written, cached), MINI) <= most


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
def test_reading_quotes_zero(method: str) -> None:
    """What only reads, or ends something, costs nothing."""
    flat = agent("flat", cents="2")

    assert quote_for(flat, method, BODY_BYTES, WISH, None) == Quote(0, "free")


@pytest.mark.parametrize(
    ("price", "wish", "quote"),
    [
        ({"mode": "flat", "cents": "2"}, {}, Quote(2_000_000, "flat")),
        ({"mode": "reported", "ceiling_cents": "50"}, {}, Quote(50_000_000, "ceiling")),
        # 400 bytes are 200 tokens of input at 15 microcents; output at 60.
        ({"mode": "tokens"}, {"max_tokens": 100}, Quote(200 * 15 + 100 * 60, "tokens")),
        (
            {"mode": "tokens"},
            {"max_completion_tokens": 100, "max_output_tokens": 99},
            Quote(200 * 15 + 100 * 60, "tokens"),
        ),
        (
            {"mode": "tokens"},
            {"max_tokens": 7, "max_completion_tokens": 10, "n": 3},
            Quote(200 * 15 + 30 * 60, "tokens"),
        ),
        (
            {"mode": "tokens"},
            {"max_output_tokens": 10**30, "n": 10**30},
            Quote(200 * 15 + 128 * 10**7 * 60, "tokens"),
        ),
        (
            {"mode": "tokens", "output_default": 7},
            {"max_tokens": "9", "max_output_tokens": 9.0, "n": 2.0},
            Quote(200 * 15 + 7 * 60, "tokens"),
        ),
        (
            {"mode": "tokens", "ceiling_cents": "0.001"},
            {"max_tokens": 100},
            Quote(1_000, "ceiling"),
        ),
    ],
)
def test_quote_by_mode(price: dict[str, object], wish: dict[str, object], quote: Quote) -> None:
    """Flat takes the price, reported its ceiling, tokens the largest output that may come."""
    described = read_agent({"upstream": "http://a", "price": price})

    assert quote_for(described, "POST", BODY_BYTES, Wish(**wish), MINI) == quote


@pytest.mark.parametrize(
    ("on_unpriced", "expected"),
    [("deny", None), ("flat", Quote(3_000_000, "flat")), ("allow", Quote(0, "free"))],
)
def test_model_without_a_price(on_unpriced: str, expected: Quote | None) -> None:
    """Unknown models are denied unless the agent says what they cost."""
    described = read_agent(
        {
            "upstream": "http://a",
            "price": {"mode": "tokens", "cents": "3"},
            "on_unpriced": on_unpriced,
        }
    )

    assert quote_for(described, "POST", BODY_BYTES, WISH, None) == expected
