"""Bytes pass both ways as they come; the cost is booked before the last of them leaves."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.upstream_answers import (
    CLOSE,
    DIE,
    HANG,
    Answering,
    Ending,
    bytes_answer,
    chunked_answer,
    json_answer,
    openai_chat_events,
    raw_answer,
    sse_answer,
)

PATH = "/agents/researcher/invoke"
CHAT = "/agents/researcher/v1/chat/completions"
MESSAGES = "/agents/researcher/v1/messages"
QUESTION = b'{"model":"gpt-4o-mini","max_tokens":100}'
QUOTE = 20 * 15 + 100 * 60
LARGE = b"0123456789abcdef" * 100_000


@pytest.fixture
async def by_tokens(org: Any, upstream: StubUpstream) -> None:
    """Price the researcher by tokens."""
    await acme.write_agent(
        org, "researcher", upstream.url, {"mode": "tokens"}, timeouts={"idle_s": 0.2}
    )


async def spent(gateway: PlaneGateway, redis: Any) -> int:
    """Return what has been spent when all is settled."""
    await gateway.settled()
    return (await acme.counters(redis)).get("org.spent", 0)


async def test_events_pass_one_by_one(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """The caller has the first event before the upstream sends the second."""
    goes_on = asyncio.Event()
    upstream.answers(sse_answer("one", goes_on, "two"))

    async with gateway.client() as client, client.stream("POST", PATH) as answer:
        chunks = answer.aiter_bytes()
        first = await anext(chunks)
        goes_on.set()
        rest = b"".join([chunk async for chunk in chunks])

    assert (first, rest) == (b"data: one\n\n", b"data: two\n\n")
    assert answer.headers["content-type"] == "text/event-stream"


async def test_head_passes_before_the_body(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """The caller has the head of a stream before its first byte, with the cost if it is known."""
    goes_on = asyncio.Event()
    upstream.answers(sse_answer(goes_on, "one"))

    async with gateway.client() as client, client.stream("POST", PATH) as answer:
        assert answer.headers["budget-cost"] == "2"
        goes_on.set()
        assert await answer.aread() == b"data: one\n\n"


@pytest.mark.usefixtures("by_tokens")
async def test_stream_by_tokens_cannot_tell_its_cost_first(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A stream that tells its usage at the end has no Budget-Cost, and costs that usage."""
    goes_on = asyncio.Event()
    upstream.answers(sse_answer("begin", goes_on, *openai_chat_events()))

    async with (
        gateway.client() as client,
        client.stream("POST", CHAT, content=QUESTION) as answer,
    ):
        assert "budget-cost" not in answer.headers
        goes_on.set()
        await answer.aread()

    assert await spent(gateway, org) == 12 * 15 + 34 * 60


@pytest.mark.usefixtures("by_tokens")
@pytest.mark.parametrize("in_pieces", [False, True])
async def test_cost_is_booked_before_the_answer_ends(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, in_pieces: bool
) -> None:
    """Who has read an answer to its end finds it spent."""
    goes_on = asyncio.Event()
    pause = [goes_on] if in_pieces else []
    upstream.answers(sse_answer("begin", *pause, *openai_chat_events()))

    async with (
        gateway.client() as client,
        client.stream("POST", CHAT, content=QUESTION) as answer,
    ):
        goes_on.set()
        await answer.aread()
        counted = await acme.counters(org)

    assert counted == {"org.spent": 2220, "agent.researcher.spent": 2220}


@pytest.mark.parametrize(
    "answering",
    [
        bytes_answer(LARGE),
        bytes_answer(LARGE, headers={"content-type": "application/json"}),
        chunked_answer(*(LARGE[at : at + 5000] for at in range(0, len(LARGE), 5000))),
        raw_answer(b"HTTP/1.1 200 OK\r\n\r\n" + LARGE, CLOSE),
    ],
    ids=["length", "json", "chunked", "until-close"],
)
async def test_large_answer_passes_whole(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, answering: Answering
) -> None:
    """An answer of any size and framing arrives byte by byte."""
    await acme.write_agent(
        org, "researcher", upstream.url, {"mode": "reported", "ceiling_cents": "2"}
    )
    upstream.answers(answering)

    async with gateway.client() as client:
        answer = await client.post(PATH)

    assert answer.content == LARGE
    assert await spent(gateway, org) == 2_000_000


@pytest.mark.usefixtures("by_tokens")
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_large_json_is_not_waited_for(
    gateway: PlaneGateway, upstream: StubUpstream, framing: str
) -> None:
    """JSON above 256 KB passes as it comes, so its cost is not told in its head."""
    goes_on = asyncio.Event()
    first, second = b"[" + b" " * 300_000, b"]"
    if framing == "length":
        lines = f"Content-Type: application/json\r\nContent-Length: {len(first + second)}"
        head = f"HTTP/1.1 200 OK\r\n{lines}\r\n\r\n".encode()
        upstream.answers(raw_answer(head, goes_on, first + second))
    else:
        media = {"content-type": "application/json"}
        upstream.answers(chunked_answer(first, goes_on, second, headers=media))

    async with (
        gateway.client() as client,
        client.stream("POST", CHAT, content=QUESTION) as answer,
    ):
        assert "budget-cost" not in answer.headers
        goes_on.set()
        assert await answer.aread() == first + second


