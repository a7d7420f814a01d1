"""A call reaches the upstream with its bytes unchanged, and its answer comes back as it was."""

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest

from gateway.domain.agent import Timeouts
from gateway.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from gateway.proxy.origin import Origin, UpstreamHead, origin_of, request_start
from gateway.proxy.upstream import Upstreams
from gateway.proxy.upstream_connection import UpstreamConnection
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.until import until
from tests.upstream_answers import Answering, die, hang, openai_chat, openai_chat_events, sse_answer

QUICK = Timeouts(connect_s=1.0, read_s=0.2, idle_s=0.2)
BODY = b'{"model":"gpt-4o-mini"}'


def _head(origin: Origin, path: bytes, lines: bytes) -> UpstreamHead:
    return UpstreamHead(b"POST", request_start(origin, b"POST", path, lines), len(BODY))


async def call(upstreams: Upstreams, stub: StubUpstream) -> tuple[int, bytes]:
    """Post a body and return status and body of the answer."""
    origin = origin_of(stub.url)
    head = _head(origin, b"/v1/x%20y?a=1", b"x-own: 1\r\n")
    answer = await upstreams.send(origin, head, BODY, QUICK)
    try:
        return answer.head.status, b"".join([chunk async for chunk in answer.chunks()])
    finally:
        answer.close()


async def test_call_and_answer_pass_unchanged() -> None:
    """Path, header and body arrive as they were sent, and the connection is kept for the next."""
    async with stub_upstream() as stub:
        stub.answers(openai_chat(), sse_answer(*openai_chat_events()))
        upstreams = Upstreams()
        status, body = await call(upstreams, stub)
        _, stream = await call(upstreams, stub)
        await upstreams.close()

    received = stub.requests[0]
    assert (status, received.body, received.header(b"x-own")) == (200, BODY, b"1")
    assert b'"usage"' in body
    assert stream.endswith(b"data: [DONE]\n\n")
    assert stub.executions == 2


@pytest.mark.parametrize(("answer", "fault"), [(hang(), UpstreamTimeout), (die(), UpstreamBroken)])
async def test_answer_that_never_comes_may_have_run(
    answer: Answering, fault: type[Exception]
) -> None:
    """Silence is a timeout, a closed connection is broken; neither call is made twice."""
    async with stub_upstream() as stub:
        stub.answers(answer)
        upstreams = Upstreams()
        with pytest.raises(fault):
            await call(upstreams, stub)
        await upstreams.close()

        assert stub.executions == 1
        assert upstreams.busy == 0


async def test_upstream_that_is_not_there_never_ran() -> None:
    """A refused connection is unreachable: nothing was sent."""
    async with stub_upstream() as stub:
        url = stub.url
    upstreams = Upstreams()
    origin = origin_of(url)
    head = _head(origin, b"/", b"")

    with pytest.raises(UpstreamUnreachable):
        await upstreams.send(origin, head, BODY, QUICK)
    await upstreams.close()


async def test_connection_that_is_closed_before_it_is_used_never_ran(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Uvloop may read the end of a new connection before its call goes on: nothing was sent."""
    made = UpstreamConnection.connection_made

    def made_and_ended(connection: UpstreamConnection, transport: asyncio.BaseTransport) -> None:
        made(connection, transport)
        connection.eof_received()

    monkeypatch.setattr(UpstreamConnection, "connection_made", made_and_ended)
    async with stub_upstream() as stub:
        upstreams = Upstreams()
        with pytest.raises(UpstreamUnreachable):
            await call(upstreams, stub)
        await upstreams.close()

        assert upstreams.busy == 0


async def test_cancelled_call_leaves_the_pool_clean() -> None:
    """A caller that goes away takes its connection with it; the next call is served."""
    async with stub_upstream() as stub:
        stub.answers(hang(), openai_chat())
        upstreams = Upstreams()
        task = asyncio.create_task(call(upstreams, stub))
        await asyncio.wait([task], timeout=0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        status, _ = await call(upstreams, stub)

        assert (status, upstreams.busy) == (200, 0)
        await upstreams.close()


async def test_repeat_that_is_cancelled_leaves_the_pool_clean() -> None:
    """Who goes away while a call is made again takes the second connection along, too."""
    async with stub_upstream() as stub:
        stub.answers(openai_chat(), die(), hang())
        upstreams = Upstreams()
        origin = origin_of(stub.url)
        head = UpstreamHead(b"GET", request_start(origin, b"GET", b"/", b""), 0)
        patient = Timeouts(connect_s=1.0, read_s=60.0, idle_s=60.0)
        await upstreams.send(origin, head, b"", patient)
        task = asyncio.create_task(upstreams.send(origin, head, b"", patient))
        await until(lambda: stub.executions == 3, "the repeat")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        await until(lambda: not upstreams.busy, "the connection to be closed")
        await upstreams.close()


def _is_over(instant_s: float) -> bool:
    return time.monotonic() >= instant_s


async def test_slow_upload_outlives_the_idle_time_of_its_connection() -> None:
    """How long a connection may be idle does not bound how long the next body takes to come."""

    async def slowly() -> AsyncIterator[bytes]:
        for part_s in (0.1, 0.2, 0.3):
            yield b"x"
            await until(partial(_is_over, began_s + part_s), "the next part")

    async with stub_upstream() as stub:
        upstreams = Upstreams(keepalive_s=0.15)
        await call(upstreams, stub)
        origin = origin_of(stub.url)
        head = UpstreamHead(b"POST", request_start(origin, b"POST", b"/", b""), None)
        began_s = time.monotonic()
        answer = await upstreams.send(origin, head, slowly(), QUICK)
        await upstreams.close()

        assert answer.head.status == 200
        assert (stub.requests[1].body, stub.connections) == (b"xxx", 1)


async def test_call_that_may_have_run_is_not_unreachable_because_its_repeat_is() -> None:
    """An upstream that dies of a PUT may have run it, although it cannot be asked again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    origin = origin_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    head = UpstreamHead(b"PUT", request_start(origin, b"PUT", b"/", b""), 0)
    upstreams = Upstreams()
    await upstreams.send(origin, head, b"", QUICK)

    with pytest.raises(UpstreamBroken):
        await upstreams.send(origin, head, b"", QUICK)
    await upstreams.close()


async def test_call_that_may_cost_is_not_repeated() -> None:
    """A POST whose connection breaks may have run, and would cost twice."""
    async with stub_upstream() as stub:
        stub.answers(openai_chat(), die(), openai_chat())
        upstreams = Upstreams()
        await call(upstreams, stub)

        with pytest.raises(UpstreamBroken):
            await call(upstreams, stub)
        await upstreams.close()

        assert stub.executions == 2


async def test_body_that_was_passed_on_is_not_repeated() -> None:
    """Also where it may be run twice: what was sent of it is not there any more."""

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async with stub_upstream() as stub:
        stub.answers(openai_chat(), die(), openai_chat())
        upstreams = Upstreams()
        await call(upstreams, stub)
        origin = origin_of(stub.url)
        head = UpstreamHead(b"PUT", request_start(origin, b"PUT", b"/", b""), None)

        with pytest.raises(UpstreamBroken):
            await upstreams.send(origin, head, parts(), QUICK)
        await upstreams.close()

        assert [received.body for received in stub.requests[1:]] == [b"onetwo"]
