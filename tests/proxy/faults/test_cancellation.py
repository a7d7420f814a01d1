"""A call that is cancelled, at whatever it waits for, leaves nothing held and is charged if it ran.

The server cancels calls that outlive a stop, so this is no matter of theory.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import pytest

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.faults.cancelling import CancelledAt, run
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import (
    Answering,
    bytes_answer,
    chunked_answer,
    openai_chat_events,
    sse_answer,
)

# More than a call may send before its key was checked, so that it is passed on as it comes.
_PART = b"x" * 40_000


class Shape(NamedTuple):
    """A call and its answer; each shape waits at other places."""

    body: tuple[bytes, ...]
    answering: Callable[[], Answering]


SHAPES = {
    "whole": Shape((b"{}",), lambda: bytes_answer(b"{}")),
    # Closed by the upstream, so that the next call has to connect.
    "connecting": Shape((b"{}",), lambda: bytes_answer(b"{}", headers={"connection": "close"})),
    "body in parts": Shape((_PART, _PART), lambda: bytes_answer(b"{}")),
    "answer in parts": Shape((b"{}",), lambda: chunked_answer(b"one", b"two", b"three")),
    "events": Shape((b"{}",), lambda: sse_answer(*openai_chat_events())),
}


def _call(gateway: PlaneGateway, body: tuple[bytes, ...]) -> Any:
    """Return a call of the app as the server would make it, without a server."""
    length = b"%d" % sum(map(len, body))
    headers = [(b"authorization", b"Bearer " + acme.KEY.encode()), (b"content-length", length)]
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/agents/researcher/invoke",
        "raw_path": b"/agents/researcher/invoke",
        "query_string": b"",
        "headers": headers,
    }
    parts = list(body)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0)
        if not parts:
            await asyncio.Event().wait()
        part = parts.pop(0)
        return {"type": "http.request", "body": part, "more_body": bool(parts)}

    async def send(_message: Any) -> None:
        await asyncio.sleep(0)

    return gateway.plane.app(scope, receive, send)


def _has_run(upstream: StubUpstream, times: int) -> bool:
    return upstream.executions == times


@pytest.mark.parametrize("name", SHAPES)
async def test_call_cancelled_at_any_await(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane, name: str
) -> None:
    """Nothing stays held, and there is one entry for each call that reached the upstream."""
    shape = SHAPES[name]
    gateway = await start(redis_url)
    upstream.answers(shape.answering())

    for number in count():
        call = CancelledAt(_call(gateway, shape.body), number)
        await run(call)
        await gateway.settled()
        entries = len(await acme.journal(org))
        await until(
            partial(_has_run, upstream, entries),
            f"as many runs as entries after a cancellation at await {number}",
            timeout_s=2.0,
        )
        if not call.reached:
            break

    spent = 2_000_000 * upstream.executions
    assert number > 4
    assert upstream.executions > 1
    assert await acme.counters(org) == {"org.spent": spent, "agent.researcher.spent": spent}
    assert await org.zcard("bg:expiry") == 0
