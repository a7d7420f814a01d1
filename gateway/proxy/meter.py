"""The meter: what a call has cost, by what can be trusted most."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal, NamedTuple

import orjson

from gateway.domain.agent import Agent, Dialect
from gateway.domain.money import AMOUNT_MICROCENTS_MAX, microcents_from_cents
from gateway.domain.price import Price, cost_of
from gateway.domain.quote import BYTES_PER_INPUT_TOKEN, Quote
from gateway.domain.usage import Usage, merged, usage_of
from gateway.proxy.events import Events

Source = Literal["reported", "tokens", "partial", "flat", "quote"]
PriceOf = Callable[[str], Price | None]
# A whole JSON answer above this is passed on unread; its quote is kept.
BODY_MAX = 8 * 2**20
# Nothing else of an answer is of interest, so most are never parsed.
_USAGE = b'"usage"'
_PLAIN_USD = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,20})?")


class Metered(NamedTuple):
    """The cost of a call. ``usage`` and ``model`` are what was seen, priced or not."""

    cost_microcents: int
    source: Source
    usage: Usage | None = None
    model: str | None = None
    price_id: str | None = None


class Metering(NamedTuple):
    """What the meter knows before the answer comes; ``price`` is that of ``model``, if known."""

    agent: Agent
    quote: Quote
    model: str
    price_of: PriceOf
    price: Price | None


class Meter:
    """Meters one answer: its headers, then its body in one piece or as a stream.

    ``ignored_costs`` counts costs that the upstream reported and that were no cost.
    """

    def __init__(
        self, metering: Metering, status: int, headers: Mapping[bytes, bytes], is_stream: bool
    ) -> None:
        self._metering = metering
        self._status = status
        self._events = Events(_USAGE) if is_stream else None
        self._body: list[bytes] = []
        self._size = 0
        self._usage: Usage | None = None
        self._model: str | None = None
        self.ignored_costs = 0
        self._trusts = metering.agent.pricing.mode == "reported"
        self._reported = self._header_cost(headers) if self._trusts else None

    @property
    def dialect(self) -> Dialect:
        """The agent's dialect."""
        return self._metering.agent.dialect

    @property
    def known(self) -> bool:
        """Whether the cost is certain before the body has come: nothing in it can change it."""
        pricing = self._metering.agent.pricing
        return pricing.mode == "flat" or self._reported is not None

    def feed(self, chunk: bytes) -> None:
        """Take a chunk of the body, in order."""
        self._size += len(chunk)
        if self._events is not None:
            for data in self._events.feed(chunk):
                self._look(data)
        elif self._size <= BODY_MAX:
            self._body.append(chunk)
        else:
            self._body.clear()

    def result(self, is_complete: bool = True) -> Metered | None:
        """Return the cost, or None where the call is to be released: it failed and cost nothing.

        ``is_complete`` is false where the answer broke off or the caller left: then a stream is
        priced by what was seen of it, by bytes where no usage had come.
        """
        if self._events is not None:
            for data in self._events.end():
                self._look(data)
        elif self._body:
            self._look(b"".join(self._body))
        if self._reported is not None:
            return Metered(self._reported, "reported", self._usage, self._model)
        metered = self._priced(is_complete)
        # An answer that failed and tells of no cost has none, unless the agent says otherwise.
        is_failure = self._status >= 400 and metered.source != "tokens"
        return None if is_failure and not self._metering.agent.charge_errors else metered

    def _priced(self, is_complete: bool) -> Metered:
        agent, quote = self._metering.agent, self._metering.quote
        mode, usage = agent.pricing.mode, self._usage
        if mode == "flat" or quote.source == "flat":
            return self._kept("flat")
        price = self._price() if mode == "tokens" and quote.source != "free" else None
        if price is not None and usage is not None:
            return Metered(cost_of(usage, price), "tokens", usage, self._model, price.id)
        if price is None or is_complete or self._events is None:
            return self._kept("quote")
        # The whole quote stands for the input; of the output only what was sent can have cost.
        seen = cost_of(Usage(0, -(-self._size // BYTES_PER_INPUT_TOKEN), 0), price)
        return Metered(max(quote.amount_microcents, seen), "partial", None, self._model, price.id)

    def _kept(self, source: Source) -> Metered:
        amount_microcents = self._metering.quote.amount_microcents
        return Metered(amount_microcents, source, self._usage, self._model)

    def _price(self) -> Price | None:
        # The model that answered, where the list knows it; else the one that was asked for.
        metering, model = self._metering, self._model
        price = metering.price_of(model) if model and model != metering.model else None
        return price or metering.price

    def _look(self, data: bytes) -> None:
        if _USAGE not in data:
            return
        try:
            message = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(message, dict):
            return
        usage = usage_of(message)
        if usage is not None:
            self._usage = merged(self._usage, usage)
        self._model = _model(message) or self._model
        if self._trusts:
            self._look_for_cost(message.get("usage"))

    def _look_for_cost(self, usage: object) -> None:
        cost = usage.get("cost") if isinstance(usage, dict) else None
        if cost is None:
            return
        # The shortest text of a parsed number is what the upstream wrote; its digits are exact.
        is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
        self._take_cost(
            _microcents_from_usd(format(Decimal(repr(cost)), "f") if is_number else cost)
        )

    def _header_cost(self, headers: Mapping[bytes, bytes]) -> int | None:
        for name, read in (
            (b"budget-cost", microcents_from_cents),
            (b"x-litellm-response-cost", _microcents_from_usd),
        ):
            if name in headers:
                self._reported = None
                self._take_cost(read(headers[name].decode("latin-1").strip()))
                return self._reported
        return None

    def _take_cost(self, cost: int | None) -> None:
        if cost is None:
            self.ignored_costs += 1
        else:
            self._reported = cost


def _microcents_from_usd(text: object) -> int | None:
    if not isinstance(text, str) or not _PLAIN_USD.fullmatch(text):
        return None
    whole, _, fraction = text.partition(".")
    digits = fraction.ljust(9, "0")
    # One rounding, half away from zero: 8 decimals are microcents, the 9th decides.
    amount = int(whole + digits[:8]) + (digits[8] >= "5")
    return amount if amount <= AMOUNT_MICROCENTS_MAX else None


def _model(message: Mapping[str, object]) -> str | None:
    for holder in (message, message.get("response"), message.get("message")):
        model = holder.get("model") if isinstance(holder, dict) else None
        if isinstance(model, str) and model:
            return model
    return None
