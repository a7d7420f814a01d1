"""What a call has cost is booked to the microcent, from the answer as each API writes it."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import orjson
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.upstream_answers import (
    Answering,
    anthropic_events,
    anthropic_message,
    bytes_answer,
    json_answer,
    openai_chat,
    openai_chat_events,
    openai_responses_events,
    sse_answer,
)

CENT = 1_000_000
TOKENS = {"mode": "tokens"}
REPORTED = {"mode": "reported", "ceiling_cents": "5"}
CHAT, RESPONSES, MESSAGES = "v1/chat/completions", "v1/responses", "v1/messages"
# 12 tokens in and 34 out, at 15 and 60 microcents each and at 300 and 1500.
MINI, SONNET = 12 * 15 + 34 * 60, 12 * 300 + 34 * 1500
RESPONSE = {
    "model": "gpt-4o-mini",
    "usage": {
        "input_tokens": 12,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 34,
        "total_tokens": 46,
    },
}


class Booked(NamedTuple):
    """What the counters say after a call, and what its journal entry tells of it."""

    answer: httpx.Response
    spent: int
    entry: dict[str, Any]


class Metering:
    """Calls of the researcher under a price, each with what was booked for it."""

    def __init__(self, gateway: PlaneGateway, redis: Any, upstream: StubUpstream) -> None:
        self.gateway = gateway
        self._redis = redis
        self._upstream = upstream

    async def price(self, price: Mapping[str, str], **members: Any) -> None:
        """Set the price of the agent."""
        await acme.write_agent(self._redis, "researcher", self._upstream.url, price, **members)

    async def call(
        self, answering: Answering, path: str = "invoke", model: str = "", **headers: str
    ) -> Booked:
        """Make one call that is answered like this."""
        self._upstream.answers(answering)
        body = {"model": model, "max_tokens": 100} if model else {}
        async with self.gateway.client(**headers) as client:
            answer = await client.post(f"/agents/researcher/{path}", json=body)
        await self.gateway.settled()
        counters = await acme.counters(self._redis)
        spent = counters.get("org.spent", 0)
        assert counters == ({"org.spent": spent, "agent.researcher.spent": spent} if spent else {})
        entries = await acme.journal(self._redis)
        entry: dict[str, Any] = {}
        if entries:
            assert (int(entries[0]["amount"]), int(entries[0]["counted"])) == (spent, spent)
            entry = orjson.loads(entries[0]["detail"])
        return Booked(answer, spent, entry)


@pytest.fixture
def metering(gateway: PlaneGateway, org: Any, upstream: StubUpstream) -> Metering:
    """Return what makes calls and looks at what they cost."""
    return Metering(gateway, org, upstream)


async def test_flat_call_costs_its_price(metering: Metering) -> None:
    """A flat agent costs its price, and the journal says who called, how, and with what tags."""
    booked = await metering.call(json_answer({}), **{"budget-tags": "team=red"})

    duration = booked.entry.pop("duration_ms")
    assert booked.spent == 2 * CENT
    assert isinstance(duration, int)
    assert duration >= 0
    assert booked.entry == {
        "model": None,
        "input_tokens": None,
        "output_tokens": None,
        "cached_tokens": None,
        "price_id": None,
        "source": "flat",
        "status": 200,
        "key_id": "k1",
        "tags": "team=red",
    }


class Priced(NamedTuple):
    """An answer in the form of some API, and what 12 tokens in and 34 out cost there."""

    path: str
    model: str
    answering: Answering
    cost: int
    price_id: str


@pytest.mark.parametrize(
    "case",
    [
        Priced(CHAT, "gpt-4o-mini", openai_chat(), MINI, "openai/gpt-4o-mini"),
        Priced(CHAT, "gpt-4o-mini", sse_answer(*openai_chat_events()), MINI, "openai/gpt-4o-mini"),
        Priced(RESPONSES, "gpt-4o-mini", json_answer(RESPONSE), MINI, "openai/gpt-4o-mini"),
        Priced(
            RESPONSES,
            "gpt-4o-mini",
            sse_answer(*openai_responses_events()),
            MINI,
            "openai/gpt-4o-mini",
        ),
        Priced(MESSAGES, "claude-sonnet-4-5", anthropic_message(), SONNET, "anthropic/"),
        Priced(
            MESSAGES, "claude-sonnet-4-5", sse_answer(*anthropic_events()), SONNET, "anthropic/"
        ),
    ],
    ids=["chat", "chat-events", "response", "response-events", "message", "message-events"],
)
async def test_tokens_are_priced(metering: Metering, case: Priced) -> None:
    """Tokens are read from JSON and from events of each API, and cost their price exactly."""
    await metering.price(TOKENS)

    booked = await metering.call(case.answering, case.path, case.model)

    assert booked.spent == case.cost
    tokens = [booked.entry[name] for name in ("input_tokens", "output_tokens", "cached_tokens")]
    assert tokens == [12, 34, 0]
    assert (booked.entry["source"], booked.entry["model"]) == ("tokens", case.model)
    assert booked.entry["price_id"].startswith(case.price_id)


async def test_cost_of_json_is_told_in_the_head(metering: Metering) -> None:
    """Where a JSON answer tells its usage, the caller finds the cost in its head."""
    await metering.price(TOKENS)

    booked = await metering.call(openai_chat(), CHAT, "gpt-4o-mini")

    assert booked.answer.headers["budget-cost"] == "0.00222"
    assert MINI == 2220


async def test_missing_usage_keeps_the_quote(metering: Metering) -> None:
    """An answer that tells no usage costs what was held for it, never nothing."""
    await metering.price(TOKENS)

    booked = await metering.call(json_answer({"choices": []}), CHAT, "gpt-4o-mini")

    # The body has 40 bytes, so at most 20 tokens in, and 100 out.
    assert booked.answer.request.content == b'{"model":"gpt-4o-mini","max_tokens":100}'
    assert booked.spent == 20 * 15 + 100 * 60
    assert booked.entry["source"] == "quote"


async def test_stream_without_usage_keeps_the_quote(metering: Metering) -> None:
    """Events without usage, as OpenAI sends them unasked, cost what was held."""
    await metering.price(TOKENS)

    booked = await metering.call(sse_answer(*openai_chat_events(usage=False)), CHAT, "gpt-4o-mini")

    assert (booked.spent, booked.entry["source"]) == (20 * 15 + 100 * 60, "quote")


async def test_usage_of_zero_is_zero(metering: Metering) -> None:
    """An upstream that says it used nothing is believed."""
    await metering.price(TOKENS)

    booked = await metering.call(openai_chat(0, 0), CHAT, "gpt-4o-mini")

    assert (booked.spent, booked.answer.headers["budget-cost"]) == (0, "0")
    assert booked.entry["source"] == "tokens"


class Cost(NamedTuple):
    """A cost that an upstream reports, and what of it is believed."""

    answering: Answering
    microcents: int
    is_believed: bool = True


def in_header(name: str, value: str) -> Answering:
    """Return an answer with one header."""
    return json_answer({}, headers={name: value})


def in_body(text: str) -> Answering:
    """Return a JSON answer whose usage.cost is this JSON text."""
    body = b'{"usage":{"prompt_tokens":1,"completion_tokens":1,"cost":%b}}' % text.encode()
    return bytes_answer(body, headers={"content-type": "application/json"})


REPORTS = [
    Cost(in_header("Budget-Cost", "1.5"), 1_500_000),
    Cost(in_header("Budget-Cost", "0"), 0),
    Cost(in_header("Budget-Cost", "7.25"), 7_250_000),
    Cost(in_header("X-Litellm-Response-Cost", "0.000123456"), 12_346),
    Cost(in_body("0.0123"), 1_230_000),
    Cost(in_body("1e-7"), 10),
    Cost(in_body("0"), 0),
    Cost(sse_answer({"usage": {"cost": 0.5}}, {"usage": {"cost": 0.01}}, "[DONE]"), CENT),
    # The caller was told what the header says, so what the body adds changes nothing.
    Cost(json_answer({"usage": {"cost": 0.5}}, headers={"Budget-Cost": "3"}), 3 * CENT),
    Cost(sse_answer({"usage": {"cost": 0.5}}, "[DONE]", headers={"Budget-Cost": "3"}), 3 * CENT),
    Cost(in_header("Budget-Cost", "-1"), 5 * CENT, is_believed=False),
    Cost(in_header("Budget-Cost", "nan"), 5 * CENT, is_believed=False),
    Cost(in_header("Budget-Cost", "1e-7"), 5 * CENT, is_believed=False),
    Cost(in_header("Budget-Cost", "9007199254.740992"), 5 * CENT, is_believed=False),
    Cost(in_header("X-Litellm-Response-Cost", "1e-7"), 5 * CENT, is_believed=False),
    Cost(in_body("-0.01"), 5 * CENT, is_believed=False),
    Cost(in_body('"1e-7"'), 5 * CENT, is_believed=False),
    Cost(in_body('"free"'), 5 * CENT, is_believed=False),
    Cost(in_body("1e300"), 5 * CENT, is_believed=False),
    Cost(in_body("1e400"), 5 * CENT, is_believed=False),
    Cost(in_body("NaN"), 5 * CENT, is_believed=False),
    Cost(in_body("true"), 5 * CENT, is_believed=False),
]


@pytest.mark.parametrize("case", REPORTS)
async def test_reported_cost_is_believed_where_it_is_one(metering: Metering, case: Cost) -> None:
    """A trusted upstream's cost is booked exactly; one that is no cost is ignored and counted."""
    await metering.price(REPORTED)

    booked = await metering.call(case.answering)

    assert booked.spent == case.microcents
    assert booked.entry["source"] == ("reported" if case.is_believed else "quote")
    assert metering.gateway.value("ignored_costs_total") == (not case.is_believed)


