"""The meter: what a call has cost, by what can be trusted most."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal

from msgspec import Struct

from gateway.domain.agent import Agent, Dialect
from gateway.domain.money import AMOUNT_MICROCENTS_MAX, microcents_from_cents
from gateway.domain.price import Price, cost_of
from gateway.domain.quote import BYTES_PER_INPUT_TOKEN, Quote
from gateway.domain.usage import Usage, merged, usage_of
from gateway.proxy.events import Events
from gateway.proxy.members import Members

Source = Literal["reported", "tokens", "partial", "flat", "quote"]
PriceOf = Callable[[str], Price | None]
# A whole JSON answer above this is passed on unread; its quote is kept.
BODY_MAX = 8 * 2**20
# Nothing else of an answer is of interest, so most are never parsed.
_USAGE, _COST = b'"usage"', b'"cost"'
# Of what an upstream calls its model; no real name is as long.
_MODEL_LENGTH_MAX = 200
_PLAIN_USD = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,20})?")


class Metered(Struct, frozen=True, gc=False):
    """The cost of a call. ``usage`` and ``model`` are what was seen, priced or not."""

    cost_microcents: int
    source: Source
    usage: Usage | None = None
    model: str | None = None
    price_id: str | None = None


class Metering(Struct, frozen=True):
    """What the meter knows before the answer comes; ``price`` is that of ``model``, if known."""

    agent: Agent
    quote: Quote
    model: str
    price_of: PriceOf
    price: Price | None


class _Told(Struct, frozen=True):
    """What is asked of an answer. Events of OpenAI and Anthropic may hold it one level deeper."""

    model: object = None
    usage: object = None
    response: object = None
    message: object = None


_ANSWERS = Members(_Told)


class Meter:
    """Meters one answer: its headers, then its body in one piece or as a stream.

    ``ignored_costs`` counts costs that the upstream reported and that were no cost.
    """

    __slots__ = (
        "_body",
        "_events",
        "_metering",
        "_model",
        "_reported",
        "_size",
        "_status",
        "_trusts",
        "_usage",
        "ignored_costs",
    )

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
        self._reported: int | None = None
        if self._trusts:
            self._look_for_cost_in_head(headers)
            # The caller was told this one: nothing in the body may change it.
            self._trusts = self._reported is None

    @property
    def dialect(self) -> Dialect:
        """The agent's dialect."""
        return self._metering.agent.dialect

    @property
    def known(self) -> bool:
        """Whether the cost is certain before the body has come: nothing in it can change it."""
        return self._reported is not None or self._metering.agent.pricing.mode == "flat"

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
        if self._status < 400 or metered.source == "tokens" or self._metering.agent.charge_errors:
            return metered
        # An answer that failed and tells of no cost has none, unless the agent says otherwise.
        return None

    def _priced(self, is_complete: bool) -> Metered:
        quote, usage = self._metering.quote, self._usage
        mode = self._metering.agent.pricing.mode
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
        # Usage is told at the end, after all the content: from there it is found at once.
        if data.rfind(_USAGE) < 0:
            return
        told = _ANSWERS.read(data)
        if told is None:
            # Of a cost in a text that cannot be read nothing is believed.
            self.ignored_costs += self._trusts and data.rfind(_COST) >= 0
            return
        usage, model = told.usage, told.model
        for holder in (told.response, told.message):
            if isinstance(holder, dict):
                usage = usage if isinstance(usage, dict) else holder.get("usage")
                model = model if isinstance(model, str) and model else holder.get("model")
        seen = usage_of(usage) if isinstance(usage, dict) else None
        if seen is not None:
            self._usage = merged(self._usage, seen)
        if isinstance(model, str) and model:
            self._model = model[:_MODEL_LENGTH_MAX]
        if self._trusts:
            self._look_for_cost(told.usage)

    def _look_for_cost(self, usage: object) -> None:
        cost = usage.get("cost") if isinstance(usage, dict) else None
        if cost is None:
            return
        # The shortest text of a parsed number is what the upstream wrote; its digits are exact.
        is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
        self._take_cost(
            _microcents_from_usd(format(Decimal(repr(cost)), "f") if is_number else cost)
        )

    def _look_for_cost_in_head(self, headers: Mapping[bytes, bytes]) -> None:
        for name, read in (
            (b"budget-cost", microcents_from_cents),
            (b"x-litellm-response-cost", _microcents_from_usd),
        ):
            if self._reported is None and name in headers:
                self._take_cost(read(headers[name].decode("latin-1").strip()))

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
