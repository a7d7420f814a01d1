"""An answer in one piece is framed as in two, and an agent that grew old is read anew."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.proxy.agents import Agents
from gateway.proxy.credentials import Credentials
from tests.proxy.gateways import PlaneGateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream
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
