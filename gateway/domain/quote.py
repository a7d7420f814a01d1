"""Quotes: the most that a call can cost, before it runs."""

from typing import Literal

from msgspec import Struct

from gateway.domain.agent import Agent
from gateway.domain.price import Price, quote_of

# English text has about four bytes to a token and Chinese two to three: two bytes are the careful
# side of both. What it misses is an overage, which is charged like all the rest.
BYTES_PER_INPUT_TOKEN = 2
FREE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
OUTPUT_TOKENS_MAX = 10_000_000
_CHOICES_MAX = 128


class Quote(Struct, frozen=True, gc=False):
    """The amount to hold, and what it was made of."""

    amount_microcents: int
    source: Literal["free", "flat", "tokens", "ceiling"]


class Wish(Struct, frozen=True, gc=False):
    """What the JSON object of a request says of its cost, each as it was written.

    A request that has no such object wishes nothing.
    """

    model: object = None
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    n: object = None


def quote_for(
    agent: Agent, method: str, body_bytes: int, wish: Wish, price: Price | None
) -> Quote | None:
    """Return the most that a call can cost. A method that only reads quotes zero.

    None: the call has no price, and the agent does not run such calls.
    """
    if method in FREE_METHODS:
        return Quote(0, "free")
    pricing = agent.pricing
    if price is None or pricing.mode != "tokens":
        return _quote_without_price(agent)
    input_tokens = -(-body_bytes // BYTES_PER_INPUT_TOKEN)
    amount = quote_of(input_tokens, _output_tokens(wish, pricing.output_default), price)
    ceiling = pricing.ceiling_microcents
    if ceiling is not None and ceiling < amount:
        return Quote(ceiling, "ceiling")
    return Quote(amount, "tokens")


def _quote_without_price(agent: Agent) -> Quote | None:
    if agent.pricing.mode == "reported":
        return Quote(agent.pricing.ceiling_microcents or 0, "ceiling")
    if agent.pricing.mode == "flat" or agent.on_unpriced == "flat":
        return Quote(agent.pricing.flat_microcents or 0, "flat")
    return Quote(0, "free") if agent.on_unpriced == "allow" else None


def _output_tokens(wish: Wish, output_default: int) -> int:
    output_tokens = -1
    # Where a body states several limits the API takes one of them: hold for the largest.
    for stated in (wish.max_tokens, wish.max_completion_tokens, wish.max_output_tokens):
        if stated is not None and type(stated) is int and stated > output_tokens:
            output_tokens = stated
    if output_tokens < 0:
        output_tokens = output_default
    elif output_tokens > OUTPUT_TOKENS_MAX:
        output_tokens = OUTPUT_TOKENS_MAX
    choices = wish.n
    if choices is not None and type(choices) is int and choices > 1:
        output_tokens *= min(choices, _CHOICES_MAX)
    return output_tokens
