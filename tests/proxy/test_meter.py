"""What a call has cost, by what can be trusted most; however its answer is cut into chunks."""

import itertools

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.agent import Agent, read_agent
from gateway.domain.quote import Quote
from gateway.domain.usage import Usage
from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.meter import BODY_MAX, Meter, Metered, Metering, meter_of
from gateway.proxy.prices import Prices

PRICES = Prices()
QUOTE = Quote(50_000, "tokens")
# 12 tokens at 15 microcents and 34 at 60.
COST = 12 * 15 + 34 * 60
CHAT = {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 12, "completion_tokens": 34}}
OPENAI_STREAM = (
    b'data: {"model":"gpt-4o-mini","choices":[{"delta":{"content":"a \\"usage\\" b"}}]}\n\n'
    b'data: {"model":"gpt-4o-mini","choices":[],"usage":null}\r\n\r\n'
    b'data: {"model":"gpt-4o-mini","choices":[],\ndata: "usage":'
    b'{"prompt_tokens":12,"completion_tokens":34}}\n\ndata: [DONE]\n\n'
)
ANTHROPIC_START = (
    b'event: message_start\r\ndata: {"type":"message_start","message":{"model":'
    b'"claude-3-5-haiku-20241022","usage":{"input_tokens":12,"output_tokens":1}}}\r\n\r\n'
)
ANTHROPIC_TEXT = (
    b'event: content_block_delta\r\ndata: {"type":"content_block_delta",'
    b'"delta":{"text":"twelve"}}\r\n\r\n'
)
ANTHROPIC_STREAM = ANTHROPIC_START + (
    b'event: message_delta\r\ndata: {"type":"message_delta","usage":{"output_tokens":20}}\r\n\r\n'
    b'event: message_delta\r\ndata: {"type":"message_delta","usage":{"output_tokens":34}}\r\n\r\n'
)


def agent(mode: str = "tokens", **members: object) -> Agent:
    """Return an agent of a price mode."""
    price = {"mode": mode, "cents": "2", "ceiling_cents": "50"}
    return read_agent({"upstream": "http://a", "price": price, **members})


def meter(
    described: Agent,
    status: int = 200,
    headers: dict[bytes, bytes] | None = None,
    is_stream: bool = False,
) -> Meter:
    """Return a meter of a call that asked for gpt-4o-mini."""
    price = PRICES.price_of("gpt-4o-mini") if described.pricing.mode == "tokens" else None
    metering = Metering(described, QUOTE, "gpt-4o-mini", PRICES.price_of, price)
    kind = b"text/event-stream" if is_stream else b"application/json"
    told = [*(headers or {}).items(), (b"content-type", kind)]
    return meter_of(metering, own_answer_head(status, told))


def metered(described: Agent, body: bytes, status: int = 200) -> Metered | None:
    """Return what an answer in one piece costs, whichever way it is metered."""
    one, whole = meter(described, status), meter(described, status)
    one.feed(body)
    result = one.result()
    assert whole.result_of(body) == result
    return result


def test_json_answer_is_priced_by_its_tokens() -> None:
    """Usage times price, with the model and the price that it was."""
    assert metered(agent(), orjson.dumps(CHAT)) == Metered(
        COST, "tokens", Usage(12, 34, 0), "gpt-4o-mini", "openai/gpt-4o-mini"
    )


@pytest.mark.parametrize(
    ("answered", "cost_microcents", "price_id"),
    [
        # 12 tokens at 250 microcents and 34 at 1,000.
        ("gpt-4o", 12 * 250 + 34 * 1_000, "openai/gpt-4o"),
        # The list does not know it: it costs what the one that was asked for costs.
        ("no-such-model", COST, "openai/gpt-4o-mini"),
    ],
)
def test_model_that_answered_is_priced(answered: str, cost_microcents: int, price_id: str) -> None:
    """A router may answer with another model than was asked for: its price counts, where known."""
    result = metered(agent(), orjson.dumps(CHAT | {"model": answered}))

    assert result is not None
    assert (result.cost_microcents, result.model) == (cost_microcents, answered)
    assert result.price_id == price_id


