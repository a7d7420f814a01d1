"""Two orgs on one gateway: nothing that one sends reads or changes anything of the other.

T1 no sequence of requests with keys of one org changes a byte of another, or is heard upstream
T2 no answer holds anything of another org
T3 no key reaches an agent outside its list, under whatever path
T4 whatever the path, an upstream hears it below its own base

The org that watches is named so that keys of both begin alike: `bgk_acme_k1_...`.
`GATEWAY_TEST_FUZZ=50 pytest tests/proxy/test_tenants.py` searches for longer.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.budgets.address import read_address
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Held
from gateway.proxy.ids import new_id
from tests.fuzzing import examples
from tests.proxy.gateways import PlaneGateway, plane_gateway
from tests.proxy.wire import request, wire
from tests.stub_upstream import StubUpstream, stub_upstream
from tests.upstream_answers import json_answer

OWN, OTHER = "acme", "acme_k1"
AGENTS = ("researcher", "writer")
ONE, ALL = f"bgk_{OWN}_k1_secret", f"bgk_{OWN}_k2_secret"
THEIRS = f"bgk_{OTHER}_k1_secret"
CANARY = "canary-of-the-other"
SAME = "order-1"


class Tenants(NamedTuple):
    """What the tests look at: the gateway, its Redis, each agent's upstream, an open hold."""

    gateway: PlaneGateway
    redis: Any
    upstreams: dict[tuple[str, str], StubUpstream]
    their_hold: str

    async def of_the_other(self) -> dict[str, Any]:
        """Return all that Redis has of the other org, and what its upstreams heard."""
        found: dict[str, Any] = {}
        for key in await self.redis.keys("*"):
            if f"{{{OTHER}}}" in key:
                found[key] = await self.redis.dump(key)
        due = await self.redis.zrange("bg:expiry", 0, -1, withscores=True)
        found["due"] = [pair for pair in due if not pair[0].startswith(f"{OWN}|")]
        entries = await self.redis.xrange("bg:journal")
        found["journal"] = [entry for entry in entries if entry[1]["org"] != OWN]
        found["keys"] = {
            key
            for key in await self.redis.keys("*")
            if f"{{{OWN}}}" not in key and key not in ("bg:expiry", "bg:journal")
        }
        found["heard"] = [self.upstreams[OTHER, agent].executions for agent in AGENTS]
        return found


async def _write_org(redis: Any, org: str, upstreams: dict[tuple[str, str], StubUpstream]) -> None:
    limits = {"status": "active", "org.month.limit_cents": "777777"}
    await redis.hset(f"bg:{{{org}}}:limits", mapping=limits)
    await redis.hset(f"bg:{{{org}}}:meta", "schema", "1")
    for agent in AGENTS:
        described = {
            "upstream": f"{upstreams[org, agent].url}/base/{org}/{agent}",
            "price": {"mode": "flat", "cents": "2"},
            "headers": {"x-credential": f"{CANARY}-{org}"},
        }
        await redis.hset(f"bg:{{{org}}}:agents", agent, orjson.dumps(described).decode())


async def _write_key(redis: Any, org: str, key: str, record: str) -> None:
    await redis.hset(f"bg:{{{org}}}:keys", hashlib.sha256(key.encode()).hexdigest(), record)


async def _hold_of_the_other(redis_url: str) -> str:
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, 2_000)
    await connection.start()
    await connection.tried()
    digest = hashlib.sha256(THEIRS.encode()).hexdigest()
    ask = Ask(new_id(), OTHER, "writer", 5, digest, ttl_ms=600_000)
    held = await Budgets(connection, scripts, 600_000, 1_000_000).reserve(ask)
    await connection.close()
    assert isinstance(held, Held)
    return ask.id


@asynccontextmanager
async def _tenants(redis: Any, redis_url: str, folder: Path) -> AsyncIterator[Tenants]:
    async with AsyncExitStack() as stack:
        upstreams = {
            (org, agent): await stack.enter_async_context(stub_upstream())
            for org in (OWN, OTHER)
            for agent in AGENTS
        }
        for (org, agent), upstream in upstreams.items():
            told = f"{CANARY}-{org}" if org == OTHER else agent
            upstream.answers(json_answer({"told": told}))
        for org in (OWN, OTHER):
            await _write_org(redis, org, upstreams)
        await _write_key(redis, OWN, ONE, "k1|active||researcher")
        await _write_key(redis, OWN, ALL, "k2|active||*")
        await _write_key(redis, OTHER, THEIRS, "k1|active||*")
        hold = await _hold_of_the_other(redis_url)
        gateway = await stack.enter_async_context(plane_gateway(redis_url, folder))
        async with gateway.client(THEIRS) as client:
            headers = {"idempotency-key": SAME}
            first = await client.post("/agents/writer/invoke", content=b"a", headers=headers)
            assert first.json() == {"told": f"{CANARY}-{OTHER}"}
        await gateway.settled()
        yield Tenants(gateway, redis, upstreams, hold)


