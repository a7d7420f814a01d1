"""Every admitted answer says what it cost and what is left, to whom that may be told."""

import re
from typing import Any, NamedTuple

import httpx
import pytest
from ulid import ULID

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import Gateway, PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.upstream_answers import json_answer

MONTH = "org.month.limit_cents"
AGENT_KEY = "bgk_acme_k2_secret"


async def post(gateway: Gateway, key: str = acme.KEY, **headers: str) -> httpx.Response:
    """Make one call of the researcher."""
    async with gateway.client(key, **headers) as client:
        return await client.post("/agents/researcher/invoke", json={})


async def test_answer_says_what_it_cost_and_what_is_left(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """An admitted answer names its reservation, the tightest budget, its rest and its reset."""
    await acme.set_limits(org, {"agent.researcher.total.limit_cents": "7.5"})
    upstream.answers(json_answer({}, headers={"X-Request-Id": "up-1"}))

    headers = (await post(gateway)).headers
    await gateway.settled()

    assert str(ULID.from_str(headers["budget-request-id"])) == headers["budget-request-id"]
    assert await org.exists(f"bg:{{acme}}:done:{headers['budget-request-id']}")
    assert headers["budget-source"] == "upstream"
    assert headers["budget-id"] == "acme:agent.researcher.total"
    assert headers["budget-remaining"] == "5.5"
    assert headers["budget-cost"] == "2"
    assert headers["x-request-id"] == "up-1"
    assert not {"budget-reset", "budget-warning", "request-id"} & headers.keys()


async def test_budget_with_a_window_tells_its_reset(gateway: PlaneGateway, org: Any) -> None:
    """Budget-Reset is the end of the window, in RFC 3339."""
    answer = await post(gateway)

    assert answer.headers["budget-id"] == "acme:org.month"
    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00Z", answer.headers["budget-reset"])


async def test_server_timing_says_where_the_time_went(gateway: PlaneGateway) -> None:
    """The gateway's own time, that of Redis and that of the upstream are told apart."""
    timing = (await post(gateway)).headers["server-timing"]

    assert re.fullmatch(r"gw;dur=\d+\.\d{3}, redis;dur=\d+\.\d{3}, upstream;dur=\d+\.\d{3}", timing)


async def test_org_without_limits_has_no_tightest_budget(gateway: PlaneGateway, org: Any) -> None:
    """Where nothing limits a call, no budget is named."""
    await acme.set_limits(org, {MONTH: "none"})

    headers = (await post(gateway)).headers

    assert not {"budget-id", "budget-remaining", "budget-reset"} & headers.keys()
    assert headers["budget-cost"] == "2"


async def test_budget_past_its_warning_is_told(gateway: PlaneGateway, org: Any) -> None:
    """From warn_at on each answer names the budget, and the journal has one alert."""
    await acme.set_limits(org, {MONTH: "5", "org.month.warn_at": "0.8"})

    warnings = [(await post(gateway)).headers.get("budget-warning") for _ in range(2)]
    await gateway.settled()

    assert warnings == [None, "acme:org.month"]
    assert len(await acme.journal(org, "alert")) == 1


async def test_soft_budget_admits_and_warns(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A soft budget without room lets the call pass and says so."""
    await acme.set_limits(org, {"org.day.limit_cents": "1", "org.day.mode": "soft"})

    answer = await post(gateway)

    assert (answer.status_code, answer.headers["budget-warning"]) == (200, "acme:org.day")
    assert upstream.executions == 1


async def test_shadow_budget_admits_in_silence(gateway: PlaneGateway, org: Any) -> None:
    """A shadow budget without room is recorded in the journal and told to no caller."""
    await acme.set_limits(org, {"org.day.limit_cents": "1", "org.day.mode": "shadow"})

    answer = await post(gateway)
    await gateway.settled()

    assert (answer.status_code, "budget-warning" in answer.headers) == (200, False)
    assert len(await acme.journal(org, "alert")) >= 1


@pytest.mark.parametrize(
    ("ceiling", "status"), [("2", 200), ("2.000001", 200), ("1.999999", 402), ("0", 402)]
)
async def test_caller_sets_a_ceiling_for_one_call(
    gateway: PlaneGateway, upstream: StubUpstream, ceiling: str, status: int
) -> None:
    """Budget-Max-Cost refuses what may cost more, before anything is held."""
    answer = await post(gateway, **{"budget-max-cost": ceiling})

    assert answer.status_code == status
    assert upstream.executions == (status == 200)
    if status == 402:
        assert answer.json()["error"] == "per_call_limit_exceeded"
        assert (answer.json()["scope"], answer.json()["requested_cents"]) == ("call", 2)


@pytest.mark.parametrize("ceiling", ["nan", "-1", "1e3", "2,5", "cheap"])
async def test_ceiling_that_is_no_amount(
    gateway: PlaneGateway, upstream: StubUpstream, ceiling: str
) -> None:
    """A Budget-Max-Cost that is no plain amount is 400 and names the header."""
    answer = await post(gateway, **{"budget-max-cost": ceiling})

    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert "Budget-Max-Cost" in answer.json()["detail"]
    assert upstream.executions == 0


class Exposed(NamedTuple):
    """A setting, the key of a caller, the scope of the budget, and whether amounts are told."""

    setting: str
    key: str
    scope: str
    shown: bool


EXPOSED = [
    Exposed("full", AGENT_KEY, "org", True),
    Exposed("own", acme.KEY, "org", True),
    Exposed("own", AGENT_KEY, "org", False),
    Exposed("own", AGENT_KEY, "agent.researcher", True),
    Exposed("none", acme.KEY, "org", False),
    Exposed("none", AGENT_KEY, "agent.researcher", False),
]


@pytest.mark.parametrize("case", EXPOSED)
async def test_amounts_in_headers(
    org: Any, redis_url: str, start: StartPlane, case: Exposed
) -> None:
    """What is left of a budget is told only where GATEWAY_EXPOSE_AMOUNTS allows it."""
    await acme.write_key(org, AGENT_KEY, "k2|active||researcher,writer")
    await acme.set_limits(org, {MONTH: "none", f"{case.scope}.day.limit_cents": "3"})
    gateway = await start(redis_url, expose_amounts=case.setting)

    answer = await post(gateway, case.key)

    assert answer.headers["budget-id"] == f"acme:{case.scope}.day"
    assert answer.headers.get("budget-remaining") == ("1" if case.shown else None)


@pytest.mark.parametrize("case", EXPOSED)
async def test_amounts_in_bodies(
    org: Any, redis_url: str, start: StartPlane, case: Exposed
) -> None:
    """A refusal names its budget always, and its numbers only where that is allowed."""
    await acme.write_key(org, AGENT_KEY, "k2|active||researcher,writer")
    await acme.set_limits(org, {MONTH: "none", f"{case.scope}.day.limit_cents": "1"})
    gateway = await start(redis_url, expose_amounts=case.setting)

    body = (await post(gateway, case.key)).json()

    assert (body["budget_id"], body["requested_cents"]) == (f"acme:{case.scope}.day", 2)
    numbers = {"limit_cents", "credit_cents", "current_usage_cents", "held_cents"}
    assert body.keys() & numbers == (numbers if case.shown else set())


@pytest.mark.parametrize("case", EXPOSED)
async def test_ceiling_in_bodies(
    org: Any, redis_url: str, start: StartPlane, case: Exposed
) -> None:
    """The ceiling of one call is an amount like any other."""
    await acme.write_key(org, AGENT_KEY, "k2|active||researcher,writer")
    await acme.set_limits(org, {f"{case.scope}.per_call_cents": "1"})
    gateway = await start(redis_url, expose_amounts=case.setting)

    body = (await post(gateway, case.key)).json()

    assert (body["error"], body["scope"]) == ("per_call_limit_exceeded", case.scope)
    assert ("limit_cents" in body) == case.shown
