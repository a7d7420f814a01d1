"""Every refusal has the status and word of the contract, costs nothing and reaches no upstream."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import httpx
import pytest

from gateway.proxy.reservations import Reservation
from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream

GENERIC, OPENAI, ANTHROPIC = "invoke", "v1/chat/completions", "v1/messages"
PATHS = (GENERIC, OPENAI, ANTHROPIC)
DAY = "org.day.limit_cents"
MONTH = "org.month.limit_cents"
UNAUTHENTICATED = (401, "unauthenticated")
NOT_ALLOWED = (403, "agent_not_allowed")


class Case(NamedTuple):
    """Limits, and what a call at 2 cents is told under them."""

    limits: Mapping[str, str]
    status: int
    error: str


REFUSED = [
    Case({MONTH: "1.999999"}, 402, "budget_exceeded"),
    Case({"agent.researcher.total.limit_cents": "0"}, 402, "budget_exceeded"),
    Case({"agent.*.day.limit_cents": "1"}, 402, "budget_exceeded"),
    Case({"org.per_call_cents": "1"}, 402, "per_call_limit_exceeded"),
    Case({"agent.researcher.per_call_cents": "0"}, 402, "per_call_limit_exceeded"),
    Case({"org.rpm": "0"}, 429, "rate_limited"),
    Case({"agent.*.concurrency": "0"}, 429, "concurrency_limited"),
    Case({"status": "frozen"}, 403, "frozen"),
    Case({"agent.researcher.status": "frozen"}, 403, "frozen"),
    Case({"timezone": "Nowhere/Else"}, 503, "limits_invalid"),
    Case({"org.fortnight.limit_cents": "5", MONTH: "nan"}, 503, "limits_invalid"),
]


async def post(gateway: PlaneGateway, path: str = GENERIC, **sent: Any) -> httpx.Response:
    """Make one call of the researcher."""
    async with gateway.client() as client:
        return await client.post(f"/agents/researcher/{path}", **({"json": {}} | sent))


def error_of(answer: httpx.Response) -> str:
    """Return the word of a refusal, in whichever dialect it came."""
    body = answer.json()
    members = body["error"].get("data", body["error"]) if "jsonrpc" in body else body
    error = members["error"]
    word = error if isinstance(error, str) else error.get("code") or error["error"]
    return str(word)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("case", REFUSED, ids=lambda case: "-".join(case.limits))
async def test_limits_refuse(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, case: Case, path: str
) -> None:
    """What the limits do not allow is refused in the words of each SDK, and costs nothing."""
    await acme.set_limits(org, case.limits)

    answer = await post(gateway, path)

    assert (answer.status_code, error_of(answer)) == (case.status, case.error)
    assert answer.headers["budget-source"] == "gateway"
    assert answer.headers["x-request-id"] == answer.headers["request-id"]
    assert answer.headers.get("x-should-retry") == ("false" if case.status == 402 else None)
    if case.status in (429, 503):
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    else:
        assert "retry-after" not in answer.headers
    assert upstream.executions == 0
    assert await acme.counters(org) == {}
    assert gateway.value("calls_total", end=case.error) == 1


async def test_frozen_by_billing(gateway: PlaneGateway, org: Any, upstream: StubUpstream) -> None:
    """An org that billing has frozen is refused as one that operators have."""
    await org.hset(f"bg:{{{acme.ORG}}}:meta", "billing_status", "frozen")

    answer = await post(gateway)

    assert (answer.status_code, error_of(answer)) == (403, "frozen")
    assert answer.json()["scope"] == "billing"
    assert upstream.executions == 0


async def test_full_budget_is_told_exactly(gateway: PlaneGateway, org: Any) -> None:
    """A refusal names the budget, what it has and when it resets."""
    await acme.set_limits(org, {DAY: "3", MONTH: "none"})
    await post(gateway)
    await gateway.settled()

    body = (await post(gateway)).json()

    assert body["resets_at"].endswith("T00:00:00Z")
    told = {name: body[name] for name in body if name.endswith(("_cents", "_id", "scope"))}
    assert told | {"request_id": ""} == {
        "budget_id": "acme:org.day",
        "scope": "org",
        "limit_cents": 3,
        "credit_cents": 0,
        "current_usage_cents": 2,
        "held_cents": 0,
        "requested_cents": 2,
        "request_id": "",
    }


async def test_openai_dialect(gateway: PlaneGateway, org: Any) -> None:
    """OpenAI's SDKs find their error object, everybody else the members beside it."""
    await acme.set_limits(org, {MONTH: "0"})

    body = (await post(gateway, OPENAI)).json()

    assert body["error"]["code"] == body["error"]["type"] == "budget_exceeded"
    assert (body["error"]["message"], body["error"]["param"]) == (body["detail"], None)
    assert (body["budget_id"], body["limit_cents"]) == ("acme:org.month", 0)