async def test_body_is_passed_on_before_its_end(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A flat call with a chunked body reaches the upstream while the caller still sends."""
    upstream.answers(json_answer({"early": True}, early=True))

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Transfer-Encoding: chunked"))
        await caller.send(b"5\r\nfirst\r\n")
        answer = await caller.until(b'{"early":true}')
        await caller.send(b"4\r\nlast\r\n0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("framing", ["chunked", "length"])
async def test_large_body_passes_whole(
    gateway: PlaneGateway, upstream: StubUpstream, framing: str
) -> None:
    """A large body arrives byte by byte, in the framing it was sent with."""

    async def parts() -> Any:
        for at in range(0, len(LARGE), 70_000):
            yield LARGE[at : at + 70_000]

    headers = {"content-length": str(len(LARGE))} if framing == "length" else {}
    async with gateway.client() as client:
        answer = await client.post(PATH, content=parts(), headers=headers)

    got = upstream.requests[0]
    assert (answer.status_code, got.body) == (200, LARGE)
    chunked = got.header(b"transfer-encoding") == b"chunked"
    assert chunked == (framing == "chunked")


@pytest.mark.usefixtures("by_tokens")
async def test_large_body_is_priced_whole(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A call by tokens is quoted from its whole body, however large, before it runs."""
    body = b'{"model":"gpt-4o-mini","max_tokens":100,"pad":"%b"}' % (b"x" * 200_000)
    upstream.answers(json_answer({}))

    async with gateway.client() as client:
        answer = await client.post(CHAT, content=body)

    assert answer.status_code == 200
    assert await spent(gateway, org) == -(-len(body) // 2) * 15 + 100 * 60


@pytest.mark.usefixtures("by_tokens")
@pytest.mark.parametrize("ending", [DIE, CLOSE, HANG], ids=["reset", "closed", "silent"])
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_stream_that_breaks_says_so(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, ending: Ending, path: str
) -> None:
    """A stream that breaks off ends in an error event of the SDK's kind, and is charged."""
    upstream.answers(sse_answer({"type": "ping"}, ending))

    async with gateway.client() as client:
        answer = await client.post(path, content=QUESTION)

    events = answer.content.split(b"\n\n")
    error = b"upstream_timeout" if ending is HANG else b"upstream_broken"
    assert events[0] == b'event: ping\ndata: {"type":"ping"}'
    assert error in events[1]
    assert b'"charged_cents":0.0063' in events[1]
    assert events[1].startswith(b"event: error\n") == (path == MESSAGES)
    assert await spent(gateway, org) == QUOTE
    assert '"source":"partial"' in (await acme.journal(org))[0]["detail"]
    assert gateway.value("calls_total", end=error.decode()) == 1


@pytest.mark.usefixtures("by_tokens")
async def test_nothing_is_added_inside_an_event(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A stream that breaks in the middle of an event is broken off there."""
    part = b'data: {"choices":['
    framed = b"%x\r\n%b\r\n" % (len(part), part)
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    upstream.answers(raw_answer(head + framed, DIE))

    async with wire(gateway.port) as caller:
        await caller.send(request(CHAT, f"Content-Length: {len(QUESTION)}") + QUESTION)
        answer = await caller.rest()

    assert part in answer
    assert b"error" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    assert await spent(gateway, org) == QUOTE


@pytest.mark.parametrize("ending", [DIE, CLOSE], ids=["reset", "closed"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_answer_that_breaks_is_not_completed(
    gateway: PlaneGateway,
    org: Any,
    upstream: StubUpstream,
    caplog: pytest.LogCaptureFixture,
    ending: Ending,
    framing: str,
) -> None:
    """Nobody takes a part of an answer for the whole; the part is charged, and no bug is logged."""
    if framing == "length":
        upstream.answers(raw_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", ending))
    else:
        upstream.answers(chunked_answer(b"part", ending))

    async with gateway.client() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH)

    assert await spent(gateway, org) == 2_000_000
    assert gateway.value("calls_total", end="upstream_broken") == 1
    assert caplog.messages == []


async def test_json_that_breaks_before_its_head_left_is_told(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """Where the gateway waited for the whole answer, its caller is told instead of left."""
    await acme.write_agent(
        org, "researcher", upstream.url, {"mode": "reported", "ceiling_cents": "2"}
    )
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    upstream.answers(raw_answer(head + b'{"a"', DIE))

    async with gateway.client() as client:
        answer = await client.post(PATH)

    assert (answer.status_code, answer.json()["error"]) == (502, "upstream_broken")
    assert answer.json()["charged_cents"] == 2
    assert await spent(gateway, org) == 2_000_000


async def test_failed_answer_that_breaks_costs_nothing(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """An error of the upstream that does not arrive whole is still an error at no cost."""
    await acme.write_agent(
        org, "researcher", upstream.url, {"mode": "reported", "ceiling_cents": "2"}
    )
    head = b"HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    upstream.answers(raw_answer(head + b'{"a"', DIE))

    async with gateway.client() as client:
        answer = await client.post(PATH)

    assert (answer.status_code, answer.json()["charged_cents"]) == (502, 0)
    assert await spent(gateway, org) == 0


async def test_early_answer_ends_the_upload(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """An upstream that refuses before it has the body is heard at once."""
    upstream.answers(json_answer({"too": "large"}, 413, early=True))

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 100000"))
        await caller.send(b"x" * 1000)
        answer = await caller.until(b'{"too":"large"}')

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"budget-source: upstream" in answer


async def test_caller_of_http_1_0_has_no_chunks(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """RFC 9112 6.1: it does not know them; the end of the connection is the end of the answer."""
    upstream.answers(chunked_answer(b"hello ", b"world"))
    head = request("/agents/researcher/invoke", "Content-Length: 0")

    async with wire(gateway.port) as caller:
        await caller.send(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
        answered, _, body = (await caller.rest()).partition(b"\r\n\r\n")

    assert b"transfer-encoding" not in answered
    assert body == b"hello world"
