"""Answers whose head came before are taken as those that are parsed.

N1 each with its own body, in one piece or in several
N2 what follows an answer costs its connection, whether or not its head is known
N3 an interim answer is never learned as the head of what follows it
N4 an answer to HEAD has no body, and an answer to another method is not taken for one
N5 what says something of its connection is parsed each time
N6 a connection that is free again belongs to the call that has it then
N7 it is kept no longer without a call than after an answer that was parsed
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from gateway.domain.agent import Timeouts
from gateway.errors import UpstreamError
from gateway.proxy.origin import UpstreamHead, origin_of, request_start
from gateway.proxy.upstream import Upstreams
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.until import until
from tests.upstream_answers import raw_answer

QUICK = Timeouts(connect_s=1.0, read_s=5.0, idle_s=5.0)
LENGTH = b"content-length: %d"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n"


@pytest.fixture
async def upstreams() -> AsyncIterator[Upstreams]:
    """Yield connections that are closed at the end."""
    made = Upstreams()
    yield made
    await made.close()


@pytest.fixture
async def stub() -> AsyncIterator[StubUpstream]:
    """Yield an upstream."""
    async with stub_upstream() as made:
        yield made


async def _ask(
    upstreams: Upstreams, stub: StubUpstream, method: bytes = b"GET"
) -> tuple[int, bytes]:
    """Return status and body of an answer."""
    origin = origin_of(stub.url)
    head = UpstreamHead(method, request_start(origin, method, b"/x", b""), 0)
    answer = await upstreams.send(origin, head, b"", QUICK)
    try:
        return answer.head.status, b"".join([chunk async for chunk in answer.chunks()])
    finally:
        answer.close()


async def _media_type_and_body(upstreams: Upstreams, stub: StubUpstream) -> tuple[bytes, bytes]:
    origin = origin_of(stub.url)
    head = UpstreamHead(b"GET", request_start(origin, b"GET", b"/x", b""), 0)
    answer = await upstreams.send(origin, head, b"", QUICK)
    body = b"".join([chunk async for chunk in answer.chunks()])
    return answer.head.by_name[b"content-type"], body


def _has_run(stub: StubUpstream, executions: int) -> bool:
    return stub.executions == executions


def _whole(body: bytes) -> bytes:
    return HEAD % len(body) + body


async def test_known_answer_has_its_own_body(upstreams: Upstreams, stub: StubUpstream) -> None:
    """N1: from nothing to many pieces, over one connection."""
    bodies = [b"first", b"", b"second", b"x" * 300_000, b"last"]
    stub.answers(*(raw_answer(_whole(body)) for body in bodies))

    answers = [await _ask(upstreams, stub) for _ in bodies]

    assert answers == [(200, body) for body in bodies]
    assert stub.connections == 1


async def test_known_answer_in_pieces(upstreams: Upstreams, stub: StubUpstream) -> None:
    """N1: its head alone, or a part of its body, is not taken for all of it."""
    goes_on = asyncio.Event()
    head, body = HEAD % 5, b"hello"
    stub.answers(
        raw_answer(head + body),
        raw_answer(head + body),
        raw_answer(head, goes_on, body),
        raw_answer(head + body[:2], goes_on, body[2:]),
    )
    for _ in range(2):
        await _ask(upstreams, stub)

    for executions in (3, 4):
        asking = asyncio.create_task(_ask(upstreams, stub))
        await until(partial(_has_run, stub, executions), "the call to run")
        goes_on.set()
        assert await asking == (200, body)
        goes_on.clear()


async def test_body_that_looks_like_an_answer(upstreams: Upstreams, stub: StubUpstream) -> None:
    """N1: what comes in the middle of an answer neither is one nor teaches what one means."""
    goes_on = asyncio.Event()
    inner = b"HTTP/1.1 200 OK\r\ncontent-type: text/other\r\ncontent-length: 65\r\n\r\n"
    other = inner + b"x" * 65
    assert len(inner) == 65
    stub.answers(
        raw_answer(_whole(b"")),
        raw_answer(HEAD % 65, goes_on, inner),
        raw_answer(other),
        raw_answer(HEAD % len(other), goes_on, other),
    )
    await _ask(upstreams, stub)

    for executions, body in ((2, inner), (3, b"x" * 65), (4, other)):
        asking = asyncio.create_task(_media_type_and_body(upstreams, stub))
        await until(partial(_has_run, stub, executions), "the call to run")
        goes_on.set()
        media_type = b"text/other" if executions == 3 else b"text/plain"
        assert await asking == (media_type, body)
        goes_on.clear()


async def test_surplus_behind_a_known_answer_costs_the_connection(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N2: it is nobody's answer, least of all that of the next call."""
    stub.answers(
        raw_answer(_whole(b"a")),
        raw_answer(_whole(b"b")),
        raw_answer(_whole(b"c") + b"surplus"),
        raw_answer(_whole(b"d")),
    )

    answers = [await _ask(upstreams, stub) for _ in range(4)]

    assert [body for _, body in answers] == [b"a", b"b", b"c", b"d"]
    assert stub.connections == 2