@pytest.fixture
async def tenants(redis: Any, redis_url: str, tmp_path: Path) -> AsyncIterator[Tenants]:
    """Yield the two orgs; the other has made one call, and has one hold open."""
    async with _tenants(redis, redis_url, tmp_path) as both:
        yield both
        assert both.gateway.value("faults_total") == 0


_SEGMENTS = [
    *AGENTS,
    "researcher/invoke",
    "writer/invoke",
    "researcher/../writer/invoke",
    "researcher/%2e%2e/writer/invoke",
    "researcher/..%2fwriter/invoke",
    "researcher%2f..%2fwriter/invoke",
    "researcher/..%5cwriter",
    "researcher/.%2e/.%2E/agents/writer/invoke",
    "researcher/agents/writer/invoke",
    "researcher//writer/invoke",
    "/writer/invoke",
    "./writer/invoke",
    "../agents/writer/invoke",
    "%77riter/invoke",
    "Writer/invoke",
    "writer%00/invoke",
    "writer%20/invoke",
    "writer;researcher/invoke",
    "researcher,writer/invoke",
    "researcher?/writer/invoke",
    "researcher%3f/../writer",
    "w\xc3\xadriter/invoke",
    "*/invoke",
    "-/invoke",
    f"{OTHER}/writer/invoke",
    f"{OTHER}%7cwriter/invoke",
    f"}}:x{{{OTHER}/invoke",
    "researcher/%252e%252e/writer/invoke",
    "researcher/http://127.0.0.1:1/",
    "researcher/@127.0.0.1:1/",
    "researcher/\\..\\writer",
]
_PREFIXES = ["/agents/", "/agents/", "/agents/", "//agents/", "/Agents/", "/v1/../agents/"]
_PREFIXES += ["http://gateway/agents/", "/v1/reservations/", "/v1/requests/", "/agents/../agents/"]
_KEYS = [ONE, ONE, ALL, f"bgk_{OTHER}_k1_guess", f"bgk_{OWN}_k1_k2_secret", "", "bgk_acme__secret"]
_LINES = [
    f"Host: {OTHER}.test",
    f"X-Forwarded-Host: {OTHER}",
    f"Budget-Org: {OTHER}",
    "Budget-Agent: writer",
    "Budget-Request-Id: HOLD",
    "Budget-Id: HOLD",
    "X-Request-Id: HOLD",
    f"Budget-Tags: {OTHER}",
    "Budget-Max-Cost: 1",
    "Budget-Cost: 0",
    "X-LiteLLM-Response-Cost: 0",
    f"Idempotency-Key: {SAME}",
    f"Idempotency-Key: {SAME}",
    f"X-Api-Key: bgk_{OTHER}_k1_guess",
    f"Budget-Key: bgk_{OTHER}_k1_guess",
    f"Budget-Key: {ONE}",
    "Connection: x-credential, host",
    "X-Credential: mine",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /agents/writer/invoke",
    "X-Rewrite-URL: /agents/writer/invoke",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Upgrade: h2c",
]


class Sent(NamedTuple):
    """One request: ``lines`` are headers, HOLD in them is the other's open reservation."""

    method: str
    path: str
    key: str
    lines: list[str]

    def data(self, hold: str) -> bytes:
        """Return it as it goes over the wire."""
        body, lines = b"a", [line.replace("HOLD", hold) for line in self.lines]
        if "Transfer-Encoding: chunked" in lines:
            body = b"1\r\na\r\n0\r\n\r\n"
        else:
            lines.append("Content-Length: 1")
        path = self.path.replace("HOLD", hold)
        return request(path, *lines, method=self.method, key=self.key) + body


_PATHS = st.builds(
    lambda prefix, rest: prefix + rest, *map(st.sampled_from, (_PREFIXES, _SEGMENTS))
)
_REQUESTS = st.builds(
    Sent,
    st.sampled_from(
        ["POST", "POST", "GET", "DELETE", "HEAD", "OPTIONS", "PUT", "TRACE", "CONNECT"]
    ),
    st.one_of(
        _PATHS,
        _PATHS,
        st.sampled_from(["/v1/requests/HOLD", "/v1/reservations/HOLD/settle", "/v1/budgets", "*"]),
        st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=12).map(
            lambda text: f"/agents/{text}"
        ),
    ),
    st.sampled_from(_KEYS),
    st.lists(st.sampled_from(_LINES), max_size=4, unique=True),
)


