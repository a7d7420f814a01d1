"""Two orgs on one gateway: what the routes below ``/v1`` read and change.

V1 no sequence of requests with keys of one org changes a byte of another
V2 no answer tells anything of another org, nor of an agent that the key is not for
V3 the verbs reach only reservations with owner ``api`` of agents that the key is for
V4 whatever is not reached is answered like an id that does not exist

Both orgs have the same agents and key ids. Each has open holds of callers, and one call that the
proxy runs. `GATEWAY_TEST_FUZZ=50 pytest tests/proxy/test_api_tenants.py` searches for longer.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
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
from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway, plane_gateway
from tests.proxy.holding import PLACE, end, reserve, reserved, settled
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import raw_answer

OWN, OTHER = "acme", "acme_k1"
ONE, ALL = f"bgk_{OWN}_k1_secret", f"bgk_{OWN}_k2_secret"
THEIRS, GUESSED = f"bgk_{OTHER}_k1_secret", f"bgk_{OTHER}_k1_guess"
SAME = "order-1"
FRESH = "01JDZZZZZZZZZZZZZZZZZZZZZZ"
# Amounts of the other org: whoever reads one of them has looked into it.
THEIR_CENTS, THEIR_COST = 31.313131, 17.171717
# Which ids a key reaches with the verbs; ``call`` is what the proxy runs.
REACHED = {ONE: {"researcher"}, ALL: {"researcher", "writer"}, GUESSED: set(), "": set()}
IDS = ("researcher", "writer", "call", "their_hold", "their_end", "their_call")


class Tenants(NamedTuple):
    """The gateway, its Redis, and the ids that requests may name."""

    gateway: PlaneGateway
    redis: Any
    clients: dict[str, httpx.AsyncClient]
    budgets: Budgets
    ids: dict[str, str]

    async def renew(self) -> None:
        """Hold anew what a request may have ended."""
        client = self.clients[ALL]
        for agent in ("researcher", "writer"):
            self.ids[agent] = await reserved(client, agent=agent)

    async def out_of_reach(self, key: str) -> dict[str, Any]:
        """Return all that this key must not change, as it is now."""
        shared = ("bg:expiry", "bg:journal")
        names = [
            name
            for name in sorted(await self.redis.keys("*"))
            if f"{{{OWN}}}" not in name and name not in shared
        ]
        async with self.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.dump(name)
            found: dict[str, Any] = dict(zip(names, await pipe.execute(), strict=True))
        due = await self.redis.zrange("bg:expiry", 0, -1, withscores=True)
        entries = [entry for _, entry in await self.redis.xrange("bg:journal")]
        found["due"] = [pair for pair in due if not pair[0].startswith(f"{OWN}|")]
        found["journal"] = [entry for entry in entries if entry["org"] != OWN]
        for name in {"researcher", "writer", "call"} - REACHED[key]:
            found[name] = await self.redis.hget(f"bg:{{{OWN}}}:holds", self.ids[name])
        if key != ALL:
            counted = await self.redis.hgetall(f"bg:{{{OWN}}}:spend:total")
            found["writer"] = [counted.get("agent.writer.held"), counted.get("agent.writer.spent")]
        return found


async def _write_org(redis: Any, org: str, url: str, keys: dict[str, str]) -> None:
    # More than all that is drawn can cost.
    limits = {"status": "active", "org.month.limit_cents": "9000000000"}
    await redis.hset(f"bg:{{{org}}}:limits", mapping=limits)
    await redis.hset(f"bg:{{{org}}}:meta", "schema", "1")
    described = f'{{"upstream":"{url}","price":{{"mode":"flat","cents":"2"}}}}'
    agents = ["researcher", "writer", *(["scribe"] if org == OTHER else [])]
    await redis.hset(f"bg:{{{org}}}:agents", mapping=dict.fromkeys(agents, described))
    digests = {hashlib.sha256(key.encode()).hexdigest(): keys[key] for key in keys}
    await redis.hset(f"bg:{{{org}}}:keys", mapping=digests)


async def _call(budgets: Budgets, org: str) -> str:
    """Hold what the proxy holds for a call that runs."""
    key = ALL if org == OWN else THEIRS
    digest = hashlib.sha256(key.encode()).hexdigest()
    ask = Ask(new_id(), org, "researcher", 5, digest, ttl_ms=600_000)
    assert isinstance(await budgets.reserve(ask), Held)
    return ask.id


@pytest.fixture
async def tenants(
    redis: Any, redis_url: str, tmp_path: Path, upstream: StubUpstream
) -> AsyncIterator[Tenants]:
    """Yield both orgs; the other has one open hold, one settled, one call."""
    keys = {ONE: "k1|active||researcher", ALL: "k2|active||*"}
    await _write_org(redis, OWN, upstream.url, keys)
    await _write_org(redis, OTHER, upstream.url, {THEIRS: "k1|active||*"})
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, 2_000)
    await connection.start()
    await connection.tried()
    budgets = Budgets(connection, scripts, 600_000, 1_000_000)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        gateway = await stack.enter_async_context(plane_gateway(redis_url, tmp_path))
        clients = {
            key: await stack.enter_async_context(gateway.client(key))
            for key in (ONE, ALL, THEIRS, GUESSED, "")
        }
        theirs = clients[THEIRS]
        wish = {"amount_cents": THEIR_CENTS, "headers": {"idempotency-key": SAME}}
        ids = {"their_hold": await reserved(theirs, **wish), "their_end": await reserved(theirs)}
        await settled(theirs, ids["their_end"], THEIR_COST)
        ids |= {"call": await _call(budgets, OWN), "their_call": await _call(budgets, OTHER)}
        yield Tenants(gateway, redis, clients, budgets, ids)
        assert gateway.value("faults_total") == 0


class Asked(NamedTuple):
    """One request; NAME in its path stands for an id."""

    method: str
    path: str
    name: str
    key: str
    body: str
    headers: tuple[tuple[str, str], ...] = ()

    async def send(self, tenants: Tenants, id: str) -> httpx.Response:
        """Send it with this id."""
        client, path = tenants.clients[self.key], self.path.replace("NAME", id)
        body = self.body.replace("NAME", id).encode()
        return await client.request(self.method, path, content=body, headers=list(self.headers))

    @property
    def is_reached(self) -> bool:
        """Whether the id is one that the key may see or end."""
        reached = REACHED[self.key]
        if self.path.startswith("/v1/requests"):
            return self.name in reached or (self.name == "call" and "researcher" in reached)
        return self.name in reached


_BODIES = [
    "",
    "{}",
    '{"cost_cents":3}',
    '{"cost_cents":0}',
    '{"cost_cents":900000}',
    '{"ttl_ms":90000000}',
    '{"amount_cents":50,"ttl_ms":5000}',
    f'{{"cost_cents":3,"org":"{OTHER}"}}',
    '{"agent":"researcher","amount_cents":1}',
    '{"agent":"writer","amount_cents":1}',
    '{"agent":"scribe","amount_cents":1}',
    f'{{"agent":"{OTHER}|writer","amount_cents":1}}',
    '{"agent":"researcher","amount_cents":1,"id":"NAME"}',
]
_PATHS = [f"{PLACE}/NAME/{verb}" for verb in ("settle", "settle", "release", "extend")]
_PLACES = [("POST", path) for path in _PATHS]
_PLACES += [("GET", "/v1/requests/NAME"), ("POST", PLACE), ("GET", f"{PLACE}/NAME/settle")]
_PLACES += [
    ("POST", f"{PLACE}/{OTHER}%7cNAME/settle"),
    ("POST", f"{PLACE}/%2e%2e/{OTHER}/NAME/settle"),
    ("GET", f"/v1/requests/NAME?org={OTHER}"),
]
_HEADERS: list[tuple[tuple[str, str], ...]] = [
    (),
    (),
    (("idempotency-key", SAME),),
    (("budget-org", OTHER),),
    (("x-api-key", GUESSED),),
    (("budget-agent", "writer"),),
    (("host", f"{OTHER}.test"),),
]
_REQUESTS = st.builds(
    lambda place, *rest: Asked(*place, *rest),
    st.sampled_from(_PLACES),
    st.sampled_from(IDS),
    st.sampled_from([ONE, ONE, ALL, GUESSED, ""]),
    st.sampled_from(_BODIES),
    st.sampled_from(_HEADERS),
)


def _told(answer: httpx.Response) -> tuple[object, ...]:
    """Return an answer but for the id and the second of its making."""
    own = {"date", "x-request-id", "request-id"}
    headers = [pair for pair in answer.headers.multi_items() if pair[0] not in own]
    return answer.status_code, headers, answer.json() | {"request_id": ""}


@examples(20)
@given(requests=st.lists(_REQUESTS, min_size=1, max_size=5))
@example([Asked("POST", _PATHS[0], name, ALL, '{"cost_cents":3}') for name in IDS])
@example([Asked("POST", _PATHS[2], name, ALL, "") for name in IDS])
@example([Asked("POST", _PATHS[3], name, ALL, '{"ttl_ms":90000000}') for name in IDS])
@example([Asked("POST", _PATHS[0], name, ONE, '{"cost_cents":3}') for name in IDS])
@example([Asked("POST", _PATHS[0], name, GUESSED, '{"cost_cents":3}') for name in IDS])
@example([Asked("GET", "/v1/requests/NAME", name, GUESSED, "") for name in IDS])
@example([Asked("GET", "/v1/requests/NAME", name, ONE, "") for name in IDS])
@example([Asked("GET", "/v1/requests/NAME", name, ALL, "") for name in IDS])
@example([Asked("POST", PLACE, "call", ONE, body) for body in _BODIES[-5:]])
@example([Asked("POST", PLACE, "call", ALL, _BODIES[8], _HEADERS[2])])
async def test_nothing_else_is_reached(tenants: Tenants, requests: list[Asked]) -> None:
    """V1 V2 V3 V4: all that is out of reach is the same to the byte, and told like nothing."""
    await tenants.renew()
    for asked in requests:
        before, id = await tenants.out_of_reach(asked.key), tenants.ids[asked.name]

        answer = await asked.send(tenants, id)
        await tenants.gateway.settled()

        assert await tenants.out_of_reach(asked.key) == before, asked
        for amount in (THEIR_CENTS, THEIR_COST):
            assert str(amount) not in answer.text, asked
        if not asked.is_reached and "NAME" in asked.path and "%" not in asked.path:
            nothing = await asked.send(tenants, FRESH)
            assert _told(answer) == _told(nothing), asked
            assert answer.status_code >= 400


async def test_own_are_reached(tenants: Tenants) -> None:
    """V3: what the property holds back is only what it should: each key ends its own."""
    await tenants.renew()
    one, every = tenants.clients[ONE], tenants.clients[ALL]

    told = [
        await settled(one, tenants.ids["researcher"], 3),
        await settled(every, tenants.ids["writer"], 4),
        await settled(tenants.clients[THEIRS], tenants.ids["their_hold"], 5),
    ]
    running = (await one.get(f"/v1/requests/{tenants.ids['call']}")).json()

    assert told == [("settled", 3), ("settled", 4), ("settled", 5)]
    assert (running["agent"], running["state"]) == ("researcher", "held")


async def test_key_holds_only_for_its_agents(tenants: Tenants) -> None:
    """V2: 403 whether there is such an agent or not, so that nobody learns which there are."""
    one, every = tenants.clients[ONE], tenants.clients[ALL]

    answers = [await reserve(one, agent=agent) for agent in ("writer", "scribe", "nobody")]
    of_the_other = await reserve(every, agent="scribe")

    assert {_told(answer)[0] for answer in answers} == {403}
    assert len({answer.json()["detail"] for answer in answers}) == 1
    assert (of_the_other.status_code, of_the_other.json()["error"]) == (404, "unknown_agent")


async def test_idempotency_keys_of_two_orgs_are_two(tenants: Tenants) -> None:
    """V1: the same key, agent and wish of another org is no repeat, nor is that of another key."""
    wish = {"amount_cents": THEIR_CENTS, "headers": {"idempotency-key": SAME}}

    answers = [await reserve(tenants.clients[key], **wish) for key in (ONE, ALL, THEIRS)]

    assert [answer.status_code for answer in answers] == [201, 201, 409]
    assert answers[2].json()["reservation_id"] == tenants.ids["their_hold"]


async def test_running_call_is_not_for_the_verbs(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """V3: what the proxy runs is extended, settled and released by nobody else, and booked once."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    async with gateway.client() as client:
        running = asyncio.create_task(client.post("/agents/researcher/invoke", content=b"a"))
        await until(lambda: upstream.executions == 1, "the call to run")
        [id] = await org.hkeys("bg:{acme}:holds")
        bodies = {"settle": {"cost_cents": 0}, "release": {}, "extend": {"amount_cents": 900}}
        answers = [await end(client, id, verb, **body) for verb, body in bodies.items()]
        held = await acme.held(org)
        goes_on.set()
        assert (await running).status_code == 200
        await gateway.settled()
        late = await end(client, id, "settle", cost_cents=5)

    assert {answer.status_code for answer in (*answers, late)} == {404}
    assert held["org.held"] == 2_000_000
    assert [entry["amount"] for entry in await acme.journal(org)] == ["2000000"]
