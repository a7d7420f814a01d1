"""What cannot be read is refused in words, and what came whole before it is answered first.

U1 behind a whole request nothing that cannot be read costs it its answer
U2 a request that breaks off in its body is told so, runs nowhere and costs nothing
U3 a body must go on coming, and holds nothing when it does not
U4 time does not count while it is for us to read on
U5 who stands before us cannot have read another host or another body than we do
U6 what comes behind the end of what is read is not kept
"""

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import Wire, request, wire
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

PATH = "/agents/researcher/invoke"
NONSENSE = b"nonsense\r\n\r\n"
STRANGER = "bgk_acme_k9_secret"
CHUNKED = "Transfer-Encoding: chunked"


def _idle_at_most(gateway: PlaneGateway, seconds: float) -> None:
    listener: Any = gateway.plane.listeners[0][0]
    listener.config.timeout_keep_alive = seconds


def _connections(gateway: PlaneGateway) -> list[Any]:
    listener: Any = gateway.plane.listeners[0][0]
    return list(listener.server_state.connections)


def _is_read(gateway: PlaneGateway, caller: Wire) -> bool:
    """Say whether nothing waits to be read: else the end of a connection would be a reset."""
    sockets = [found.transport.get_extra_info("socket") for found in _connections(gateway)]
    return caller.is_sent and not any(
        select.select([found.fileno()], [], [], 0)[0] for found in sockets
    )


def _is_over(instant_s: float) -> bool:
    return time.monotonic() >= instant_s


@pytest.mark.parametrize("pieces", [(b"{}",), (b"{", b"}")], ids=["at once", "in pieces"])
async def test_request_before_nonsense_is_answered(
    gateway: PlaneGateway, upstream: StubUpstream, pieces: tuple[bytes, ...]
) -> None:
    """U1: its whole answer comes, and then the end of the connection."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n"
    upstream.answers(raw_answer(head + pieces[0], *pieces[1:]))

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 0") + NONSENSE)
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"{}")
    assert answer.count(b"HTTP/1.1 ") == upstream.executions == 1


async def test_every_request_before_nonsense_is_answered(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """U1: also those that wait behind another on the same connection."""
    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 0") * 3 + NONSENSE)
        answers = await caller.rest()

    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ") == 3
    assert upstream.executions == 3


@pytest.mark.parametrize(
    "body", [b"zz\r\n", b"2\r\nabc\r\n", b"2\nab\r\n"], ids=["size", "end", "bare line feed"]
)
@pytest.mark.parametrize("mode", ["flat", "tokens"])
async def test_body_that_breaks_is_refused(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, body: bytes, mode: str
) -> None:
    """U2: one 400, whether the body was to be read first or passed on as it came."""
    await acme.write_agent(org, "researcher", upstream.url, {"mode": mode, "cents": "2"})

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, CHUNKED) + body)
        answer = await caller.rest()
    await gateway.settled()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert upstream.executions == 0
    assert set((await acme.counters(org)).values()) <= {0}


@pytest.mark.parametrize("key", [acme.KEY, STRANGER])
@pytest.mark.parametrize("framing", ["Content-Length: 100", CHUNKED])
async def test_body_that_does_not_come_is_not_waited_for(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, key: str, framing: str
) -> None:
    """U3: it ends with a sentence, or with the answer to a key that is none."""
    _idle_at_most(gateway, 0.2)

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, framing, key=key))
        answer = await caller.rest()
    await gateway.settled()

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 401 "))
    assert upstream.executions == 0
    assert set((await acme.counters(org)).values()) <= {0}


@pytest.mark.parametrize("begun", [b"", b"{"])
async def test_body_behind_a_known_head_is_not_waited_for(
    gateway: PlaneGateway, upstream: StubUpstream, begun: bytes
) -> None:
    """U3: nor where the head came before, so that nothing is parsed."""
    _idle_at_most(gateway, 0.2)
    call = request(PATH, "content-length: 2")

    async with wire(gateway.port) as caller:
        for _ in range(2):
            await caller.send(call + b"{}")
            await caller.until(b'{"ok":true}')
        await caller.send(call + begun)
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.executions == 2


@pytest.mark.parametrize("calls_before", [0, 2])
async def test_body_that_comes_slowly_passes(
    gateway: PlaneGateway, upstream: StubUpstream, calls_before: int
) -> None:
    """U3: what counts is the time since its last byte, not how long all of it takes."""
    _idle_at_most(gateway, 0.5)
    call, size = request(PATH, "content-length: 20"), 20
    begins_s = time.monotonic()

    async with wire(gateway.port) as caller:
        for _ in range(calls_before):
            await caller.send(call + b"x" * size)
            await caller.until(b'{"ok":true}')
        await caller.send(call)
        for sent in range(size):
            await until(partial(_is_over, begins_s + sent * 0.05), "the next byte's time")
            await caller.send(b"x")
        answer = await caller.until(b'{"ok":true}')

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert len(upstream.requests[-1].body) == size


@asynccontextmanager
async def _sleepy_upstream(wakes: asyncio.Event) -> AsyncIterator[str]:
    """Run an upstream that reads nothing until it wakes, and then all that comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await wakes.wait()
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**16)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_caller_does_not_pay_for_a_slow_upstream(gateway: PlaneGateway, org: Any) -> None:
    """U4: nothing of the body is read while the upstream takes no more of it."""
    _idle_at_most(gateway, 0.2)
    body, wakes = b"x" * 2**24, asyncio.Event()
    async with _sleepy_upstream(wakes) as url, wire(gateway.port) as caller:
        await acme.write_agent(org, "sleepy", url, {"mode": "flat", "cents": "2"})
        path = "/agents/sleepy/invoke"
        head = request(path, f"content-length: {len(body)}")
        sending = asyncio.create_task(caller.send(head + body))
        wakes_s = time.monotonic() + 0.7
        await until(partial(_is_over, wakes_s), "more than the time to be over")
        wakes.set()
        answer = await caller.until(b"{}")
        await sending

    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("POST {path} HTTP/1.1\r\n", 400),
        ("POST {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n", 400),
        ("POST {path} HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400),
        ("POST {path} HTTP/1.0\r\n", 200),
        ("POST {path} HTTP/1.1\r\nHost:\r\n", 200),
    ],
)
async def test_host_is_named_once(
    gateway: PlaneGateway, upstream: StubUpstream, text: str, status: int
) -> None:
    """U5: RFC 9112 3.2; it may be empty, and HTTP/1.0 need not name it."""
    rest = f"Authorization: Bearer {acme.KEY}\r\nContent-Length: 0\r\n\r\n"

    async with wire(gateway.port) as caller:
        await caller.send((text.format(path=PATH) + rest).encode())
        answer = await caller.until(b"}")

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert upstream.executions == (status == 200)
    assert (b"Host" in answer) == (status == 400)