async def test_cost_above_its_hold_is_booked_whole(metering: Metering) -> None:
    """What costs more than was held is spent all the same, and counted as an overage."""
    await metering.price(REPORTED)

    booked = await metering.call(in_header("Budget-Cost", "7.25"))

    assert (booked.spent, metering.gateway.value("overages_total")) == (7_250_000, 1)


@pytest.mark.parametrize("price", [{"mode": "flat", "cents": "2"}, TOKENS])
async def test_cost_of_who_is_not_trusted_is_ignored(
    metering: Metering, price: Mapping[str, str]
) -> None:
    """Only an agent with reported prices may say what a call has cost."""
    await metering.price(price, on_unpriced="deny")

    booked = await metering.call(in_header("Budget-Cost", "0"), CHAT, "gpt-4o-mini")

    assert booked.spent > 0
    assert booked.entry["source"] in ("flat", "quote")


@pytest.mark.parametrize("price", [{"mode": "flat", "cents": "2"}, TOKENS, REPORTED])
@pytest.mark.parametrize("status", [400, 429, 500, 503])
async def test_failed_answer_without_usage_costs_nothing(
    metering: Metering, price: Mapping[str, str], status: int
) -> None:
    """An upstream that refuses or fails is passed on as it is, and its hold given back."""
    await metering.price(price)
    failed = json_answer({"error": "no"}, status, {"Retry-After": "3"})

    booked = await metering.call(failed, CHAT, "gpt-4o-mini")

    assert (booked.answer.status_code, booked.answer.json()) == (status, {"error": "no"})
    assert booked.answer.headers["retry-after"] == "3"
    assert booked.answer.headers["budget-source"] == "upstream"
    assert (booked.spent, booked.entry) == (0, {})


