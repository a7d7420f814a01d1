"""The meter: what a call has cost, by what can be trusted most."""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal

from msgspec import Struct, structs

from gateway.domain.agent import Agent, Dialect
from gateway.domain.money import AMOUNT_MICROCENTS_MAX, microcents_from_cents
from gateway.domain.price import Price, cost_of
from gateway.domain.quote import BYTES_PER_INPUT_TOKEN, Quote
from gateway.domain.usage import Other, ToldUsage, Usage, merged, tells_input, usage_of
from gateway.proxy.answer_head import AnswerHead
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


class Metering(Struct, frozen=True, gc=False):
    """What the meter knows before the answer comes.

    ``price`` is that of ``model``, None where the call is not priced by its tokens.
    """

    agent: Agent
    quote: Quote
    model: str
    price_of: PriceOf
    price: Price | None


class _Inner(Struct, frozen=True, gc=False):
    """What is asked of the response or message that an event is about."""

    model: object = None
    usage: ToldUsage | Other = None


class _Told(Struct, frozen=True, gc=False):
    """What is asked of an answer. Events of OpenAI and Anthropic may hold it one level deeper."""

    model: object = None
    usage: ToldUsage | Other = None
    response: _Inner | Other = None
    message: _Inner | Other = None


_ANSWERS = Members(_Told)


def meter_of(metering: Metering, head: AnswerHead) -> "Meter":
    """Return the meter of the answer that has this head."""
    meter = Meter(metering, head.status, Events(_USAGE) if head.is_events else None)
    if metering.agent.pricing.mode == "reported":
        meter.look_for_cost_in_head(head.by_name)
    return meter