@pytest.mark.parametrize(
    "lines",
    [
        ("Transfer-Encoding: gzip, chunked",),
        ("Transfer-Encoding: gzip", "Transfer-Encoding: chunked"),
    ],
)
async def test_other_transfer_coding_is_not_supported(
    gateway: PlaneGateway, upstream: StubUpstream, lines: tuple[str, ...]
) -> None:
    """U5: of transfer codings only chunked is understood, however many lines name them."""
    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, *lines) + b"0\r\n\r\n")
        answer = await caller.until(b"}")

    assert answer.startswith(b"HTTP/1.1 501 ")
    assert upstream.connections == 0


async def test_blanks_around_a_transfer_coding_mean_nothing(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """U5: RFC 9112 5.1, and the case of its name neither."""
    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Transfer-Encoding: Chunked ") + b"2\r\n{}\r\n0\r\n\r\n")
        answer = await caller.until(b'{"ok":true}')

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream.requests[0].body == b"{}"


@pytest.mark.parametrize("waiting", [0, 1], ids=["behind one", "behind two"])
@pytest.mark.parametrize(
    "behind",
    [b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000, request(PATH, CHUNKED) + b"zz\r\n"],
    ids=["head", "body"],
)
async def test_running_call_is_answered_before_what_breaks_behind_it(
    gateway: PlaneGateway, upstream: StubUpstream, behind: bytes, waiting: int
) -> None:
    """U1: in its own words, like all that came whole; then the connection ends."""
    whole = request(PATH, "Content-Length: 0")
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))

    async with wire(gateway.port) as caller:
        await caller.send(whole)
        await until(lambda: upstream.executions == 1, "the call to run")
        await caller.send(whole * waiting + behind)
        await until(lambda: _is_read(gateway, caller), "all that was sent to be read")
        goes_on.set()
        answers = await caller.rest()
    await gateway.settled()

    assert answers.count(b"HTTP/1.1 200 ") == answers.count(b"HTTP/1.1 ") == 1 + waiting
    assert upstream.executions == 1 + waiting


async def test_nothing_is_kept_of_what_comes_behind_the_end(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """U6: neither of a head that is too long, for as long as the call before it runs."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 0"))
        await until(lambda: upstream.executions == 1, "the call to run")
        await caller.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000)
        await caller.send(b"\r\n" + b"Y: y\r\n" * 1000)
        await until(lambda: _is_read(gateway, caller), "all that was sent to be read")
        kept = [len(found.headers) for found in _connections(gateway)]
        goes_on.set()
        await caller.rest()

    assert max(kept) < 10