@pytest.mark.parametrize("size", [10, 100_000], ids=["whole", "streamed"])
async def test_failed_answer_is_told_to_cost_nothing(metering: Metering, size: int) -> None:
    """Budget-Cost of an answer that is released is zero, also of a flat agent."""
    booked = await metering.call(bytes_answer(b"x" * size, 500))

    assert booked.answer.headers["budget-cost"] == "0"


async def test_failed_answer_with_usage_is_charged(metering: Metering) -> None:
    """An error that tells its usage has cost what it tells."""
    await metering.price(TOKENS)
    usage = {"prompt_tokens": 12, "completion_tokens": 34}

    booked = await metering.call(
        json_answer({"model": "gpt-4o-mini", "usage": usage}, 500), CHAT, "gpt-4o-mini"
    )

    assert (booked.spent, booked.entry["status"]) == (MINI, 500)


async def test_failed_answer_is_charged_where_the_agent_says_so(metering: Metering) -> None:
    """With charge_errors a failure costs like a success."""
    await metering.price({"mode": "flat", "cents": "2"}, charge_errors=True)

    booked = await metering.call(json_answer({}, 500))

    assert (booked.spent, booked.answer.headers["budget-cost"]) == (2 * CENT, "2")


@pytest.mark.parametrize("model", ["", "house-model-1", "x" * 100_000])
async def test_unpriced_model_is_denied(
    metering: Metering, upstream: StubUpstream, model: str
) -> None:
    """Without a price nothing runs; the refusal repeats no more than the start of a name."""
    await metering.price(TOKENS)

    booked = await metering.call(json_answer({}), CHAT, model)

    assert (booked.answer.status_code, upstream.executions) == (402, 0)
    assert booked.answer.json()["error"]["code"] == "price_unknown"
    assert booked.answer.json()["model"] == model[:200]
    assert booked.answer.headers["x-should-retry"] == "false"
    assert len(booked.answer.content) < 2000


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff\xfe{\x00", b'{"model": {"a": 1}}', b""])
async def test_body_that_names_no_model_is_denied(
    metering: Metering, gateway: PlaneGateway, upstream: StubUpstream, body: bytes
) -> None:
    """A body that is no JSON object with a model has no price."""
    await metering.price(TOKENS)

    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/x", content=body)

    assert (answer.status_code, answer.json()["error"]) == (402, "price_unknown")
    assert upstream.executions == 0


@pytest.mark.parametrize(("on_unpriced", "cost"), [("flat", 3 * CENT), ("allow", 0)])
async def test_unpriced_model_runs_where_the_agent_says_so(
    metering: Metering, on_unpriced: str, cost: int
) -> None:
    """on_unpriced flat books the flat price and allow books zero, both visibly."""
    await metering.price({"mode": "tokens", "cents": "3"}, on_unpriced=on_unpriced)

    booked = await metering.call(openai_chat(model="house-model-1"), CHAT, "house-model-1")

    assert (booked.answer.status_code, booked.spent) == (200, cost)
    assert (booked.entry["model"], booked.entry["input_tokens"]) == ("house-model-1", 12)


async def test_ceiling_bounds_the_hold(metering: Metering, org: Any) -> None:
    """A ceiling below the estimate is what is held; the cost is still the real one."""
    await metering.price({"mode": "tokens", "ceiling_cents": "0.001"})
    await acme.set_limits(org, {"org.month.limit_cents": "0.001"})

    booked = await metering.call(openai_chat(), CHAT, "gpt-4o-mini")

    assert (booked.answer.status_code, booked.spent) == (200, MINI)
