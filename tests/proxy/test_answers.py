"""An answer comes back as its upstream sent it, but for what belongs to the gateway."""

import gzip

import pytest

from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.upstream_answers import CLOSE, bytes_answer, json_answer, raw_answer


async def test_answer_keeps_values_order_and_duplicates(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Status, headers and body come back as the upstream sent them."""
    upstream.answers(
        raw_answer(
            b"HTTP/1.1 207 Some Words\r\nSet-Cookie: a=1\r\nX-Request-Id: up-1\r\n"
            b"Set-Cookie: b=2\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/x\r\n"
            b"X-Latin: \xfc\r\n"
            b"Server-Timing: db;dur=5\r\nRetry-After: 7\r\nContent-Length: 3\r\n\r\nab\n"
        )
    )

    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/x", "Content-Length: 0"))
        head = await caller.until(b"\r\n\r\n")
        body = await caller.until(b"\n")

    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 207 ")
    assert lines[1:10] == [
        b"set-cookie: a=1",
        b"x-request-id: up-1",
        b"set-cookie: b=2",
        b"date: Thu, 01 Jan 1970 00:00:00 GMT",
        b"content-type: text/x",
        b"x-latin: \xfc",
        b"server-timing: db;dur=5",
        b"retry-after: 7",
        b"content-length: 3",
    ]
    assert body == b"ab\n"


async def test_answer_loses_what_belongs_to_the_upstreams_connection(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Hop-by-hop headers of an answer, and those its Connection headers name, do not pass."""
    upstream.answers(
        raw_answer(
            b"HTTP/1.1 200 OK\r\nConnection: x-one\r\nConnection: close, x-two\r\nX-One: 1\r\n"
            b"X-Two: 2\r\nX-Three: 3\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"
            b"Upgrade: h2c\r\nContent-Length: 0\r\n\r\n",
            reusable=False,
        )
    )

    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/x")

    names = set(answer.headers.keys())
    assert names & {"x-one", "x-two", "keep-alive", "proxy-authenticate", "upgrade"} == set()
    assert answer.headers["x-three"] == "3"
    assert "close" not in answer.headers.get("connection", "")


async def test_upstreams_budget_headers_are_replaced(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """An upstream cannot speak for the gateway about budgets."""
    forged = {"Budget-Remaining": "1", "Budget-Cost": "77", "Budget-Other": "x"}
    upstream.answers(json_answer({}, headers=forged))

    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/x")

    assert answer.headers.get_list("budget-remaining") == ["998"]
    assert answer.headers.get_list("budget-cost") == ["2"]
    assert "budget-other" not in answer.headers


@pytest.mark.parametrize("status", [204, 304])
async def test_answer_without_body_ends_at_its_head(
    gateway: PlaneGateway, upstream: StubUpstream, status: int
) -> None:
    """A 204 and a 304 have no body, whatever length they name, and the next call is served."""
    head = f"HTTP/1.1 {status} X\r\nETag: 1\r\nContent-Length: 5\r\n\r\n".encode()
    upstream.answers(raw_answer(head), json_answer({"next": True}))

    async with gateway.client() as client:
        first = await client.get("/agents/researcher/x")
        second = await client.get("/agents/researcher/x")

    assert (first.status_code, first.content, first.headers["etag"]) == (status, b"", "1")
    assert "transfer-encoding" not in first.headers
    assert second.json() == {"next": True}


async def test_head_keeps_the_length_of_what_is_not_sent(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """The answer to HEAD says how long the body would be, and has none."""
    upstream.answers(bytes_answer(b"x" * 1000), json_answer({"next": True}))

    async with gateway.client() as client:
        first = await client.head("/agents/researcher/x")
        second = await client.get("/agents/researcher/x")

    assert (first.headers["content-length"], first.content) == ("1000", b"")
    assert second.json() == {"next": True}


async def test_compressed_answer_passes_unchanged(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A flat agent may speak any content coding with its caller; no byte of it changes."""
    packed = gzip.compress(b"words " * 1000)
    upstream.answers(bytes_answer(packed, headers={"content-encoding": "gzip"}))

    async with (
        gateway.client(**{"accept-encoding": "gzip"}) as client,
        client.stream("POST", "/agents/researcher/x") as answer,
    ):
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])

    assert upstream.requests[0].header(b"accept-encoding") == b"gzip"
    assert (raw, answer.headers["content-encoding"]) == (packed, "gzip")


async def test_interim_answers_do_not_pass(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """What an upstream says before its answer is left out, its headers too."""
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    upstream.answers(raw_answer(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + final))

    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/x")

    assert (answer.status_code, answer.text) == (200, "ok")
    assert "link" not in answer.headers


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX-A: a\x7fb\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nX(y): 1\r\nContent-Length: 2",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade",
        b"HTTP/1.1 999 OK\r\nContent-Length: 2",
        b"nonsense",
    ],
)
async def test_what_is_no_answer_does_not_pass(
    gateway: PlaneGateway, upstream: StubUpstream, head: bytes
) -> None:
    """An answer that could be read in two ways is 502, and the call is charged."""
    upstream.answers(raw_answer(head + b"\r\n\r\nok", CLOSE))

    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/x")

    assert (answer.status_code, answer.json()["error"]) == (502, "upstream_broken")
    assert answer.json()["charged_cents"] == 2
