"""Requests whose head came before are served as those that are parsed, however they come.

R1 in one piece, head and body apart, byte by byte, or with the next request behind them
R2 a body of another length is read to its own end
R3 an answer that is given before the body has come leaves the next request readable
R4 only what begins where a head begins is taken for one
R5 a call leaves no circle of objects behind, which the collector would have to find
R6 what closes its connection, waits for 100 or offers an upgrade is parsed each time
R7 the answer to HEAD has no body, also where the gateway makes it
"""

import asyncio
import gc
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

PATH = "/agents/researcher/v1/invoke?q=1"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


def _call(body: bytes, *headers: str, key: str = acme.KEY) -> bytes:
    return request(PATH, f"Content-Length: {len(body)}", *headers, key=key) + body


def _cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Return the pieces between places; a place below zero counts from the end."""
    marks = [0, *(place % len(data) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(marks)]


async def _read_all(gateway: PlaneGateway, body: bytes) -> None:
    """Return when the gateway has read what was sent before: a call of its own has an answer."""
    async with wire(gateway.port) as other:
        await other.send(_call(body))
        await other.until(b"\r\n\r\n{}")


HEAD_ENDS = len(request(PATH, "Content-Length: 11"))


@pytest.mark.parametrize(
    "places",
    [
        [],
        [HEAD_ENDS],
        [HEAD_ENDS - 1],
        [HEAD_ENDS + 1],
        [HEAD_ENDS, HEAD_ENDS + 3, -1],
        [1],
        list(range(1, HEAD_ENDS + 11)),
    ],
    ids=["whole", "apart", "in head", "in body", "pieces", "late", "bytes"],
)
async def test_known_request_is_forwarded_as_it_is(
    gateway: PlaneGateway, upstream: StubUpstream, places: list[int]
) -> None:
    """R1: three times the same request, each in these pieces, runs three times alike."""
    upstream.answers(raw_answer(OK))

    async with wire(gateway.port) as caller:
        for _ in range(3):
            for piece in _cut(_call(b"hello world"), places):
                await caller.send(piece)
            answer = await caller.until(b"\r\n\r\n{}")
            assert answer.startswith(b"HTTP/1.1 200 ")

    assert [(told.path, told.body) for told in upstream.requests] == [
        (b"/v1/invoke?q=1", b"hello world")
    ] * 3
    assert len({tuple(told.headers) for told in upstream.requests}) == 1


async def test_body_of_another_length_is_read_to_its_end(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R2: of a known head only the length counts anew, from nothing to many pieces."""
    upstream.answers(raw_answer(OK))
    bodies = [b"a", b"", b"b" * 300_000, b"c" * 10, b"d" * 70_000]

    async with wire(gateway.port) as caller:
        for body in bodies:
            await caller.send(_call(body))
            await caller.until(b"\r\n\r\n{}")

    assert [told.body for told in upstream.requests] == bodies
    assert [told.header(b"content-length") for told in upstream.requests] == [
        b"%d" % len(body) for body in bodies
    ]


