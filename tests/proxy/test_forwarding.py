"""A request reaches its upstream as it was sent, but for what belongs to the gateway."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway, plane_gateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import Received, StubUpstream

FLAT = {"mode": "flat", "cents": "2"}


async def received(gateway: PlaneGateway, upstream: StubUpstream, *headers: str) -> Received:
    """Post one request with these header lines; return what came out at the other side."""
    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/invoke", "Content-Length: 2", *headers))
        await caller.send(b"{}")
        await caller.until(b'{"ok":true}')
    return upstream.requests[-1]


async def test_headers_keep_values_order_and_duplicates(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Headers that are nobody's business but the upstream's arrive as they were sent."""
    lines = ["X-B: 2", "X-A: 1 ,  2", "X-B: 3", "Cookie: a=b", "User-Agent: \u00fc", "X-Empty:"]

    got = await received(gateway, upstream, *lines)

    passed = [header for header in got.headers if header[0].startswith((b"x-", b"c", b"u"))]
    assert passed == [
        (b"x-b", b"2"),
        (b"x-a", b"1 ,  2"),
        (b"x-b", b"3"),
        (b"cookie", b"a=b"),
        (b"user-agent", b"\xfc"),
        (b"x-empty", b""),
        (b"content-length", b"2"),
    ]


async def test_upstream_sees_its_own_host_and_who_came_between(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """Host is the upstream's, Via names the gateway, and nothing tells of the caller's address."""
    got = await received(gateway, upstream, "Via: 1.1 edge")

    assert got.header(b"host") == f"127.0.0.1:{upstream.port}".encode()
    assert [v for n, v in got.headers if n == b"via"] == [b"1.1 edge", b"1.1 budget-gateway"]
    assert [n for n, _ in got.headers if n.startswith((b"x-forwarded", b"forwarded"))] == []


async def test_hop_by_hop_headers_stay_behind(
    gateway: PlaneGateway, upstream: StubUpstream
) -> None:
    """What belongs to the caller's connection is dropped, also what Connection names."""
    got = await received(
        gateway,
        upstream,
        "Connection: keep-alive, X-Secret",
        "Keep-Alive: timeout=5",
        "X-Secret: 1",
        "TE: trailers",
        "Proxy-Authorization: Basic eA==",
        "Expect: 100-continue",
        "X-Kept: 1",
    )

    assert {name for name, _ in got.headers} == {b"host", b"x-kept", b"via", b"content-length"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["Authorization: Bearer {key}"], []),
        (["Authorization: bearer {key}", "X-Api-Key: sk-1"], [(b"x-api-key", b"sk-1")]),
        (
            ["X-Api-Key: {key}", "Authorization: Bearer sk-1"],
            [(b"authorization", b"Bearer sk-1")],
        ),
        (
            ["Budget-Key: {key}", "Authorization: Bearer sk-1", "X-Api-Key: sk-2"],
            [(b"authorization", b"Bearer sk-1"), (b"x-api-key", b"sk-2")],
        ),
        (
            ["Budget-Key: {key}", "Authorization: Bearer bgk_other_k1_secret"],
            [(b"authorization", b"Bearer bgk_other_k1_secret")],
        ),
        (["Budget-Max-Cost: 5", "Budget-Tags: a", "Budget-Anything: 1", "Budget-Key: {key}"], []),
        (
            ["X-Litellm-Response-Cost: 0", "X-Litellm-Tags: t", "Budget-Key: {key}"],
            [(b"x-litellm-tags", b"t")],
        ),
    ],
)
async def test_our_key_is_taken_out_and_others_pass(
    gateway: PlaneGateway,
    upstream: StubUpstream,
    lines: list[str],
    expected: list[tuple[bytes, bytes]],
) -> None:
    """The key of the gateway never reaches an upstream, every other secret does."""
    told = [line.format(key=acme.KEY) for line in lines]

    async with wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/x", "Content-Length: 0", *told, key=""))
        await caller.until(b"\r\n\r\n")

    framing = (b"host", b"via", b"content-length")
    assert [h for h in upstream.requests[0].headers if h[0] not in framing] == expected


async def test_configured_headers_replace_the_callers(
    org: Any, upstream: StubUpstream, redis_url: str, tmp_path: Path
) -> None:
    """The operator's literals, variables and files win over the headers of the caller."""
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / "token").write_text("from-file\n")
    headers = {
        "authorization": "env:GATEWAY_CREDENTIAL_OPENAI",
        "X-File": "file:token",
        "x-literal": "plain",
    }
    await acme.write_agent(org, "researcher", upstream.url, FLAT, headers=headers)
    environ = {"GATEWAY_CREDENTIAL_OPENAI": "Bearer sk-real"}
    sent = ["Authorization: Bearer sk-caller", "X-File: no", f"Budget-Key: {acme.KEY}", "X-Own: 1"]

    async with plane_gateway(redis_url, tmp_path, environ) as gateway, wire(gateway.port) as caller:
        await caller.send(request("/agents/researcher/x", "Content-Length: 0", *sent, key=""))
        await caller.until(b"\r\n\r\n")

    got = upstream.requests[0]
    assert [v for n, v in got.headers if n == b"authorization"] == [b"Bearer sk-real"]
    assert [v for n, v in got.headers if n == b"x-file"] == [b"from-file"]
    assert (got.header(b"x-literal"), got.header(b"x-own")) == (b"plain", b"1")


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("", "/agents/researcher/v1/a%20b?q=%2F&q=2", b"/v1/a%20b?q=%2F&q=2"),
        ("", "/agents/researcher", b"/"),
        ("", "/agents/researcher?q=1", b"/?q=1"),
        ("/base", "/agents/researcher/invoke", b"/base/invoke"),
        ("/base/", "/agents/researcher//twice", b"/base//twice"),
        ("", "/agents/researcher/a%2Fb;v=1/", b"/a%2Fb;v=1/"),
        ("", "/agents/researcher/.hidden/..a/b..", b"/.hidden/..a/b.."),
    ],
)
async def test_path_passes_as_it_was_sent(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, base: str, path: str, expected: bytes
) -> None:
    """Path and query go below the agent's upstream without being decoded."""
    await acme.write_agent(org, "researcher", upstream.url + base, FLAT)

    async with wire(gateway.port) as caller:
        await caller.send(request(path, "Content-Length: 0"))
        assert b" 200 " in await caller.until(b"\r\n")

    assert upstream.requests[0].path == expected


