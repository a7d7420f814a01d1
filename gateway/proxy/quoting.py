"""Quoting: what a call is read for to know the most that it can cost."""

from gateway.domain.agent import Agent
from gateway.domain.money import microcents_from_cents
from gateway.domain.quote import FREE_METHODS, Quote, Wish, quote_for
from gateway.proxy.invocation import Invocation
from gateway.proxy.members import Members
from gateway.proxy.meter import Metering, PriceOf
from gateway.proxy.problem import Problem, cents

_WISHES = Members(Wish)
_NO_WISH = Wish()
# Of what a caller calls a model; a body could be one long name.
_TOLD_MAX = 200


def needs_body(agent: Agent, call: Invocation) -> bool:
    """Say whether a call can only be asked for with its whole body at hand."""
    return agent.pricing.mode == "tokens" or bool(call.target.head.idempotency_key)


def metering_for(
    call: Invocation, agent: Agent, body: bytes | None, price_of: PriceOf
) -> Metering | Problem:
    """Return the quote of a call and what its meter must know, or why it has none."""
    target, wish = call.target, _NO_WISH
    if body and agent.pricing.mode == "tokens" and target.method not in FREE_METHODS:
        wish = _WISHES.read(body) or _NO_WISH
    model = wish.model if isinstance(wish.model, str) else ""
    price = price_of(model) if model else None
    quote = quote_for(agent, target.method, len(body) if body else 0, wish, price)
    if quote is None:
        return _unpriced(model[:_TOLD_MAX])
    max_cost_cents = target.head.max_cost_cents
    if max_cost_cents and (refusal := _above_ceiling(max_cost_cents, quote)):
        return refusal
    return Metering(agent, quote, model, price_of, price)


def _unpriced(model: str) -> Problem:
    which = f"the model {model!r}" if model else "a body that names no model"
    return Problem("price_unknown", f"There is no price for {which}.", {"model": model})


def _above_ceiling(max_cost_cents: str, quote: Quote) -> Problem | None:
    """Refuse what may cost more than the caller allows.

    Holding less than the quote instead would let a caller spend what its budget does not have.
    """
    ceiling = microcents_from_cents(max_cost_cents)
    if ceiling is None:
        detail = f"Budget-Max-Cost is {max_cost_cents!r}; expected cents such as 2.5."
        return Problem("bad_request", detail)
    if quote.amount_microcents <= ceiling:
        return None
    members: dict[str, object] = {
        "scope": "call",
        "limit_cents": cents(ceiling),
        "requested_cents": cents(quote.amount_microcents),
    }
    detail = "This call may cost more than its Budget-Max-Cost allows."
    return Problem("per_call_limit_exceeded", detail, members)
