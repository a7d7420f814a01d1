"""What the routes below ``/v1`` take, and how they refuse the rest.

I1 bad input is 400, names the member and what was expected, and nothing is held or ended
I2 amounts are read to the last digit that is written
I3 without a key that is valid now nothing is told, not even what would be wrong
I4 methods, paths and bodies that are none are refused in the form of every refusal
"""

import asyncio
import json
import re
from typing import Any

import httpx
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.proxy.holding import PLACE, end, reserve, reserved
from tests.until import until

GOOD = {"agent": "researcher", "amount_cents": 5}
ID = "01JDZZZZZZZZZZZZZZZZZZZZZZ"
ROUTES = [
    ("POST", PLACE),
    ("POST", f"{PLACE}/{ID}/settle"),
    ("POST", f"{PLACE}/{ID}/release"),
    ("POST", f"{PLACE}/{ID}/extend"),
    ("GET", f"/v1/requests/{ID}"),
]


def name(text: str) -> str:
    """Return how a case is called, in a few words."""
    return re.sub(r"\W+", "_", text)[:40]


def body(**changes: str) -> str:
    """Return the body of a reserve; ``changes`` are members as they are written."""
    members = {name: json.dumps(value) for name, value in GOOD.items()} | changes
    return "{" + ",".join(f'"{name}":{text}' for name, text in members.items() if text) + "}"


@pytest.mark.parametrize(
    ("text", "named", "expected"),
    [
        ("", "agent", "is missing"),
        ("[]", "JSON object", "expected"),
        ("nonsense", "JSON object", "expected"),
        ('{"agent":"researcher"', "JSON object", "expected"),
        ("[" * 60_000, "JSON object", "expected"),
        ('{"a":' * 9_000 + "1" + "}" * 9_000, "JSON object", "expected"),
        (body(agent=""), "agent", "is missing"),
        (body(agent="7"), "agent", "letters, digits"),
        (body(agent='"a b"'), "agent", "letters, digits"),
        (body(agent='"acme}:x{"'), "agent", "letters, digits"),
        (body(agent='"' + "a" * 49 + '"'), "agent", "letters, digits"),
        (body(agent='"\\ud800"'), "JSON object", "expected"),
        (body(amount_cents=""), "amount_cents", "is missing"),
        (body(amount_cents="null"), "amount_cents", "a number from 0 to"),
        (body(amount_cents='"5"'), "amount_cents", "a number from 0 to"),
        (body(amount_cents="-1"), "amount_cents", "a number from 0 to"),
        (body(amount_cents="-0"), "amount_cents", "a number from 0 to"),
        (body(amount_cents="1e3"), "amount_cents", "a number from 0 to"),
        (body(amount_cents="0.1234567"), "amount_cents", "at most 6 decimals"),
        (body(amount_cents="9007199254.740992"), "amount_cents", "9007199254.740991"),
        (body(amount_cents="true"), "amount_cents", "a number from 0 to"),
        (body(amount_cents="9" * 5000), "amount_cents", "a number from 0 to"),
        (body(ttl_ms="0"), "ttl_ms", "milliseconds from 1 to 99999999"),
        (body(ttl_ms="-5"), "ttl_ms", "milliseconds from 1 to 99999999"),
        (body(ttl_ms="1.5"), "ttl_ms", "milliseconds from 1 to 99999999"),
        (body(ttl_ms="100000000"), "ttl_ms", "milliseconds from 1 to 99999999"),
        (body(ttl_ms="null"), "ttl_ms", "milliseconds from 1 to 99999999"),
        (body(ammount_cents="7"), "ammount_cents", "agent, amount_cents, ttl_ms"),
        (body(org='"evil"'), "org", "agent, amount_cents, ttl_ms"),
    ],
    ids=name,
)
async def test_bad_reserve_is_named(
    gateway: PlaneGateway, org: Any, text: str, named: str, expected: str
) -> None:
    """I1: the sentence names what is wrong and what was expected, in a few words."""
    async with gateway.client() as client:
        answer = await client.post(PLACE, content=text.encode())

    told = answer.json()
    assert (answer.status_code, told["error"]) == (400, "bad_request")
    assert named in told["detail"]
    assert expected in told["detail"]
    assert len(told["detail"]) < 250
    assert await org.hlen("bg:{acme}:holds") == 0