async def test_requests_behind_a_known_one_are_answered_in_order(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R1: pipelined ones, known or not, each with its own body."""
    upstream.answers(raw_answer(OK))

    async with wire(gateway.port) as caller:
        await caller.send(_call(b"first"))
        await caller.until(b"{}")
        await caller.send(_call(b"second") + _call(b"3rd") + _call(b"4th", "x-a: 1") + _call(b"5"))
        for _ in range(4):
            await caller.until(b"\r\n\r\n{}")

    bodies = [told.body for told in upstream.requests]
    assert bodies == [b"first", b"second", b"3rd", b"4th", b"5"]


async def test_request_behind_one_that_runs_waits(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R1: the answers come in the order of the requests, the second runs after the first."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(OK), raw_answer(goes_on, OK), raw_answer(OK))

    async with wire(gateway.port) as caller:
        await caller.send(_call(b"0"))
        await caller.until(b"{}")
        await caller.send(_call(b"1"))
        await until(lambda: upstream.executions == 2, "the first of the two to run")
        await caller.send(_call(b"3"))
        await _read_all(gateway, b"2")
        assert upstream.executions == 3
        goes_on.set()
        for _ in range(2):
            await caller.until(b"\r\n\r\n{}")

    assert [told.body for told in upstream.requests] == [b"0", b"1", b"2", b"3"]


async def test_body_that_looks_like_a_known_request_is_not_run(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R4: the body of a refused request is skipped, whatever it holds."""
    upstream.answers(raw_answer(OK))
    smuggled = _call(b"x" * 70_000)

    async with wire(gateway.port) as caller:
        await caller.send(_call(b"first"))
        await caller.until(b"{}")
        head = request(PATH, f"Content-Length: {len(smuggled)}", key="bgk_acme_k9_secret")
        await caller.send(head)
        assert (await caller.until(b"}")).startswith(b"HTTP/1.1 401 ")
        await caller.send(smuggled)
        await caller.send(_call(b"next"))
        assert (await caller.until(b"{}")).startswith(b"HTTP/1.1 200 ")

    assert [told.body for told in upstream.requests] == [b"first", b"next"]


async def test_header_that_looks_like_a_known_request_is_not_run(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R4: nor is what follows inside a head that came in two pieces."""
    upstream.answers(raw_answer(OK))
    begun = b"POST /nothing HTTP/1.1\r\nX-A: "

    async with wire(gateway.port) as caller:
        await caller.send(_call(b"first"))
        await caller.until(b"{}")
        await caller.send(_call(b"second", "X-New: 1") + begun)
        await caller.until(b"{}")
        await caller.send(_call(b""))
        assert (await caller.until(b"}")).startswith(b"HTTP/1.1 404 ")

    assert [told.body for told in upstream.requests] == [b"first", b"second"]


async def test_rest_of_a_head_is_not_learned(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """R4: a head without its first byte is no request, though it once came as a piece."""
    upstream.answers(raw_answer(OK))
    call = _call(b"body")

    async with wire(gateway.port) as caller:
        await caller.send(call[:1])
        await _read_all(gateway, b"other")
        await caller.send(call[1:])
        await caller.until(b"{}")
        await caller.send(call[1:])
        assert (await caller.rest()).startswith(b"HTTP/1.1 400 ")

    assert [told.body for told in upstream.requests] == [b"other", b"body"]


async def test_refusal_before_the_body_has_come(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """R3: the body that comes after its answer is not taken for the next request."""
    upstream.answers(raw_answer(OK))
    stranger = "bgk_acme_k9_secret"
    refused = _call(b"x" * 70_000, key=stranger)
    head = refused.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    async with wire(gateway.port) as caller:
        for _ in range(2):
            await caller.send(head)
            assert (await caller.until(b"}")).startswith(b"HTTP/1.1 401 ")
            await caller.send(b"x" * 70_000)
            await caller.send(_call(b"next"))
            assert (await caller.until(b"{}")).startswith(b"HTTP/1.1 200 ")

    assert [told.body for told in upstream.requests] == [b"next", b"next"]


async def test_key_of_another_caller_is_another_head(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R2: who is known does not open the gate for a head that differs in its key."""
    upstream.answers(raw_answer(OK))

    async with wire(gateway.port) as caller:
        for key, status in ((acme.KEY, b"200"), (acme.KEY + "x", b"401"), (acme.KEY, b"200")):
            await caller.send(_call(b"a", key=key))
            head = await caller.until(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 " + status)
            await caller.until(b"}")


async def test_calls_leave_no_circles(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """R5: after many of them the collector finds none of ours."""
    upstream.answers(raw_answer(OK))

    async with wire(gateway.port) as caller:
        await caller.send(_call(b"a"))
        await caller.until(b"\r\n\r\n{}")
        gc.collect()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            for _ in range(100):
                await caller.send(_call(b"a"))
                await caller.until(b"\r\n\r\n{}")
            gc.collect()
            found = {type(one).__module__.partition(".")[0] for one in gc.garbage}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()

    assert found.isdisjoint({"gateway", "uvicorn"})


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Connection: close", b"connection: close"),
        ("Expect: 100-continue", b"HTTP/1.1 100 Continue"),
    ],
)
async def test_what_says_something_of_its_connection_is_parsed_each_time(
    gateway: PlaneGateway, upstream: StubUpstream, header: str, told: bytes
) -> None:
    """R6: the second of such requests is served like the first one."""
    upstream.answers(raw_answer(OK))

    for _ in range(2):
        async with wire(gateway.port) as caller:
            await caller.send(_call(b"a", header))
            assert told in await caller.until(b"\r\n\r\n{}")


async def test_websocket_is_refused_each_time(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R6: an upgrade is 501, and its connection is closed, whether or not it came before."""
    offer = request(PATH, "Connection: Upgrade", "Upgrade: websocket", method="GET")

    for _ in range(2):
        async with wire(gateway.port) as caller:
            await caller.send(offer + b"no HTTP")
            assert (await caller.rest()).startswith(b"HTTP/1.1 501 ")

    assert upstream.executions == 0


async def test_declined_offer_is_served_each_time(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """R6: an offer of h2c is declined, and its body is forwarded, again and again."""
    upstream.answers(raw_answer(OK))
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    async with wire(gateway.port) as caller:
        for _ in range(2):
            await caller.send(_call(b"body", *offer))
            await caller.until(b"\r\n\r\n{}")
            await caller.send(_call(b"plain"))
            await caller.until(b"\r\n\r\n{}")

    assert [told.body for told in upstream.requests] == [b"body", b"plain"] * 2


async def test_refused_head_has_no_body(gateway: PlaneGateway) -> None:
    """R7: a body would be read as the begin of the next answer."""
    stranger = request(PATH, method="HEAD", key="bgk_acme_k9_secret")

    async with wire(gateway.port) as caller:
        heads = []
        for _ in range(3):
            await caller.send(stranger)
            heads.append(await caller.until(b"\r\n\r\n"))

    assert all(head.startswith(b"HTTP/1.1 401 ") for head in heads)
