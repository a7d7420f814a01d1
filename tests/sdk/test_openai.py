"""The official OpenAI SDK through the gateway: only its base URL and its key are changed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import (
    openai_chat,
    openai_chat_events,
    openai_responses_events,
    raw_answer,
    sse_answer,
)

MODEL = "gpt-4o-mini"
# 12 tokens at 15 cents and 34 at 60 cents a million.
SPENT = {"org.spent": 2_220, "agent.researcher.spent": 2_220}
_HELLO: Any = [{"role": "user", "content": "Hello."}]


def _client(gateway: PlaneGateway, key: str = acme.KEY) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key=key, base_url=f"{gateway.url}/agents/researcher/v1")


@pytest.fixture
async def client(gateway: PlaneGateway) -> AsyncIterator[openai.AsyncOpenAI]:
    """Yield the SDK with everything else as it comes, its two retries included."""
    async with _client(gateway) as sdk:
        yield sdk


async def test_openai_gets_an_answer(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: openai.AsyncOpenAI
) -> None:
    """The answer is the upstream's, and its usage is what was spent."""
    upstream.answers(openai_chat())

    answer = await client.chat.completions.create(model=MODEL, messages=_HELLO, max_tokens=100)
    await gateway.settled()

    assert answer.choices[0].message.content == "Hello."
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (12, 34)
    assert await acme.counters(org) == SPENT
    assert upstream.requests[0].path == b"/v1/chat/completions"
    assert upstream.requests[0].header(b"authorization") is None


async def test_openai_gets_a_stream(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: openai.AsyncOpenAI
) -> None:
    """Every word arrives, and the usage in the last chunk is what was spent."""
    upstream.answers(sse_answer(*openai_chat_events()))

    stream = await client.chat.completions.create(
        model=MODEL,
        messages=_HELLO,
        max_tokens=100,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    await gateway.settled()

    words = [choice.delta.content for chunk in chunks for choice in chunk.choices]
    assert "".join(word or "" for word in words) == "Hello."
    assert await acme.counters(org) == SPENT


async def test_openai_gets_a_response(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: openai.AsyncOpenAI
) -> None:
    """The newer API is read as well: its last event has the usage."""
    upstream.answers(sse_answer(*openai_responses_events()))

    stream = await client.responses.create(
        model=MODEL, input="Hello.", max_output_tokens=100, stream=True
    )
    kinds = [event.type async for event in stream]
    await gateway.settled()

    assert kinds[-1] == "response.completed"
    assert await acme.counters(org) == SPENT


async def test_openai_does_not_retry_a_budget_that_is_exceeded(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: openai.AsyncOpenAI
) -> None:
    """One request, one 402 that says what happened, and the upstream hears nothing of it."""
    upstream.answers(openai_chat())
    await client.chat.completions.create(model=MODEL, messages=_HELLO, max_tokens=100)
    await org.hset("bg:{acme}:limits", "org.month.limit_cents", "0.002220")

    with pytest.raises(openai.APIStatusError) as raised:
        await client.chat.completions.create(model=MODEL, messages=_HELLO, max_tokens=100)

    assert raised.value.status_code == 402
    assert raised.value.code == "budget_exceeded"
    assert "budget" in raised.value.message
    assert gateway.value("calls_total", end="budget_exceeded") == 1
    assert upstream.executions == 1
    assert await acme.counters(org) == SPENT


async def test_openai_retries_when_too_many_calls_run(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream, client: openai.AsyncOpenAI
) -> None:
    """A 429 is repeated by the SDK after Retry-After, and succeeds when there is room again."""
    goes_on = asyncio.Event()
    answering = openai_chat()
    upstream.answers(raw_answer(goes_on, *answering.steps), answering)
    await org.hset("bg:{acme}:limits", "agent.researcher.concurrency", "1")
    calls = [
        asyncio.create_task(
            client.chat.completions.create(model=MODEL, messages=_HELLO, max_tokens=100)
        )
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


async def test_openai_does_not_retry_a_wrong_key(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A key that is not known is an authentication error, at once."""
    async with _client(gateway, acme.KEY + "x") as stranger:
        with pytest.raises(openai.AuthenticationError) as raised:
            await stranger.chat.completions.create(model=MODEL, messages=_HELLO)

    assert raised.value.code == "unauthenticated"
    assert gateway.value("calls_total", end="unauthenticated") == 1
    assert upstream.executions == 0