async def test_body_that_is_no_text_is_refused(gateway: PlaneGateway, org: Any) -> None:
    """I1: bytes that are no UTF-8 are no JSON, also where nobody looks at them."""
    async with gateway.client() as client:
        answer = await client.post(
            PLACE, content=b'{"agent":"researcher","amount_cents":1,"\xff":1}'
        )

    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("verb", "text", "named"),
    [
        ("settle", "", "cost_cents"),
        ("settle", "{}", "cost_cents"),
        ("settle", '{"cost_cents":-1}', "cost_cents"),
        ("settle", '{"cost_cents":"1"}', "cost_cents"),
        ("settle", '{"cost":1}', "cost"),
        ("settle", '{"cost_cents":1,"agent":"writer"}', "agent"),
        ("release", "[]", "JSON object"),
        ("release", '{"cost_cents":0}', "cost_cents"),
        ("extend", "", "amount_cents, ttl_ms or both"),
        ("extend", '{"amount_cents":"30"}', "amount_cents"),
        ("extend", '{"ttl_ms":0}', "ttl_ms"),
    ],
    ids=name,
)
async def test_bad_end_ends_nothing(
    gateway: PlaneGateway, org: Any, verb: str, text: str, named: str
) -> None:
    """I1: a verb with a bad body is 400, and the hold is as it was."""
    async with gateway.client() as client:
        id = await reserved(client)
        before = await org.hgetall("bg:{acme}:holds")
        answer = await client.post(f"{PLACE}/{id}/{verb}", content=text)
        after = await org.hgetall("bg:{acme}:holds")
        await end(client, id, "release")

    assert (answer.status_code, answer.json()["error"]) == (400, "bad_request")
    assert named in answer.json()["detail"]
    assert before == after


@pytest.mark.parametrize(
    ("text", "microcents"),
    [("0", 0), ("0.1", 100_000), ("5.00", 5_000_000), ("999.999999", 999_999_999)],
)
async def test_amount_is_read_exactly(
    gateway: PlaneGateway, org: Any, text: str, microcents: int
) -> None:
    """I2: what is written is what is held, and what is told."""
    async with gateway.client() as client:
        answer = await client.post(PLACE, content=body(amount_cents=text))
        held = (await acme.held(org)).get("org.held", 0)
        await end(client, answer.json()["id"], "release")

    assert (answer.status_code, held) == (201, microcents)
    assert round(answer.json()["amount_cents"] * 1_000_000) == microcents


async def test_largest_cost_is_booked_exactly(gateway: PlaneGateway, org: Any) -> None:
    """I2: no float stands between what is written and what is booked."""
    async with gateway.client() as client:
        id = await reserved(client)
        written = b'{"cost_cents": 9007199254.740991 }'
        answer = await client.post(f"{PLACE}/{id}/settle", content=written)

    [entry] = await acme.journal(org)
    assert entry["amount"] == "9007199254740991"
    assert b'"cost_cents":9007199254.740991' in answer.content


