"""An Idempotency-Key makes a call known again: it runs once, whoever repeats it."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.proxy import acme
from tests.proxy.gateways import PlaneGateway
from tests.stub_upstream import StubUpstream
from tests.until import until
from tests.upstream_answers import bytes_answer, json_answer, raw_answer

PATH = "/agents/researcher/invoke"


async def post(client: httpx.AsyncClient, key: str = "order-1", **sent: Any) -> httpx.Response:
    """Make one call under an idempotency key."""
    headers = {"idempotency-key": key}
    return await client.post(sent.pop("path", PATH), headers=headers, **({"content": b"a"} | sent))


async def test_completed_call_is_told_not_repeated(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A repeat of a call that has ended is 409 with its id, state and cost, and runs nothing."""
    async with gateway.client() as client:
        first = await post(client)
        await gateway.settled()
        second = await post(client)

    body = second.json()
    assert (first.status_code, second.status_code) == (200, 409)
    assert body["error"] == "idempotency_completed"
    assert body["reservation_id"] == first.headers["budget-request-id"]
    assert (body["state"], body["cost_cents"]) == ("settled", 2)
    assert second.headers["x-should-retry"] == "false"
    assert "retry-after" not in second.headers
    assert upstream.executions == 1
    assert (await acme.counters(org))["org.spent"] == 2_000_000


async def test_call_in_flight_is_a_conflict(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """A repeat of a call that runs may be tried again soon, and runs nothing."""
    goes_on = asyncio.Event()
    upstream.answers(raw_answer(goes_on, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))

    async with gateway.client() as client:
        running = asyncio.create_task(post(client))
        await until(lambda: upstream.executions == 1, "the first call to run")
        second = await post(client)
        goes_on.set()
        first = await running

    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["error"] == "idempotency_conflict"
    assert second.json()["reservation_id"] == first.headers["budget-request-id"]
    assert (second.headers["retry-after"], second.json()["retryable"]) == ("1", True)
    assert upstream.executions == 1


async def test_racing_repeats_run_once(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """Of twenty repeats at the same time one runs."""
    async with gateway.client() as client:
        answers = await asyncio.gather(*(post(client) for _ in range(20)))
    await gateway.settled()

    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200, *[409] * 19]
    assert upstream.executions == 1


@pytest.mark.parametrize(
    "changed",
    [{"content": b"b"}, {"path": f"{PATH}?q=1"}, {"path": "/agents/researcher/other"}],
    ids=["body", "query", "path"],
)
async def test_other_request_under_the_key_is_a_mismatch(
    gateway: PlaneGateway, upstream: StubUpstream, changed: dict[str, Any]
) -> None:
    """A key that comes with another request is a mistake of the caller, which is told."""
    async with gateway.client() as client:
        await post(client)
        second = await post(client, **changed)

    assert (second.status_code, second.json()["error"]) == (422, "idempotency_mismatch")
    assert upstream.executions == 1


async def test_released_call_may_be_made_again(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """A call that failed at no cost is not remembered: its repeat runs."""
    price = {"mode": "reported", "ceiling_cents": "5"}
    await acme.write_agent(org, "researcher", upstream.url, price)
    upstream.answers(json_answer({}, 500), json_answer({}))

    async with gateway.client() as client:
        first = await post(client)
        await gateway.settled()
        second = await post(client)

    assert (first.status_code, second.status_code, upstream.executions) == (500, 200, 2)


async def test_key_belongs_to_its_owner(
    gateway: PlaneGateway, org: Any, upstream: StubUpstream
) -> None:
    """Another API key, another agent and no key at all have idempotency keys of their own."""
    await acme.write_key(org, "bgk_acme_k2_secret", "k2|active||*")
    await acme.write_agent(org, "writer", upstream.url, {"mode": "flat", "cents": "1"})

    async with gateway.client() as client, gateway.client("bgk_acme_k2_secret") as other:
        answers = [
            await post(client),
            await post(other),
            await post(client, path="/agents/writer/invoke"),
            await post(client, "order-2"),
            await client.post(PATH, content=b"a"),
        ]

    assert [answer.status_code for answer in answers] == [200] * 5
    assert upstream.requests[0].header(b"idempotency-key") == b"order-1"


async def test_large_body_is_compared_too(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """A body that would otherwise be streamed is read whole where it must be recognised."""
    upstream.answers(bytes_answer(b""))
    large = b"x" * 300_000

    async with gateway.client() as client:
        first = await post(client, content=large)
        await gateway.settled()
        second = await post(client, content=large)
        third = await post(client, content=large + b"y")

    assert [answer.status_code for answer in (first, second, third)] == [200, 409, 422]
    assert upstream.requests[0].body == large


async def test_overlong_key_is_refused(gateway: PlaneGateway, upstream: StubUpstream) -> None:
    """An Idempotency-Key has at most 255 bytes."""
    async with gateway.client() as client:
        longest = await post(client, "k" * 255)
        longer = await post(client, "k" * 256)

    assert (longest.status_code, longer.status_code) == (200, 400)
    assert "Idempotency-Key" in longer.json()["detail"]
    assert upstream.executions == 1