async def test_anthropic_dialect(gateway: PlaneGateway, org: Any) -> None:
    """Anthropic's SDKs find a billing_error with the members inside."""
    await acme.set_limits(org, {MONTH: "0"})

    body = (await post(gateway, ANTHROPIC)).json()

    assert (body["type"], body["error"]["type"]) == ("error", "billing_error")
    assert body["error"]["budget_id"] == "acme:org.month"


@pytest.mark.parametrize("path", PATHS)
async def test_rpc_request_is_refused_as_rpc(gateway: PlaneGateway, org: Any, path: str) -> None:
    """A JSON-RPC request is answered by a JSON-RPC error, whatever its path looks like."""
    await acme.set_limits(org, {MONTH: "0"})

    answer = await post(gateway, path, json={"jsonrpc": "2.0", "id": 7, "method": "tools/call"})

    body = answer.json()
    assert answer.status_code == 402
    assert (body["jsonrpc"], body["id"], body["error"]["code"]) == ("2.0", 7, 402)
    assert body["error"]["data"]["error"] == "budget_exceeded"


async def test_dialect_of_the_agent_wins_over_the_path(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """An agent that names its dialect is answered in it on every path."""
    price = {"mode": "flat", "cents": "2"}
    await acme.write_agent(org, "researcher", upstream.url, price, dialect="anthropic")
    await acme.set_limits(org, {MONTH: "0"})

    assert (await post(gateway, OPENAI)).json()["type"] == "error"


@pytest.mark.parametrize(
    ("key", "record", "told"),
    [
        ("", None, UNAUTHENTICATED),
        ("sk-openai", None, UNAUTHENTICATED),
        ("bgk_acme_k1", None, UNAUTHENTICATED),
        ("bgk_nobody_k1_secret", None, UNAUTHENTICATED),
        ("bgk_acme_k2_secret", None, UNAUTHENTICATED),
        ("bgk_acme_k2_secret", "k2|revoked||*", UNAUTHENTICATED),
        ("bgk_acme_k2_secret", "k2|active|1000|*", UNAUTHENTICATED),
        ("bgk_acme_k2_secret", "k2|active||writer", NOT_ALLOWED),
        ("bgk_acme_k2_secret", "k2|active||researchers,re", NOT_ALLOWED),
    ],
)
async def test_keys_that_may_not(
    gateway: PlaneGateway,
    org: Any,
    upstream: StubUpstream,
    key: str,
    record: str | None,
    told: tuple[int, str],
) -> None:
    """A key that is none, unknown, revoked, expired or for other agents is refused at once."""
    if record is not None:
        await acme.write_key(org, key, record)

    async with gateway.client(key) as client:
        answer = await client.post("/agents/researcher/invoke", json={})

    assert (answer.status_code, answer.json()["error"]) == told
    assert ("www-authenticate" in answer.headers) == (told == UNAUTHENTICATED)
    assert upstream.executions == 0


async def test_revoked_key_is_refused_on_the_next_request(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """Nothing of a key is remembered: a revocation counts at once."""
    async with gateway.client() as client:
        before = await client.post("/agents/researcher/invoke", json={})
        await acme.write_key(org, acme.KEY, "k1|revoked||*")
        after = await client.post("/agents/researcher/invoke", json={})

    assert (before.status_code, after.status_code, upstream.executions) == (200, 401, 1)


@pytest.mark.parametrize("agent", ["nobody", "", "with%20blank", "a" * 49, "a.b", "re%73earcher"])
async def test_unknown_agent(gateway: PlaneGateway, agent: str) -> None:
    """An agent that the org does not have is 404 for who has a key and 401 for all others."""
    async with gateway.client() as client, gateway.client("bgk_acme_k9_x") as stranger:
        known = await client.post(f"/agents/{agent}/invoke", json={})
        unknown = await stranger.post(f"/agents/{agent}/invoke", json={})

    assert (known.status_code, known.json()["error"]) == (404, "unknown_agent")
    assert (unknown.status_code, unknown.json()["error"]) == (401, "unauthenticated")


async def test_key_of_one_agent_cannot_probe_for_others(gateway: PlaneGateway, org: Any) -> None:
    """A key for one agent is told the same of agents that exist and of those that do not."""
    await acme.write_key(org, "bgk_acme_k2_secret", "k2|active||researcher")
    await acme.write_agent(org, "writer", "http://127.0.0.1:9", {"mode": "flat", "cents": "1"})

    async with gateway.client("bgk_acme_k2_secret") as client:
        answers = [await client.post(f"/agents/{name}/x") for name in ("writer", "nobody")]

    assert [answer.json()["error"] for answer in answers] == ["agent_not_allowed"] * 2


async def test_budget_full_of_holds_may_be_tried_again(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A budget that is full only of running calls is 429, and has room when they have failed."""
    await acme.set_limits(org, {MONTH: "3"})
    held = await gateway.plane.reservations.reserve(acme.ask(2_000_000), acme.CALLER)

    assert isinstance(held, Reservation)
    answer = await post(gateway)
    held.release()
    await gateway.settled()

    assert (answer.status_code, answer.json()["error"]) == (429, "budget_held")
    assert (answer.headers["retry-after"], answer.json()["retryable"]) == ("1", True)
    assert (answer.json()["held_cents"], upstream.executions) == (2, 0)
    assert (await post(gateway)).status_code == 200


async def test_agent_that_cannot_be_used(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A broken description refuses, and what stands in it is told to nobody."""
    price = {"mode": "flat", "cents": "2"}
    missing = {"authorization": "env:GATEWAY_CREDENTIAL_MISSING"}
    await acme.write_agent(org, "researcher", upstream.url, price, headers=missing)

    answer = await post(gateway)

    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert "CREDENTIAL" not in answer.text
    assert upstream.executions == 0


async def test_store_without_marker_admits_nothing(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """An emptied Redis is not ready, also where the gateway has not noticed it by itself yet."""
    await org.flushall()

    answer = await post(gateway)

    assert (answer.status_code, answer.json()["error"]) == (503, "store_not_ready")
    assert answer.headers["retry-after"] == "1"
    assert upstream.executions == 0


async def test_clocks_too_far_apart_admit_nothing(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A Redis whose clock has jumped back by more than five minutes admits nothing."""
    seconds, _ = await org.time()
    await org.hset(f"bg:{{{acme.ORG}}}:meta", "now", (seconds + 400) * 1000)

    answer = await post(gateway)

    assert (answer.status_code, answer.json()["error"]) == (503, "clock_skew")
    assert upstream.executions == 0


async def test_full_journal_admits_nothing(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane
) -> None:
    """Where nobody books what was spent, nothing more is spent."""
    gateway = await start(redis_url, journal_entries_max=1)
    first = await post(gateway)
    await gateway.settled()

    second = await post(gateway)

    assert (first.status_code, second.status_code) == (200, 503)
    assert (second.json()["error"], upstream.executions) == ("journal_full", 1)


async def test_draining_gateway_takes_no_call(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """A gateway that stops refuses new calls, closes their connection and is not ready."""
    gateway.plane.app.draining = True

    answer = await post(gateway)
    async with gateway.client() as client:
        ready, alive = await client.get("/readyz"), await client.get("/livez")

    assert (answer.status_code, answer.json()["error"]) == (503, "draining")
    assert (answer.headers["connection"], answer.headers["retry-after"]) == ("close", "1")
    assert (ready.status_code, alive.status_code, upstream.executions) == (503, 200, 0)


@pytest.mark.parametrize(
    ("method", "path", "status", "error"),
    [
        ("GET", "/", 404, "not_found"),
        ("POST", "/agents", 404, "not_found"),
        ("GET", "/agent/researcher", 404, "not_found"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("DELETE", "/readyz", 405, "method_not_allowed"),
    ],
)
async def test_other_paths(
    gateway: PlaneGateway, method: str, path: str, status: int, error: str
) -> None:
    """What is no call of an agent is refused in the same form."""
    async with gateway.client(key="") as client:
        answer = await client.request(method, path)

    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["budget-source"] == "gateway"
    assert answer.headers["content-type"] == "application/problem+json"
    # RFC 9110 15.5.6.
    assert ("GET" in answer.headers.get("allow", "")) == (status == 405)


async def test_credentials_are_not_traced(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """TRACE is not passed on: its answer would be the request with the operator's own key."""
    async with gateway.client() as client:
        answer = await client.request("TRACE", "/agents/researcher/x")

    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert "POST" in answer.headers["allow"]
    assert upstream.connections == 0
