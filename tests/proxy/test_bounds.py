"""Nothing a caller sends is without a bound, and what it has no right to send is not read."""

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

PATH = "/agents/researcher/invoke"
STRANGER = "bgk_acme_k9_secret"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize("framing", ["Content-Length: 70000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("mode", ["flat", "tokens"])
async def test_large_body_is_not_read_for_strangers(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, framing: str, mode: str
) -> None:
    """A body that is or may be over 64 KB is refused before any of it came."""
    await acme.write_agent(org, "researcher", upstream.url, {"mode": mode, "cents": "2"})

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, framing, "Expect: 100-continue", key=STRANGER))
        answer = await caller.until(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert upstream.connections == 0


async def test_key_for_other_agents_uploads_nothing(gateway: PlaneGateway, org: Any) -> None:
    """The key must be one for this very agent."""
    await acme.write_key(org, STRANGER, "k9|active||writer")

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 70000", key=STRANGER))
        answer = await caller.until(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 403 ")


async def test_budget_is_asked_before_a_streamed_body_is_read(
    gateway: PlaneGateway, org: Any
) -> None:
    """A flat call without budget is refused before its large body came."""
    await acme.set_limits(org, {"org.month.limit_cents": "0"})

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 70000"))
        answer = await caller.until(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 402 ")


@pytest.mark.parametrize("mode", ["flat", "tokens"])
async def test_body_with_a_length_above_the_bound_is_refused_unread(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane, mode: str
) -> None:
    """A body that says that it is too long is 413 at once."""
    await acme.write_agent(org, "researcher", upstream.url, {"mode": mode, "cents": "2"})
    gateway = await start(redis_url, max_body_bytes=1000)

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 1001"))
        answer = await caller.until(b"}")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"error":"body_too_large"' in answer
    assert upstream.connections == 0


@pytest.mark.parametrize("mode", ["flat", "tokens"])
async def test_chunked_body_above_the_bound_is_refused(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane, mode: str
) -> None:
    """A body that grows too long is 413, no upstream has it whole, and nothing is spent."""
    await acme.write_agent(org, "researcher", upstream.url, {"mode": mode, "cents": "2"})
    gateway = await start(redis_url, max_body_bytes=1000)
    chunk = b"258\r\n" + b"x" * 600 + b"\r\n"

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Transfer-Encoding: chunked") + chunk + chunk)
        answer = await caller.until(b"}")
    await gateway.settled()

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert upstream.executions == 0
    assert await acme.counters(org) == {}


async def test_known_head_does_not_widen_the_bound(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane
) -> None:
    """A body that comes with a head that came before is bounded like any other."""
    gateway = await start(redis_url, max_body_bytes=1000)

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 2") + b"{}")
        await caller.until(b'{"ok":true}')
        await caller.send(request(PATH, "Content-Length: 1001") + b"x" * 1001)
        answer = await caller.until(b"}")

    assert answer.startswith(b"HTTP/1.1 413 ")
    assert upstream.executions == 1


async def test_body_of_exactly_the_bound_passes(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane
) -> None:
    """GATEWAY_MAX_BODY_BYTES is the largest body that is forwarded."""
    gateway = await start(redis_url, max_body_bytes=1000)

    async with gateway.client() as client:
        answer = await client.post(PATH, content=b"x" * 1000)

    assert (answer.status_code, len(upstream.requests[0].body)) == (200, 1000)


@pytest.mark.parametrize("in_pieces", [False, True])
@pytest.mark.parametrize("part", ["header", "headers"])
async def test_head_is_bounded(
    gateway: PlaneGateway, upstream: StubUpstream, part: str, in_pieces: bool
) -> None:
    """A head above 64 KB is 431, in one header or in many, however it comes."""
    size, count = {"header": (66_000, 1), "headers": (600, 110)}[part]
    lines = [f"X-Long-{number}: {'h' * size}" for number in range(count)]
    data = request(PATH, "Content-Length: 0", "Connection: close", *lines)

    async with wire(gateway.port) as caller:
        for at in range(0, len(data), 9000 if in_pieces else len(data)):
            await caller.send(data[at : at + (9000 if in_pieces else len(data))])
            await asyncio.sleep(0)
        answer = await caller.until(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"budget-source: gateway" in answer
    assert upstream.connections == 0


async def test_path_is_bounded(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """A path above 64 KB is refused."""
    async with wire(gateway.port) as caller:
        await caller.send(request(f"{PATH}/{'p' * 66_000}", "Content-Length: 0"))
        answer = await caller.until(b"\r\n\r\n")

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 "))
    assert upstream.connections == 0


async def test_head_without_end_is_cut_off(gateway: PlaneGateway) -> None:
    """A head that never ends is refused when it is too long, and its connection closed."""
    async with wire(gateway.port) as caller:
        await caller.send(b"POST /agents/researcher/x HTTP/1.1\r\n")
        for _ in range(70):
            await caller.send(b"X-More: " + b"h" * 1000 + b"\r\n")
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"error":"headers_too_large"' in answer


async def test_body_does_not_count_for_the_next_head(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A request that follows a large body on the same connection is judged by its own head."""
    body, head = b"x" * 200_000, request(PATH, "Content-Length: 0", "Connection: close")

    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 200000") + body + head[:20])
        await until(lambda: upstream.executions == 1, "the first request to arrive")
        await caller.send(head[20:])
        answers = await caller.rest()

    assert answers.count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"POST /agents/researcher/x HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST /agents/researcher/x HTTP/1.1\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"POST /agents/researcher/x HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /agents/researcher/x HTTP/1.1\r\nX: a\r\n b\0\r\n\r\n",
        b"GET /agents/researcher/a b HTTP/1.1\r\n\r\n",
    ],
    ids=["no-http", "two-lengths", "length-and-chunked", "negative", "nul", "blank"],
)
async def test_what_is_no_http_is_refused_in_our_words(
    gateway: PlaneGateway, upstream: StubUpstream, data: bytes
) -> None:
    """A request that could be read in two ways is 400, and its connection is closed."""
    async with wire(gateway.port) as caller:
        await caller.send(data)
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"budget-source: gateway" in answer
    assert b'"error":"bad_request"' in answer
    assert upstream.connections == 0


async def test_websocket_is_not_supported(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """An upgrade to WebSocket is 501 for who has a key, and 401 for all others."""
    lines = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13")

    async with wire(gateway.port) as caller, wire(gateway.port) as stranger:
        await caller.send(request(PATH, *lines, method="GET"))
        known = await caller.rest()
        await stranger.send(request(PATH, *lines, method="GET", key=""))
        unknown = await stranger.until(b"}")

    assert known.startswith(b"HTTP/1.1 501 ")
    assert b'"error":"not_supported"' in known
    assert unknown.startswith(b"HTTP/1.1 401 ")
    assert upstream.connections == 0


async def test_offer_to_upgrade_is_declined_in_silence(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Clients that offer HTTP/2 by upgrade, as Java's does, are served in HTTP/1.1, again too."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")

    head = request(PATH, "Content-Length: 2", *offer)
    async with wire(gateway.port) as caller:
        for _ in range(2):
            await caller.send(head)
            await caller.send(b"{}")
            await caller.until(b'{"ok":true}')
        await caller.send(head + b"[]" + head + b"[]")
        for _ in range(2):
            answer = await caller.until(b'{"ok":true}')
        await caller.send(request(PATH, *offer, method="GET"))
        await caller.until(b'{"ok":true}')

    assert b"HTTP/1.1 200 " in answer
    assert [got.body for got in upstream.requests] == [b"{}", b"{}", b"[]", b"[]", b""]
    assert upstream.requests[0].header(b"upgrade") is None


@pytest.mark.parametrize("offer", [[], ["Upgrade: h2c"]], ids=["plain", "offer"])
async def test_last_request_is_served_whatever_follows(
    gateway: PlaneGateway, upstream: StubUpstream, offer: list[str]
) -> None:
    """What follows a request that closes its connection is not read, and does not disturb it."""
    last = request(PATH, "Connection: close, upgrade", "Content-Length: 2", *offer) + b"{}"

    async with wire(gateway.port) as caller:
        await caller.send(last + b"nonsense")
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 200 ")
    assert upstream.requests[0].body == b"{}"


async def test_many_offers_at_once_are_declined(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Requests that all offer an upgrade and come in one piece are served one after the other."""
    count = 600
    one = request(PATH, "Connection: upgrade", "Upgrade: h2c", method="GET")
    last = request(PATH, "Connection: close", method="GET")

    async with wire(gateway.port) as caller:
        await caller.send(one * count + last)
        answers = await caller.rest()

    assert answers.count(b"HTTP/1.1 200 ") == upstream.executions == count + 1


def _idle_at_most(gateway: PlaneGateway, seconds: float) -> None:
    listener: Any = gateway.plane.listeners[0][0]
    listener.config.timeout_keep_alive = seconds


async def test_idle_connection_is_closed(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """A connection that brings no further request is closed after its time."""
    _idle_at_most(gateway, 0.2)
    upstream.answers(raw_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/invoke", "content-length: 2") + b"{}")
        await caller.until(b"{}")

        assert await caller.rest() == b""


@pytest.mark.parametrize("begun", [b"", b"POST /agents/researcher/x HTTP/1.1\r\nX-Slow: "])
async def test_head_that_does_not_come_is_not_waited_for(
    gateway: PlaneGateway, begun: bytes
) -> None:
    """A connection without a whole head is closed after its time, whatever trickles in."""
    _idle_at_most(gateway, 0.2)
    ends_s = time.monotonic() + 5
    async with wire(gateway.port) as caller:
        rest = asyncio.create_task(caller.rest())
        await caller.send(begun)
        while begun and not rest.done() and time.monotonic() < ends_s:
            await caller.send(b"h")
            await asyncio.wait([rest], timeout=0.05)

        assert await rest == b""


async def test_body_that_nobody_waits_for_does_not_keep_its_connection(
    gateway: PlaneGateway, org: Any
) -> None:
    """What is left of a refused request must come within the time of an idle connection."""
    _idle_at_most(gateway, 0.2)
    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, "Content-Length: 70000", key=STRANGER))
        await caller.until(b"}")
        await caller.send(b"x" * 100)

        assert await caller.rest() == b""


@pytest.mark.parametrize("calls_before", [0, 2])
async def test_connection_in_use_is_not_idle(
    gateway: PlaneGateway, upstream: StubUpstream, calls_before: int
) -> None:
    """A call that runs longer than a connection may be idle has its answer, known or not."""
    _idle_at_most(gateway, 1)
    whole, goes_on = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", asyncio.Event()
    slow = raw_answer(whole[:-2], goes_on, b"{}")
    upstream.answers(*[raw_answer(whole)] * calls_before, slow)
    call = request("/agents/researcher/invoke", "content-length: 2") + b"{}"
    async with wire(gateway.port) as caller:
        for _ in range(calls_before):
            await caller.send(call)
            await caller.until(b"{}")
        idle_until_s = time.monotonic() + 1
        await caller.send(call)

        await until(lambda: time.monotonic() > idle_until_s + 0.1, "the time to be over")
        goes_on.set()

        await caller.until(b"{}")


async def test_connection_that_ended_is_not_kept(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Nothing waits for a connection whose caller has closed it, however long it might be idle."""
    listener, _ = gateway.plane.listeners[0]
    upstream.answers(raw_answer(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"))
    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/invoke", "content-length: 2") + b"{}")
        await caller.until(b"{}")
        [connection] = listener.server_state.connections
        kept = weakref.ref(connection)
        del connection

    def is_gone() -> bool:
        gc.collect()
        return kept() is None

    await until(is_gone, "the connection to be forgotten")


@pytest.mark.parametrize(("count", "size"), [(300, 0), (1, 100_000)])
async def test_what_came_before_it_does_not_count_for_a_head(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, count: int, size: int
) -> None:
    """Whole requests and the begin of another may come at once, and all are answered."""
    await acme.set_limits(org, {"org.month.limit_cents": "100000"})
    head = request(PATH, f"Content-Length: {size}", f"X-Pad: {'x' * 200}")
    body = b"x" * size

    async with wire(gateway.port) as caller:
        await caller.send((head + body) * count + head[:50])
        for _ in range(count):
            await caller.until(b'{"ok":true}')
        await caller.send(head[50:] + body)
        await caller.until(b'{"ok":true}')

    assert upstream.executions == count + 1
