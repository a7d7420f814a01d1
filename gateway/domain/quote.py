"""Quotes: the most that a call can cost, before it runs."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from gateway.domain.agent import Agent
from gateway.domain.price import Price, quote_of
from gateway.domain.usage import Usage

# English text has about four bytes to a token and Chinese two to three: two bytes are the careful
# side of both. What it misses is an overage, which is charged like all the rest.
BYTES_PER_INPUT_TOKEN = 2
FREE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "DELETE"))
_OUTPUT_MEMBERS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_OUTPUT_TOKENS_MAX = 10_000_000
_CHOICES_MAX = 128


class Quote(NamedTuple):
    """The amount to hold, and what it was made of."""

    amount_microcents: int
    source: Literal["free", "flat", "tokens", "ceiling"]


class Unpriced(NamedTuple):
    """There is no price for this call, and the agent does not run such calls."""

    model: str


class Call(NamedTuple):
    """What a quote needs to know of a call; ``message`` is its JSON object where it has one."""

    method: str
    body_bytes: int
    message: Mapping[str, object] | None


def quote_for(agent: Agent, call: Call, price: Price | None) -> Quote | Unpriced:
    """Return the most that a call can cost. A method that only reads quotes zero."""
    if call.method in FREE_METHODS:
        return Quote(0, "free")
    pricing = agent.pricing
    if pricing.mode == "flat":
        return Quote(pricing.flat_microcents or 0, "flat")
    if pricing.mode == "reported":
        return Quote(pricing.ceiling_microcents or 0, "ceiling")
    if price is None:
        return _unpriced(agent, call)
    amount = quote_of(_most_usage(call, pricing.output_default), price)
    if pricing.ceiling_microcents is not None and pricing.ceiling_microcents < amount:
        return Quote(pricing.ceiling_microcents, "ceiling")
    return Quote(amount, "tokens")


def _unpriced(agent: Agent, call: Call) -> Quote | Unpriced:
    if agent.on_unpriced == "flat":
        return Quote(agent.pricing.flat_microcents or 0, "flat")
    if agent.on_unpriced == "allow":
        return Quote(0, "free")
    return Unpriced(str((call.message or {}).get("model", "")))


def _most_usage(call: Call, output_default: int) -> Usage:
    message, output_tokens = call.message or {}, -1
    for name in _OUTPUT_MEMBERS:
        stated = message.get(name)
        # Where a body states several limits the API takes one of them: hold for the largest.
        if type(stated) is int and stated > output_tokens:
            output_tokens = min(stated, _OUTPUT_TOKENS_MAX)
    if output_tokens < 0:
        output_tokens = output_default
    choices = message.get("n")
    if type(choices) is int and choices > 1:
        output_tokens *= min(choices, _CHOICES_MAX)
    return Usage(-(-call.body_bytes // BYTES_PER_INPUT_TOKEN), output_tokens, 0)