@pytest.mark.parametrize(
    ("answer", "usage", "model"),
    [
        ({"response": CHAT}, Usage(12, 34, 0), "gpt-4o-mini"),
        ({"message": CHAT}, Usage(12, 34, 0), "gpt-4o-mini"),
        ({"usage": None, "model": "", "response": CHAT}, Usage(12, 34, 0), "gpt-4o-mini"),
        ({"usage": [1], "model": 7, "message": CHAT}, Usage(12, 34, 0), "gpt-4o-mini"),
        # The outermost counts, also where it is no usage.
        ({"usage": {}, "model": "gpt-4o", "response": CHAT}, None, "gpt-4o"),
        ({"response": {"usage": {}, "model": "gpt-4o"}, "message": CHAT}, None, "gpt-4o"),
        ({"response": [CHAT], "message": "usage"}, None, None),
        (
            {"response": {"usage": 1, "model": None}, "message": CHAT},
            Usage(12, 34, 0),
            "gpt-4o-mini",
        ),
        ({**CHAT, "model": 7}, Usage(12, 34, 0), None),
        # No model is noted of an answer that says nothing of usage.
        ({"model": "gpt-4o", "response": {"model": "gpt-4o"}}, None, None),
    ],
)
def test_usage_and_model_one_level_deeper(
    answer: dict[str, object], usage: Usage | None, model: str | None
) -> None:
    """The events of OpenAI and Anthropic tell usage and model inside their response or message."""
    result = metered(agent(), orjson.dumps(answer))

    assert result is not None
    assert (result.usage, result.model) == (usage, model)


def test_answer_with_a_mistake_is_not_believed() -> None:
    """Usage in bytes that are not UTF-8, or not one JSON object, is none: the quote stands."""
    for answer in (
        b'{"x":"\xff","usage":{"prompt_tokens":1}}',
        b'[{"usage":{"prompt_tokens":1}}]',
        b'{"usage":{"prompt_tokens":1}}}',
    ):
        assert metered(agent(), answer) == Metered(QUOTE.amount_microcents, "quote")


def test_whole_answer_may_come_in_pieces() -> None:
    """A whole answer costs the same in one piece and in many, up to the size that is read."""
    body = orjson.dumps({"content": "x" * 1_000, **CHAT})
    pieces, above = meter(agent()), meter(agent())
    for at in range(0, len(body), 7):
        pieces.feed(body[at : at + 7])
    above.feed(b" " * BODY_MAX)
    above.feed(body)

    assert pieces.result() == metered(agent(), body)
    assert above.result() == Metered(QUOTE.amount_microcents, "quote")


@given(st.lists(st.integers(0, len(OPENAI_STREAM)), max_size=12))
def test_openai_stream_cut_anywhere(cuts: list[int]) -> None:
    """The same cost wherever the stream is cut, for any line ends."""
    assert _streamed(OPENAI_STREAM, cuts) == (COST, Usage(12, 34, 0))


@given(st.lists(st.integers(0, len(ANTHROPIC_STREAM)), max_size=12))
def test_anthropic_stream_cut_anywhere(cuts: list[int]) -> None:
    """Input from the first event, output from the last, neither counted twice."""
    _, usage = _streamed(ANTHROPIC_STREAM, cuts)

    assert usage == Usage(12, 34, 0)


def _streamed(stream: bytes, cuts: list[int]) -> tuple[int, Usage | None]:
    one = meter(agent(), is_stream=True)
    places = [0, *sorted(cuts), len(stream)]
    for start, end in itertools.pairwise(places):
        one.feed(stream[start:end])
    result = one.result()
    assert result is not None
    return result.cost_microcents, result.usage


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_keeps_the_quote(chunks: list[bytes]) -> None:
    """Bytes that are no event stream, or no JSON, have no usage: the quote stands."""
    for is_stream in (True, False):
        one = meter(agent(), is_stream=is_stream)
        for chunk in chunks:
            one.feed(chunk)

        assert one.result() == Metered(QUOTE.amount_microcents, "quote")


