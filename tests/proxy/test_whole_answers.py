"""An answer in one piece is framed as in two, and an agent that grew old is read anew."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.proxy.agents import Agents
from gateway.proxy.answer_head import own_answer_head
from gateway.proxy.body import Receive, Send
from gateway.proxy.credentials import Credentials
from gateway.proxy.head import Header
from gateway.proxy.outgoing import WHOLE, Outgoing, Whole, outgoing_in
from tests.proxy.gateways import PlaneGateway
from tests.proxy.listening import listening
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer


async def test_answer_without_a_body_states_no_length(
    org: Any, gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """RFC 9110 8.6: a 204 has no content-length, whoever would add one."""
    upstream.answers(raw_answer(b"HTTP/1.1 204 No Content\r\nx-a: 1\r\n\r\n"))

    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/x", method="GET"))
        head = await caller.until(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 204")
    assert b"content-length" not in head


@pytest.mark.parametrize(
    "header",
    [
        (b"content-length", b"99"),
        (b"x-a", b"1\r\nx-smuggled: 1"),
        (b"x-a", b"1\0"),
    ],
)
async def test_answer_that_would_break_the_framing_is_not_written_whole(header: Header) -> None:
    """Another length than the body's, a line break or NUL: the server breaks the answer off."""

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        await outgoing_in(scope, send).whole(own_answer_head(200, [header]), b"", b"{}")

    async with listening(app) as port, wire(port) as caller:
        await caller.send(request("/agents/researcher/x", method="GET"))
        answer = await caller.rest()

    assert b"x-smuggled" not in answer
    assert b"\0" not in answer


async def test_whole_answer_leaves_the_connection_open() -> None:
    """An answer that states the length of its body, or none, is followed by the next one."""
    lengths = iter([[], [(b"content-length", b"2")]])

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        await outgoing_in(scope, send).whole(
            own_answer_head(200, next(lengths)), b"x-own: 1\r\n", b"{}"
        )

    async with listening(app) as port, wire(port) as caller:
        for _ in range(2):
            await caller.send(request("/agents/researcher/x", method="GET"))
            head = await caller.until(b"{}")

            assert head.count(b"content-length: 2\r\n") == 1


async def test_caller_that_reads_nothing_is_waited_for() -> None:
    """More than its connection takes is not written whole: it would pile up in our memory."""
    # More than any socket takes; the second one comes behind it.
    bodies = iter([b"x" * 2**25, b"{}"])
    written = list[bool]()

    async def app(scope: dict[str, Any], _receive: Receive, send: Send) -> None:
        write: Whole = scope["extensions"].pop(WHOLE)
        head, body = own_answer_head(200, []), next(bodies)
        written.append(write(head, b"", body))
        if not written[-1]:
            await Outgoing(send, None).whole(head, b"", body)

    async with listening(app) as port, wire(port) as caller:
        await caller.send(request("/agents/researcher/x", method="GET") * 2)
        await until(lambda: len(written) == 2, "the second answer")
        await caller.until(b"\r\n\r\n")
        await caller.exactly(2**25)
        last = await caller.until(b"{}")

    assert written == [True, False]
    assert last.startswith(b"HTTP/1.1 200")


async def test_old_agent_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read longer ago than a second is asked for again before it is used."""

    async def read_json(_org: str, _agent: str) -> bytes:
        return orjson.dumps({"upstream": "http://a", "price": {"mode": "flat", "cents": "1"}})

    agents = Agents(read_json, Credentials({}, tmp_path))
    await agents.find("acme", "researcher")
    fresh = agents.known("acme", "researcher")
    monkeypatch.setattr("gateway.proxy.agents.FRESH_S", 0.0)

    assert fresh is not None
    assert agents.known("acme", "researcher") is None