async def _exchanged(tenants: Tenants, sent: Sent) -> bytes:
    """Send one request on a connection of its own; return all that came back until it closed."""
    async with wire(tenants.gateway.port) as line:
        await line.send(sent.data(tenants.their_hold))
        # The gateway closes behind this one, whatever it made of the first.
        await line.send(b"GET /livez HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
        with suppress(ConnectionError):
            return await line.rest()
        return b""


def _used(sent: Sent) -> str:
    """Return the key that counts: Budget-Key before all, then x-api-key and Authorization."""
    for line in sent.lines:
        if line.startswith("Budget-Key: "):
            return line.partition(": ")[2]
    return sent.key


def _looked_at(tenants: Tenants, sent: Sent, answer: bytes) -> None:
    told = answer.lower()
    # A refusal repeats the path, and so an id that stood in it.
    ids = [] if "HOLD" in sent.path else [tenants.their_hold]
    for secret in (f"{CANARY}-{OTHER}", "777777", *ids):
        assert secret.lower().encode() not in told, sent
    for agent in AGENTS:
        assert b":%d" % tenants.upstreams[OTHER, agent].port not in told, sent


def _heard_soundly(tenants: Tenants) -> None:
    for (org, agent), upstream in tenants.upstreams.items():
        for received in upstream.requests:
            assert received.path.startswith(f"/base/{org}/{agent}/".encode()), received
            place = unquote_to_bytes(received.path.partition(b"?")[0])
            assert not {b".", b".."} & set(place.split(b"/")), received
            assert received.header(b"x-credential") == f"{CANARY}-{org}".encode()
            assert received.header(b"host") == f"127.0.0.1:{upstream.port}".encode()


@examples(60)
@given(requests=st.lists(_REQUESTS, min_size=1, max_size=5))
@example([Sent("POST", "/agents/writer/invoke", ONE, [])])
@example([Sent("POST", "/agents/writer/invoke", ALL, [f"Idempotency-Key: {SAME}"])])
@example([Sent("POST", "/agents/researcher/../writer/invoke", ONE, [])])
@example([Sent("POST", "/agents/researcher/x", f"bgk_{OWN}_k1_k2_secret", [])])
async def test_nobody_else_is_touched(tenants: Tenants, requests: list[Sent]) -> None:
    """T1 T2 T3 T4: the other org is the same to the byte, and an answer tells nothing of it."""
    writer = tenants.upstreams[OWN, "writer"]
    for sent in requests:
        before, written = await tenants.of_the_other(), writer.executions

        answer = await _exchanged(tenants, sent)
        await tenants.gateway.settled()

        assert await tenants.of_the_other() == before, sent
        _looked_at(tenants, sent, answer)
        if _used(sent) != ALL:
            assert writer.executions == written, sent
    _heard_soundly(tenants)


async def test_own_calls_do_run(tenants: Tenants) -> None:
    """T3: with the same keys and the same idempotency key, what is allowed is done and booked."""
    async with tenants.gateway.client(ONE) as one, tenants.gateway.client(ALL) as every:
        same = {"idempotency-key": SAME}
        answers = [
            await one.post("/agents/researcher/invoke", content=b"a", headers=same),
            await every.post("/agents/writer/invoke", content=b"a", headers=same),
            await one.post("/agents/writer/invoke", content=b"a", headers=same),
        ]
    await tenants.gateway.settled()

    entries = [fields for _, fields in await tenants.redis.xrange("bg:journal")]
    booked = [(entry["org"], entry["agent"]) for entry in entries if entry["org"] == OWN]
    assert [answer.status_code for answer in answers] == [200, 200, 403]
    assert answers[2].json()["error"] == "agent_not_allowed"
    assert booked == [(OWN, "researcher"), (OWN, "writer")]


async def test_sequences_at_once_stay_apart(tenants: Tenants) -> None:
    """T1: calls of both orgs to agents of one name, all at once, are heard and booked as sent."""
    keys = {OWN: ALL, OTHER: THEIRS}
    before = {place: upstream.executions for place, upstream in tenants.upstreams.items()}

    async def calls(org: str) -> None:
        async with tenants.gateway.client(keys[org]) as client:
            sent = [client.post(f"/agents/{AGENTS[n % 2]}/{n}", content=b"a") for n in range(20)]
            for answer in await asyncio.gather(*sent):
                assert answer.headers["budget-id"] == f"{org}:org.month"

    await asyncio.gather(*(calls(org) for org in keys))
    await tenants.gateway.settled()

    for place, upstream in tenants.upstreams.items():
        assert upstream.executions - before[place] == 10
    for org in keys:
        counted = await tenants.redis.hget(f"bg:{{{org}}}:spend:total", "org.spent")
        assert int(counted) == (20 + (org == OTHER)) * 2_000_000
    _heard_soundly(tenants)
