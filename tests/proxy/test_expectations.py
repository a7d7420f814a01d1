"""A caller that waits to be asked for its body is asked, or told that the connection ends."""

import pytest

from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire

PATH = "/agents/researcher/invoke"


@pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
async def test_refusal_of_an_unasked_body_ends_the_connection(
    gateway: PlaneGateway, framing: str
) -> None:
    """Its caller may keep the body or send it: what came next could be either."""
    async with wire(gateway.port) as caller:
        await caller.send(request(PATH, framing, "Expect: 100-continue", key="no key"))
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nconnection: close\r\n" in answer


async def test_refusal_of_a_body_that_came_unasked_ends_nothing(gateway: PlaneGateway) -> None:
    """All of it is there, so the next request is one."""
    whole = request(PATH, "Content-Length: 3", "Expect: 100-continue", key="no key") + b"abc"

    async with wire(gateway.port) as caller:
        for _ in range(2):
            await caller.send(whole)
            assert (await caller.until(b"}")).startswith(b"HTTP/1.1 401 ")