class Meter(Struct, eq=False):
    """Meters one answer: its headers, then its body in one piece or as a stream.

    ``has_all_usage`` is false while ``usage`` is only what a stream says at its begin, or says
    nothing of the input.
    ``reported`` is the cost that the upstream said, ``trusts`` whether one in the body would be
    believed. ``ignored_costs`` counts costs that were reported and that were no cost.
    """

    metering: Metering
    status: int
    events: Events | None
    pieces: list[bytes] = []
    size: int = 0
    usage: Usage | None = None
    has_all_usage: bool = False
    knows_input: bool = False
    model: str | None = None
    trusts: bool = False
    reported: int | None = None
    ignored_costs: int = 0

    @property
    def dialect(self) -> Dialect:
        """The agent's dialect."""
        return self.metering.agent.dialect

    @property
    def known(self) -> bool:
        """Whether the cost is certain before the body has come: nothing in it can change it."""
        agent = self.metering.agent
        # Of one that failed the usage decides whether it has cost anything.
        is_charged = self.status < 400 or agent.charge_errors
        return self.reported is not None or (agent.pricing.mode == "flat" and is_charged)

    def look_for_cost_in_head(self, headers: Mapping[bytes, bytes]) -> None:
        """Take the cost that an upstream which is believed says in its headers, if it does."""
        for name, read in (
            (b"budget-cost", microcents_from_cents),
            (b"x-litellm-response-cost", _microcents_from_usd),
        ):
            if self.reported is None and name in headers:
                self._take_cost(read(headers[name].decode("latin-1").strip()))
        # The caller is told this one: nothing in the body may change it.
        self.trusts = self.reported is None

    def feed(self, chunk: bytes) -> None:
        """Take a chunk of the body, in order."""
        self.size += len(chunk)
        if self.events is not None:
            for data in self.events.feed(chunk):
                self._look(data)
        elif self.size <= BODY_MAX:
            self.pieces.append(chunk)
        else:
            self.pieces.clear()

    def result(self, is_complete: bool = True) -> Metered | None:
        """Return the cost, or None where the call is to be released: it failed and cost nothing.

        ``is_complete`` is false where the answer broke off or the caller left: then a stream is
        priced by what was seen of it, by bytes where no usage had come.
        """
        if self.events is not None:
            for data in self.events.end():
                self._look(data)
        elif self.pieces:
            self._look(b"".join(self.pieces))
        return self._judged(is_complete)

    def result_of(self, body: bytes) -> Metered | None:
        """Return the cost of a complete answer whose body is in one piece."""
        if self.events is not None or len(body) > BODY_MAX:
            self.feed(body)
            return self.result()
        self._look(body)
        return self._judged()

    def _judged(self, is_complete: bool = True) -> Metered | None:
        metering, usage, model = self.metering, self.usage, self.model
        if self.reported is not None:
            return Metered(self.reported, "reported", usage, model)
        price = metering.price
        if price is not None and model is not None and model != metering.model:
            # The model that answered, where the list knows it; else the one that was asked for.
            price = metering.price_of(model) or price
        if usage is not None and price is not None and self.has_all_usage:
            return Metered(cost_of(usage, price), "tokens", usage, model, price.id)
        has_run = usage is not None and (usage.input_tokens or usage.output_tokens)
        if self.status < 400 or has_run or metering.agent.charge_errors:
            return self._kept(price, is_complete)
        # An answer that failed and tells of no cost has none, unless the agent says otherwise.
        return None

    def _kept(self, price: Price | None, is_complete: bool) -> Metered:
        """Return the cost of an answer that tells of none: the quote, or what was seen."""
        quote = self.metering.quote
        if quote.source == "flat" or self.metering.agent.pricing.mode == "flat":
            return Metered(quote.amount_microcents, "flat", self.usage, self.model)
        if price is None or is_complete or self.events is None:
            return Metered(quote.amount_microcents, "quote", self.usage, self.model)
        seen_tokens = -(-self.size // BYTES_PER_INPUT_TOKEN)
        if (told := self.usage) is not None and self.knows_input:
            # The input is known; of the output, what was sent and is not counted yet.
            output_tokens = max(told.output_tokens, seen_tokens)
            cost = cost_of(structs.replace(told, output_tokens=output_tokens), price)
            return Metered(cost, "partial", told, self.model, price.id)
        # The whole quote stands for the input; of the output only what was sent can have cost.
        seen = cost_of(Usage(0, seen_tokens, 0), price)
        return Metered(max(quote.amount_microcents, seen), "partial", None, self.model, price.id)

    def _look(self, data: bytes) -> None:
        # Usage is told at the end, after all the content: from there it is found at once.
        if data.rfind(_USAGE) < 0:
            return
        told = _ANSWERS.read(data)
        if told is None:
            # Of a cost in a text that cannot be read nothing is believed.
            self.ignored_costs += self.trusts and data.rfind(_COST) >= 0
            return
        usage, model = told.usage, told.model
        if told.response is not None or told.message is not None:
            usage, model = _deeper(told)
        if isinstance(usage, ToldUsage):
            seen = usage_of(usage)
            if seen is not None:
                self.usage = seen if self.usage is None else merged(self.usage, seen)
                self.knows_input = self.knows_input or seen.input_tokens > 0 or tells_input(usage)
                # Anthropic begins a stream with a message whose output is only begun, too.
                is_begin = told.message is not None and told.usage is None
                if self.knows_input and not (is_begin and self.events is not None):
                    self.has_all_usage = True
        if isinstance(model, str) and model:
            self.model = model[:_MODEL_LENGTH_MAX]
        if self.trusts and isinstance(told.usage, ToldUsage):
            self._look_for_cost(told.usage.cost)

    def _look_for_cost(self, cost: object) -> None:
        if cost is None:
            return
        # The shortest text of a parsed number is what the upstream wrote; its digits are exact.
        is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
        self._take_cost(
            _microcents_from_usd(format(Decimal(repr(cost)), "f") if is_number else cost)
        )

    def _take_cost(self, cost: int | None) -> None:
        if cost is None:
            self.ignored_costs += 1
        else:
            self.reported = cost


def _deeper(told: _Told) -> tuple[ToldUsage | Other, object]:
    """Return the outermost usage and model of those that are told one level deeper too."""
    usage, model = told.usage, told.model
    for holder in (told.response, told.message):
        if isinstance(holder, _Inner):
            usage = usage if isinstance(usage, ToldUsage) else holder.usage
            model = model if isinstance(model, str) and model else holder.model
    return usage, model


def _microcents_from_usd(text: object) -> int | None:
    if not isinstance(text, str) or not _PLAIN_USD.fullmatch(text):
        return None
    whole, _, fraction = text.partition(".")
    digits = fraction.ljust(9, "0")
    # One rounding, half away from zero: 8 decimals are microcents, the 9th decides.
    amount = int(whole + digits[:8]) + (digits[8] >= "5")
    return amount if amount <= AMOUNT_MICROCENTS_MAX else None