async def test_interim_answer_is_not_learned(upstreams: Upstreams, stub: StubUpstream) -> None:
    """N3: though it has as many lines as the final one, and the same length."""
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    goes_on = asyncio.Event()
    error = b"HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"
    stub.answers(
        raw_answer(final), raw_answer(interim + final), raw_answer(interim, goes_on, error)
    )
    for _ in range(2):
        assert await _ask(upstreams, stub) == (200, b"")

    asking = asyncio.create_task(_ask(upstreams, stub))
    await until(lambda: stub.executions == 3, "the call to run")
    goes_on.set()

    assert await asking == (500, b"no")


async def test_answer_to_head_and_to_get(upstreams: Upstreams, stub: StubUpstream) -> None:
    """N4: the same head, with a body for the one and without for the other."""
    stub.answers(raw_answer(_whole(b"body!")))
    asked = [b"GET", b"GET", b"HEAD", b"GET", b"HEAD", b"HEAD", b"GET"]

    bodies = [(await _ask(upstreams, stub, method))[1] for method in asked]

    assert bodies == [b"" if method == b"HEAD" else b"body!" for method in asked]


async def test_answer_to_head_is_not_learned_for_get(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N4: an upstream that sends a wrong body for a known head is waited for, not completed."""
    stub.answers(raw_answer(_whole(b"")), raw_answer(HEAD % 0), raw_answer(_whole(b"x")))

    assert await _ask(upstreams, stub, b"HEAD") == (200, b"")
    assert await _ask(upstreams, stub) == (200, b"")
    assert await _ask(upstreams, stub) == (200, b"x")


async def test_body_that_answers_head_costs_the_connection(upstreams: Upstreams) -> None:
    """N4: also where head and body are those that a GET had before."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(_whole(b"body!"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = origin_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    bodies = []
    for method in (b"GET", b"HEAD", b"GET"):
        head = UpstreamHead(method, request_start(origin, method, b"/x", b""), 0)
        bodies.append((await upstreams.send(origin, head, b"", QUICK)).body)
    await upstreams.close()
    server.close()

    assert (bodies, connections) == ([b"body!", b"", b"body!"], 2)


async def test_connection_that_is_to_be_closed_is_not_used_again(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N5: each of these answers ends its connection."""
    closing = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na"
    plain = raw_answer(_whole(b"b"))
    stub.answers(plain, raw_answer(closing), plain, raw_answer(closing), plain)

    answers = [await _ask(upstreams, stub) for _ in range(5)]

    assert [body for _, body in answers] == [b"b", b"a", b"b", b"a", b"b"]
    assert stub.connections == 3


async def test_first_answer_of_a_connection_says_how_long_it_is_kept(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N5: a known head is read for its hint on each new connection."""
    hinted = b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 1\r\n\r\na"
    stub.answers(raw_answer(hinted))

    for _ in range(3):
        assert await _ask(upstreams, stub) == (200, b"a")

    assert stub.connections == 3


async def test_connection_is_not_kept_for_longer_after_a_known_answer(stub: StubUpstream) -> None:
    """N7: how long the upstream had for its answer says nothing of it."""
    stub.answers(raw_answer(_whole(b"a")))
    patient = Timeouts(connect_s=1.0, read_s=60.0, idle_s=60.0)
    upstreams = Upstreams(keepalive_s=0.2)
    origin = origin_of(stub.url)
    head = UpstreamHead(b"GET", request_start(origin, b"GET", b"/x", b""), 0)

    for _ in range(2):
        await upstreams.send(origin, head, b"", patient)
    await until(lambda: not stub.open, "the connection to be closed")
    await upstreams.close()

    assert stub.connections == 1


async def test_known_answer_before_the_request_was_sent_costs_the_connection(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N2: what is left of the request would be read as the next one."""
    stub.answers(raw_answer(_whole(b"a")), raw_answer(_whole(b"a"), early=True))
    held = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"1"
        await held.wait()
        yield b"2"

    origin = origin_of(stub.url)
    start = request_start(origin, b"POST", b"/x", b"")
    await _ask(upstreams, stub)
    answer = await upstreams.send(origin, UpstreamHead(b"POST", start, 2), body(), QUICK)
    chunks = [chunk async for chunk in answer.chunks()]
    answer.close()

    assert chunks == [b"a"]
    assert upstreams.idle == 0


async def test_answer_that_is_no_answer_is_still_refused(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N1: a head that differs from a known one is read by the parser, and refused by it."""
    stub.answers(
        raw_answer(_whole(b"a")), raw_answer(_whole(b"b")), raw_answer(b"X" + _whole(b"c"))
    )
    for _ in range(2):
        await _ask(upstreams, stub)

    with pytest.raises(UpstreamError):
        await _ask(upstreams, stub, b"POST")


def _sent(number: int) -> tuple[list[bytes], bytes]:
    """Return the lines of an answer's head but its length, and its body."""
    lines = [
        b"content-type: text/plain",
        b"x-twice: a",
        b"x-twice: b",
        b"x-kind: %d" % (number % 3),
    ]
    return lines, b"x" * (number * 37 % 23)


@pytest.mark.parametrize("lines", [(), ("Connection: close",)], ids=["kept", "closed"])
async def test_callers_have_the_answers_that_came(
    gateway: PlaneGateway, upstream: StubUpstream, lines: tuple[str, ...]
) -> None:
    """N1: each caller has head and body as they came, whatever the length of the one before."""
    sent = [_sent(number) for number in range(40)]
    upstream.answers(
        *(
            raw_answer(b"\r\n".join([b"HTTP/1.1 200 OK", *head, LENGTH % len(body), b"", body]))
            for head, body in sent
        )
    )

    for head, body in sent:
        async with wire(gateway.port) as caller:
            await caller.send(request("/agents/researcher/x", "Content-Length: 0", *lines))
            received = (await caller.until(b"\r\n\r\n")).split(b"\r\n")
            assert received[1 : len(head) + 2] == [*head, LENGTH % len(body)]
            assert await caller.exactly(len(body)) == body
    assert upstream.connections == 1


async def test_cancelled_call_leaves_the_next_one_alone(
    upstreams: Upstreams, stub: StubUpstream
) -> None:
    """N6: its answer has come and its connection runs another call: that one is not cut off."""
    goes_on, second = asyncio.Event(), list[asyncio.Task[bytes]]()
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"
    stub.answers(
        raw_answer(answer + b"0"),
        raw_answer(goes_on, answer + b"1"),
        raw_answer(answer.replace(b"OK", b"Fine") + b"2"),
    )
    origin = origin_of(stub.url)
    head = UpstreamHead(b"POST", request_start(origin, b"POST", b"/x", b""), 0)

    async def ask() -> bytes:
        return (await upstreams.send(origin, head, b"", QUICK)).body or b""

    await ask()
    first = asyncio.create_task(ask())
    await until(lambda: stub.executions == 2, "the first call to run")
    pool: Any = upstreams._pools[origin.site]
    [connection] = pool.connections
    free = connection._on_free

    def taken_at_once(freed: Any) -> None:
        free(freed)
        connection._on_free = free
        # Another call has the connection before the first one hears of its answer.
        going = ask()
        waits = going.send(None)
        waits._asyncio_future_blocking = False
        second.append(asyncio.ensure_future(_ended(going, waits)))
        first.cancel()

    connection._on_free = taken_at_once
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await first

    assert await asyncio.wait_for(second[0], 5) == b"2"


async def _ended(going: Any, waits: "asyncio.Future[Any]") -> bytes:
    await asyncio.wait([waits])
    try:
        going.send(None)
    except StopIteration as end:
        return bytes(end.value)
    raise AssertionError("it waits on")