@pytest.mark.parametrize("key", ["", "bgk_acme_k1_guess", "bgk_nobody_k1_secret", "sk-other"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_strangers_are_told_nothing(
    gateway: PlaneGateway, method: str, path: str, key: str
) -> None:
    """I3: 401 comes before 400 and 404."""
    async with gateway.client(key) as client:
        answer = await client.request(method, path, content=b"nonsense")

    assert (answer.status_code, answer.json()["error"]) == (401, "unauthenticated")
    assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("record", ["k1|revoked||*", "k1|active|1|*"], ids=["revoked", "expired"])
async def test_key_that_is_over_ends_nothing(gateway: PlaneGateway, org: Any, record: str) -> None:
    """I3: a key that may not be used any more reaches nothing, from its very next request."""
    async with gateway.client() as client:
        id = await reserved(client)
        await acme.write_key(org, acme.KEY, record)
        answer = await end(client, id, "settle", cost_cents=1)
        await acme.write_key(org, acme.KEY)
        await end(client, id, "release")

    assert answer.status_code == 401
    assert await acme.journal(org) == []


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_other_methods_are_told_the_right_one(
    gateway: PlaneGateway, method: str, path: str
) -> None:
    """I4: 405 with Allow."""
    others = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - {method}
    async with gateway.client() as client:
        answers = [await client.request(other, path) for other in sorted(others)]

    assert {answer.status_code for answer in answers} == {405}
    assert {answer.json()["error"] for answer in answers} == {"method_not_allowed"}
    assert all(method in answer.headers["allow"] for answer in answers)


@pytest.mark.parametrize(
    "path",
    ["/v1", "/v1/", "/v1/reservations/", f"{PLACE}/{ID}", f"{PLACE}/{ID}/void", "/V1/requests/x"],
    ids=name,
)
async def test_other_paths_are_not_found(gateway: PlaneGateway, path: str) -> None:
    """I4: what is no route is 404, and no redirect to where the caller's Host header says."""
    async with gateway.client() as client:
        answer = await client.post(path, content=b"{}", headers={"host": "elsewhere.test"})

    assert (answer.status_code, answer.json()["error"]) == (404, "not_found")


async def test_large_body_is_refused(gateway: PlaneGateway, org: Any) -> None:
    """I4: a body has at most 64 KB, whatever its head says of it."""

    async def pieces() -> Any:
        for _ in range(3):
            yield b" " * 40_000

    async with gateway.client() as client:
        answers = [
            await client.post(PLACE, content=b" " * 65_537),
            await client.post(PLACE, content=pieces()),
        ]

    assert [answer.status_code for answer in answers] == [413, 413]
    assert await org.hlen("bg:{acme}:holds") == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"upgrade": "websocket", "connection": "upgrade"}, 501),
        ({"idempotency-key": "k" * 256}, 400),
        ({"idempotency-key": "k" * 255}, 201),
    ],
)
async def test_heads_are_bounded_as_for_calls(
    gateway: PlaneGateway, org: Any, headers: dict[str, str], status: int
) -> None:
    """I4: what is refused in the head of a call is refused here, too."""
    async with gateway.client() as client:
        answer = await reserve(client, headers=headers)
        if status == 201:
            await end(client, answer.json()["id"], "release")

    assert answer.status_code == status


async def test_stopping_gateway_takes_nothing(gateway: PlaneGateway, org: Any) -> None:
    """I4: while it drains, another gateway is to be asked."""
    async with gateway.client() as client:
        id = await reserved(client)
        gateway.plane.app.draining = True
        answers: list[httpx.Response] = [
            await reserve(client),
            await end(client, id, "settle", cost_cents=1),
        ]
        gateway.plane.app.draining = False
        await end(client, id, "release")

    assert [answer.status_code for answer in answers] == [503, 503]
    assert {answer.json()["error"] for answer in answers} == {"draining"}
    assert {answer.headers["connection"] for answer in answers} == {"close"}
    assert await acme.journal(org) == []


async def test_caller_that_leaves_in_its_body_holds_nothing(
    gateway: PlaneGateway, org: Any
) -> None:
    """I4: half a body is no request."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = (
        f"POST {PLACE} HTTP/1.1\r\nHost: g\r\nBudget-Key: {acme.KEY}\r\nContent-Length: 50\r\n\r\n"
    )
    writer.write(head.encode() + b'{"agent":"researcher"')
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    assert await gateway.plane.app.drained(10.0)
    assert await org.hlen("bg:{acme}:holds") == 0


async def test_caller_that_left_meanwhile_keeps_nothing(gateway: PlaneGateway, org: Any) -> None:
    """I4: a hold whose id nobody was told is given back: it would be charged when it expires."""
    text = body().encode()
    head = f"POST {PLACE} HTTP/1.1\r\nHost: g\r\nBudget-Key: {acme.KEY}\r\n"
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    await org.client_pause(5_000, all=False)
    writer.write(f"{head}Content-Length: {len(text)}\r\n\r\n".encode() + text)
    await writer.drain()

    async def waits() -> bool:
        return bool((await org.info("clients"))["blocked_clients"])

    await until(waits, "the reserve to wait for Redis")
    writer.close()
    await writer.wait_closed()
    [(listener, _)] = gateway.plane.listeners
    await until(lambda: not listener.server_state.connections, "the caller to be missed")
    await org.client_unpause()

    assert await gateway.plane.app.drained(10.0)
    [ended] = [await org.get(key) for key in await org.keys("bg:{acme}:done:*")]
    assert ended.split("|")[1] == "released"
    assert await org.hlen("bg:{acme}:holds") == 0
