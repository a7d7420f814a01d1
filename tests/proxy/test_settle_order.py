"""The cost is on its way to Redis before the last byte of the answer leaves the gateway."""

import time
from typing import Any

import pytest
import redis as blocking

from gateway.proxy import cycle
from gateway.proxy.body import Message
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
from tests.upstream_answers import (
    Answering,
    anthropic_events,
    openai_chat,
    raw_answer,
    sse_answer,
)

BODY = b'{"model":"gpt-4o-mini","max_tokens":100}'
PAD = b" " * 300_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
WAIT_S = 5.0


class Caller:
    """A caller that looks into Redis in the moment in which it is given its last byte.

    It looks without letting the event loop turn: what was not written to Redis by then is not
    written while it looks.
    """

    def __init__(self, redis_url: str) -> None:
        self.spent_at_end: int | None = None
        self._redis_url = redis_url
        self._left: int | None = None

    async def receive(self) -> Message:
        """Give the request."""
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            length = dict(message["headers"]).get(b"content-length")
            self._left = int(length) if length else None
            return
        if self._left is not None:
            self._left -= len(message["body"])
        is_last = not message.get("more_body") or self._left == 0
        if is_last and self.spent_at_end is None:
            self.spent_at_end = _spent(self._redis_url)


def _spent(redis_url: str, least: int = 1) -> int:
    """Return what is spent once that is no less, without letting the event loop turn."""
    until_s = time.monotonic() + WAIT_S
    with blocking.Redis.from_url(redis_url) as client:
        spent = 0
        while spent < least and time.monotonic() < until_s:
            spent = int(client.hget(f"bg:{{{acme.ORG}}}:spend:total", "org.spent") or 0)
    return spent


@pytest.fixture
def caller(redis_url: str) -> Caller:
    """Return a caller that looks into the Redis of this test."""
    return Caller(redis_url)


@pytest.mark.parametrize(
    "answering",
    [
        openai_chat(),
        sse_answer(*anthropic_events(model="gpt-4o-mini")),
        sse_answer(*anthropic_events(model="gpt-4o-mini"), "x" * 100_000),
        raw_answer(HEAD % len(PAD), PAD),
    ],
    ids=["json", "events", "long-events", "large-json"],
)
async def test_settle_leaves_before_the_last_byte(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, caller: Caller, answering: Answering
) -> None:
    """Who has the whole answer finds its cost in the budget, whatever becomes of the gateway."""
    await acme.write_agent(org, "researcher", upstream.url, {"mode": "tokens"})
    upstream.answers(answering)
    scope = {
        "type": "http",
        "method": "POST",
        "raw_path": b"/agents/researcher/v1/chat/completions",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {acme.KEY}".encode()),
            (b"content-length", b"%d" % len(BODY)),
        ],
    }

    await gateway.plane.app(scope, caller.receive, caller.send)
    await gateway.settled()

    spent = (await acme.counters(org))["org.spent"]
    assert (caller.spent_at_end, spent > 0) == (spent, True)


async def test_settle_leaves_before_the_answer_to_a_known_head(
    gateway: PlaneGateway, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where a runner serves the call, from the second one on."""
    found: list[int] = []
    complete = cycle._complete

    def looked(answered: Any, text: bytes) -> None:
        found.append(_spent(redis_url, 2_000_000 * (len(found) + 1)))
        complete(answered, text)

    monkeypatch.setattr(cycle, "_complete", looked)
    async with wire(gateway.port) as caller:
        for _ in range(3):
            await caller.send(request("/agents/researcher/x", "Content-Length: 0"))
            await caller.until(b'{"ok":true}')

    assert found == [2_000_000, 4_000_000, 6_000_000]