def test_missing_usage_is_not_zero_and_explicit_zero_is() -> None:
    """A success without usage keeps the quote; a counted zero costs nothing."""
    nothing = metered(agent(), b'{"model":"gpt-4o-mini"}')
    zero = metered(agent(), b'{"usage":{"prompt_tokens":0,"completion_tokens":0}}')

    assert nothing is not None
    assert zero is not None
    assert (nothing.cost_microcents, zero.cost_microcents) == (QUOTE.amount_microcents, 0)


@pytest.mark.parametrize(
    ("described", "body", "cost"),
    [
        (agent(), b"{}", None),
        (agent("flat"), b"{}", None),
        (agent(charge_errors=True), b"{}", QUOTE.amount_microcents),
        (agent(), orjson.dumps(CHAT), COST),
    ],
)
def test_failed_answer_without_cost_is_released(
    described: Agent, body: bytes, cost: int | None
) -> None:
    """400 and above costs nothing unless usage was told or the agent charges errors."""
    result = metered(described, body, 500)

    assert (result.cost_microcents if result else None) == cost


@pytest.mark.parametrize(
    ("headers", "cost", "ignored"),
    [
        ({b"budget-cost": b"1.5"}, 1_500_000, 0),
        ({b"x-litellm-response-cost": b"0.000000015"}, 2, 0),
        ({b"x-litellm-response-cost": b"0.12"}, 12_000_000, 0),
        ({b"budget-cost": b"-1"}, QUOTE.amount_microcents, 1),
        ({b"budget-cost": b"nan"}, QUOTE.amount_microcents, 1),
        ({b"budget-cost": b"1e3"}, QUOTE.amount_microcents, 1),
        ({b"budget-cost": b"99999999999"}, QUOTE.amount_microcents, 1),
        ({b"x-litellm-response-cost": b"99999999999"}, QUOTE.amount_microcents, 1),
        ({b"budget-cost": b"nan", b"x-litellm-response-cost": b"0.03"}, 3_000_000, 1),
        ({b"budget-cost": b"3", b"x-litellm-response-cost": b"0.5"}, 3_000_000, 0),
    ],
)
def test_reported_cost_of_a_trusted_upstream(
    headers: dict[bytes, bytes], cost: int, ignored: int
) -> None:
    """A plain decimal within the cap is the cost; anything else is ignored and counted."""
    one = meter(agent("reported"), headers=headers)
    result = one.result()

    assert result is not None
    assert (result.cost_microcents, one.ignored_costs) == (cost, ignored)


@pytest.mark.parametrize(
    ("cost", "microcents", "ignored"),
    [
        ("0.29", 29_000_000, 0),
        ("1e-7", 10, 0),
        ('"0.29"', 29_000_000, 0),
        ("0", 0, 0),
        ("-0.1", QUOTE.amount_microcents, 1),
        ("true", QUOTE.amount_microcents, 1),
        ("[1]", QUOTE.amount_microcents, 1),
        ("1e30", QUOTE.amount_microcents, 1),
    ],
)
def test_reported_cost_in_the_body(cost: str, microcents: int, ignored: int) -> None:
    """usage.cost in USD is the cost to the last digit; what is no cost is ignored and counted."""
    one = meter(agent("reported"))
    one.feed(b'{"cost":7,"usage":{"cost": %s, "prompt_tokens":1}}' % cost.encode())
    result = one.result()

    assert result is not None
    assert (result.cost_microcents, one.ignored_costs) == (microcents, ignored)


def test_text_without_a_cost_has_none_to_ignore() -> None:
    """What cannot be read counts as an ignored cost only where it says something of one."""
    one = meter(agent("reported"))
    one.feed(b'{"usage": {"prompt_tokens": NaN}}')

    assert one.result() is not None
    assert one.ignored_costs == 0


def test_name_of_a_model_is_bounded() -> None:
    """An upstream cannot fill the journal with what it calls its model."""
    result = metered(agent("tokens"), b'{"model":"%b","usage":{}}' % (b"m" * 100_000))

    assert result is not None
    assert result.model == "m" * 200


