"""A limit that cannot be read closes the gate and names its field; it never widens a budget."""

from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream

NO_NUMBERS = (
    "nan",
    "inf",
    "-1",
    "0x10",
    "1e3",
    "5,000",
    "",
    " 5 ",
    "99999999999999999999",
    "1.2.3",
    "1.2345678",
    ".5",
    "5.",
    "+5",
    "None",
    "unlimited",
    "9007199254.740992",
    "\u0665",
)
FIELDS = (
    "org.month.limit_cents",
    "agent.researcher.month.limit_cents",
    "agent.*.total.limit_cents",
    "org.per_call_cents",
    "agent.researcher.rpm",
)
LIMITS = f"bg:{{{acme.ORG}}}:limits"


async def refused_field(gateway: PlaneGateway, upstream: StubUpstream) -> str:
    """Make one call that must be refused; return the field it is refused for."""
    async with gateway.client() as client:
        answer = await client.post("/agents/researcher/invoke", json={})
    body = answer.json()
    assert (answer.status_code, body["error"]) == (503, "limits_invalid")
    assert answer.headers["retry-after"] == "1"
    assert body["field"] in body["detail"]
    assert upstream.executions == 0
    return str(body["field"])


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", NO_NUMBERS)
async def test_no_number_refuses(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, field: str, value: str
) -> None:
    """Whatever is no plain number of cents refuses the call and is named."""
    await acme.set_limits(org, {field: value})

    assert await refused_field(gateway, upstream) == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "open"),
        ("agent.researcher.status", "paused"),
        ("org.month.mode", "firm"),
        ("hold_ttl_ms", "0"),
        ("org.hour.limit_cents", "5"),
    ],
)
async def test_no_setting_refuses(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, field: str, value: str
) -> None:
    """A status or mode that is none, or a limit on a window that is not counted, is named."""
    await acme.set_limits(org, {field: value})

    assert await refused_field(gateway, upstream) == field


async def test_deleted_limits_refuse(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A DEL of the whole hash never opens the gate."""
    await org.delete(LIMITS)

    assert await refused_field(gateway, upstream) == "status"


async def test_misspelt_limit_refuses(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """An org whose only limit is misspelt has no budget, so nothing may be spent."""
    await org.hdel(LIMITS, "org.month.limit_cents")
    await acme.set_limits(org, {"org.mnoth.limit_cents": "1000"})

    assert await refused_field(gateway, upstream) == "org.<window>.limit_cents"


async def test_limit_of_another_agent_refuses_nobody_else(gateway: PlaneGateway, org: Any) -> None:
    """A malformed field that a call does not consult is no reason to refuse it."""
    await acme.set_limits(org, {"agent.writer.day.limit_cents": "nan"})

    async with gateway.client() as client:
        assert (await client.post("/agents/researcher/invoke")).status_code == 200


async def test_next_request_obeys_a_change(gateway: PlaneGateway, org: Any) -> None:
    """A limit that is lowered below what was spent refuses at once, and a raised one admits."""
    statuses = []
    async with gateway.client() as client:
        for limit in ("1000", "1", "none", "0", "4"):
            await acme.set_limits(org, {"org.month.limit_cents": limit})
            statuses.append((await client.post("/agents/researcher/invoke")).status_code)
            await gateway.settled()

    assert statuses == [200, 402, 200, 402, 402]
