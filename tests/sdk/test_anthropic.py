"""The official Anthropic SDK through the gateway: only its base URL and its key are changed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import anthropic_events, anthropic_message, raw_answer, sse_answer

# The SDK announces the end of models; for a price list they do not end.
pytestmark = pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")

MODEL = "claude-sonnet-4-5"
# 12 tokens at 3 dollars and 34 at 15 dollars a million.
SPENT = {"org.spent": 54_600, "agent.writer.spent": 54_600}
_HELLO: Any = [{"role": "user", "content": "Hello."}]


def _client(gateway: PlaneGateway, key: str = acme.KEY) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(api_key=key, base_url=f"{gateway.url}/agents/writer")


@pytest.fixture
async def client(gateway: PlaneGateway) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """Yield the SDK with everything else as it comes, its two retries included."""
    async with _client(gateway) as sdk:
        yield sdk


async def test_anthropic_gets_an_answer(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: anthropic.AsyncAnthropic
) -> None:
    """The answer is the upstream's, and its usage is what was spent."""
    upstream.answers(anthropic_message())

    answer = await client.messages.create(model=MODEL, messages=_HELLO, max_tokens=100)
    await gateway.settled()

    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (12, 34)
    assert await acme.counters(org) == SPENT
    assert upstream.requests[0].path == b"/v1/messages"
    assert upstream.requests[0].header(b"x-api-key") is None


async def test_anthropic_gets_a_stream(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: anthropic.AsyncAnthropic
) -> None:
    """Every word arrives, and the usage of its first and last event is what was spent."""
    upstream.answers(sse_answer(*anthropic_events()))

    async with client.messages.stream(model=MODEL, messages=_HELLO, max_tokens=100) as stream:
        words = [word async for word in stream.text_stream]
    await gateway.settled()

    assert "".join(words) == "Hello."
    assert await acme.counters(org) == SPENT


async def test_anthropic_does_not_retry_a_budget_that_is_exceeded(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: anthropic.AsyncAnthropic
) -> None:
    """One request, one 402 that says what happened, and the upstream hears nothing of it."""
    upstream.answers(anthropic_message())
    await client.messages.create(model=MODEL, messages=_HELLO, max_tokens=100)
    await org.hset("bg:{acme}:limits", "org.month.limit_cents", "0.054600")

    with pytest.raises(anthropic.APIStatusError) as raised:
        await client.messages.create(model=MODEL, messages=_HELLO, max_tokens=100)

    body: Any = raised.value.body
    assert raised.value.status_code == 402
    assert (body["type"], body["error"]["type"]) == ("error", "billing_error")
    assert body["error"]["error"] == "budget_exceeded"
    assert gateway.value("calls_total", end="budget_exceeded") == 1
    assert upstream.executions == 1
    assert await acme.counters(org) == SPENT


async def test_anthropic_retries_when_too_many_calls_run(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: anthropic.AsyncAnthropic
) -> None:
    """A 429 is repeated by the SDK after Retry-After, and succeeds when there is room again."""
    goes_on = asyncio.Event()
    answering = anthropic_message()
    upstream.answers(raw_answer(goes_on, *answering.steps), answering)
    await org.hset("bg:{acme}:limits", "agent.writer.concurrency", "1")
    calls = [
        asyncio.create_task(client.messages.create(model=MODEL, messages=_HELLO, max_tokens=100))
        for _ in range(2)
    ]
    await until(
        lambda: gateway.value("calls_total", end="concurrency_limited") == 1, "the second call"
    )
    goes_on.set()
    await asyncio.gather(*calls)
    await gateway.settled()

    assert gateway.value("calls_total", end="concurrency_limited") == 1
    assert upstream.executions == 2
    assert (await acme.counters(org))["org.spent"] == 2 * SPENT["org.spent"]


async def test_anthropic_does_not_retry_a_wrong_key(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A key that is not known is an authentication error, at once."""
    async with _client(gateway, acme.KEY + "x") as stranger:
        with pytest.raises(anthropic.AuthenticationError):
            await stranger.messages.create(model=MODEL, messages=_HELLO, max_tokens=100)

    assert gateway.value("calls_total", end="unauthenticated") == 1
    assert upstream.executions == 0