@pytest.mark.parametrize("mode", ["flat", "tokens"])
def test_cost_of_an_untrusted_upstream_is_not_looked_at(mode: str) -> None:
    """Only an agent whose price is reported may say what it has cost."""
    result = meter(agent(mode), headers={b"budget-cost": b"0"}).result()

    assert result is not None
    assert result.cost_microcents == QUOTE.amount_microcents


def test_broken_stream_is_priced_by_what_was_seen() -> None:
    """Without usage at least the quote is the cost, and more if more came."""
    without = meter(agent(), is_stream=True)
    without.feed(b"data: {}\n\n" * 10_000)

    result = without.result(is_complete=False)

    assert result == Metered(50_000 * 60, "partial", None, None, "openai/gpt-4o-mini")


@pytest.mark.parametrize(
    ("sent", "usage", "microcents", "source"),
    [
        # 12 tokens of input at 80 microcents; of output at 400 half as many as bytes were sent.
        (ANTHROPIC_START, Usage(12, 1, 0), 12 * 80 + 75 * 400, "partial"),
        (ANTHROPIC_START + ANTHROPIC_TEXT * 9, Usage(12, 1, 0), 12 * 80 + 498 * 400, "partial"),
        # What the last events say is the output, whatever was sent.
        (ANTHROPIC_STREAM, Usage(12, 34, 0), 12 * 80 + 34 * 400, "tokens"),
    ],
    ids=["begin", "some text", "all but its end"],
)
def test_broken_stream_of_anthropic_costs_what_was_sent(
    sent: bytes, usage: Usage, microcents: int, source: str
) -> None:
    """Its first event tells the input, and of the output only that it has begun."""
    broken = meter(agent(), is_stream=True)
    broken.feed(sent)

    result = broken.result(is_complete=False)

    assert result is not None
    assert (result.usage, result.cost_microcents, result.source) == (usage, microcents, source)


@pytest.mark.parametrize(
    ("begin", "cost"),
    [
        (b'{"message":{"usage":{"input_tokens":12,"output_tokens":1}}}', 12 * 15 + 34 * 60),
        (b'{"message":{"usage":{"input_tokens":0,"output_tokens":1}}}', 34 * 60),
        # What is not told is not zero: the quote is kept.
        (b'{"message":{}}', QUOTE.amount_microcents),
    ],
    ids=["told", "told to be zero", "not told"],
)
def test_input_that_is_not_told_is_not_zero(begin: bytes, cost: int) -> None:
    """Only its output is counted by the last event of a stream of Anthropic's."""
    whole = meter(agent(), is_stream=True)
    whole.feed(b"data: %b\n\n" % begin)
    whole.feed(b'data: {"type":"message_delta","usage":{"output_tokens":34}}\n\n')

    result = whole.result()

    assert result is not None
    assert result.cost_microcents == cost


def test_whole_stream_without_its_last_usage_costs_its_quote() -> None:
    """Usage that is missing is never zero, nor the one token that its first event tells."""
    whole = meter(agent(), is_stream=True)
    whole.feed(ANTHROPIC_START + ANTHROPIC_TEXT)

    result = whole.result()

    assert result is not None
    assert (result.cost_microcents, result.source) == (QUOTE.amount_microcents, "quote")


@pytest.mark.parametrize("mode", ["flat", "reported", "tokens"])
def test_answer_that_failed_and_tells_usage_is_charged(mode: str) -> None:
    """It has consumed something; where nothing else says how much, its quote is kept."""
    failed = metered(agent(mode), orjson.dumps(CHAT), status=500)

    assert failed is not None
    cost = COST if mode == "tokens" else QUOTE.amount_microcents
    assert failed.cost_microcents == cost
    assert metered(agent(mode), b'{"error":{}}', status=500) is None


@pytest.mark.parametrize("mode", ["flat", "reported"])
def test_answer_that_failed_and_tells_of_no_token_is_released(mode: str) -> None:
    """An explicit zero is zero."""
    usage = {"prompt_tokens": 0, "completion_tokens": 0}

    assert metered(agent(mode), orjson.dumps(CHAT | {"usage": usage}), status=429) is None