@pytest.mark.parametrize(
    "path",
    [
        "/agents/researcher/../admin",
        "/agents/researcher/a/./b",
        "/agents/researcher/%2e%2e/admin",
        "/agents/researcher/a/%2E./b",
        "/agents/researcher/a%2f..%2fb",
        "/agents/researcher/..;/b",
        "/agents/researcher/a\\..\\b",
        "/agents/researcher/..",
    ],
)
async def test_path_that_escapes_is_refused(
    gateway: PlaneGateway, upstream: StubUpstream, path: str
) -> None:
    """A path with dot segments, however they are written, is 400 and reaches no upstream."""
    async with wire(gateway.port) as caller:
        await caller.send(request(path, "Content-Length: 0", "Connection: close"))
        answer = await caller.rest()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"error":"bad_request"' in answer
    assert upstream.executions == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE"])
async def test_methods_that_read_cost_nothing(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, method: str
) -> None:
    """GET, HEAD, OPTIONS and DELETE quote zero, and are forwarded even by a spent budget."""
    await acme.set_limits(org, {"org.month.limit_cents": "0"})

    async with gateway.client() as client:
        answer = await client.request(method, "/agents/researcher/files")
    await gateway.settled()

    assert (answer.status_code, answer.headers["budget-cost"]) == (200, "0")
    assert upstream.requests[0].method == method.encode()
    assert upstream.requests[0].header(b"content-length") is None
    assert await acme.counters(org) == {}


async def test_methods_that_read_still_need_a_key(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """What costs nothing is still refused to who has no key, and counts in the rate."""
    await acme.set_limits(org, {"org.rpm": "1"})

    async with gateway.client() as client, gateway.client(key="") as nobody:
        refused = await nobody.get("/agents/researcher/files")
        answers = [await client.get("/agents/researcher/files") for _ in range(2)]

    assert refused.status_code == 401
    assert [answer.status_code for answer in answers] == [200, 429]
    assert upstream.executions == 1


@pytest.mark.parametrize("method", ["PUT", "PATCH", "POST", "REPORT"])
async def test_methods_that_act_are_priced(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream, method: str
) -> None:
    """Every other method costs what a call costs."""
    async with gateway.client() as client:
        await client.request(method, "/agents/researcher/x", content=b"body")
    await gateway.settled()

    assert upstream.requests[0].method == method.encode()
    assert (await acme.counters(org))["org.spent"] == 2_000_000


async def test_metered_agents_are_asked_for_plain_answers(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """Where the answer must be read, no content coding is offered to the upstream."""
    price = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(org, "researcher", upstream.url, price)

    async with gateway.client(**{"accept-encoding": "gzip, br"}) as client:
        await client.post("/agents/researcher/x")

    assert [v for n, v in upstream.requests[0].headers if n == b"accept-encoding"] == [b"identity"]


@pytest.mark.parametrize("make", [lambda: b"", lambda: b"\x00\xff" * 40_000], ids=["none", "large"])
async def test_body_passes_unchanged(
    gateway: PlaneGateway, upstream: StubUpstream, make: Callable[[], bytes]
) -> None:
    """A body of any size arrives byte by byte, under the length that it has."""
    body = make()

    async with gateway.client() as client:
        await client.post("/agents/researcher/x", content=body)

    assert upstream.requests[0].body == body
    assert upstream.requests[0].header(b"content-length") == str(len(body)).encode()


async def test_trusted_network_needs_no_key(
    org: Any, redis_url: str, upstream: StubUpstream, start: StartPlane
) -> None:
    """With GATEWAY_AUTH=none every call is the org's, and the caller's own secrets pass."""
    gateway = await start(redis_url, auth="none", org=acme.ORG)

    async with gateway.client(key="", authorization="Bearer sk-1") as client:
        answer = await client.post("/agents/researcher/invoke", json={})
        unknown = await client.post("/agents/nobody/invoke", json={})
    await gateway.settled()

    assert (answer.status_code, answer.headers["budget-remaining"]) == (200, "998")
    assert upstream.requests[0].header(b"authorization") == b"Bearer sk-1"
    assert unknown.json()["error"] == "unknown_agent"
    assert (await acme.counters(org))["org.spent"] == 2_000_000
