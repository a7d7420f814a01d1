"""The life of a reservation that its caller makes and ends itself.

H1 what is held counts in every budget, and is refused in the words of any call
H2 an end is answered with what is booked: above the hold, late, repeated, with another cost
H3 more money is asked for like the first, more time is not refused, and neither ever shrinks
H4 an Idempotency-Key makes a reserve known again
H5 who holds nothing is told so, and nothing is booked
"""

import asyncio
import json
from typing import Any

import httpx
import pytest

from tests.proxy import acme
from tests.proxy.conftest import StartPlane
from tests.proxy.gateways import PlaneGateway
from tests.proxy.holding import PLACE, end, expired, reserve, reserved, settled

FRESH = "01JDZZZZZZZZZZZZZZZZZZZZZZ"


async def spent(redis: Any) -> int:
    """Return what the org has spent, in whole cents; each counter that says so agrees."""
    counted = await acme.counters(redis)
    assert counted.get("org.spent") == counted.get("agent.researcher.spent")
    return counted.get("org.spent", 0) // 1_000_000


async def booked(redis: Any) -> list[tuple[str, int, int]]:
    """Return kind, amount and what it counted of each journal entry that is no alert."""
    entries = [fields for _, fields in await redis.xrange("bg:journal")]
    return [
        (entry["kind"], int(entry["amount"]) // 1_000_000, int(entry["counted"]) // 1_000_000)
        for entry in entries
        if entry["kind"] != "alert"
    ]


async def test_hold_counts_until_it_is_settled(gateway: PlaneGateway, org: Any) -> None:
    """H1 H2: 201 tells what is held and until when; its settle moves the cost to spent."""
    async with gateway.client() as client:
        answer = await reserve(client, amount_cents=2.5)
        held, id = await acme.held(org), answer.json()["id"]
        told = await settled(client, id, 1.25)
        seen = (await client.get(f"/v1/requests/{id}")).json()

    [entry] = await acme.journal(org)
    assert (answer.status_code, answer.json()["amount_cents"]) == (201, 2.5)
    assert answer.headers["x-request-id"] == answer.headers["request-id"] == id
    assert answer.headers["budget-source"] == "gateway"
    assert held == {"org.held": 2_500_000, "agent.researcher.held": 2_500_000}
    assert told == ("settled", 1.25)
    assert (await acme.counters(org))["agent.researcher.spent"] == 1_250_000
    assert (entry["id"], entry["amount"], entry["agent"]) == (id, "1250000", "researcher")
    assert json.loads(entry["detail"]) == {"source": "api", "key_id": "k1"}
    assert (seen["state"], seen["quote_cents"], seen["cost_cents"]) == ("settled", 2.5, 1.25)
    assert seen["reserved_at"] <= seen["settled_at"] <= answer.json()["expires_at"]


@pytest.mark.parametrize(
    ("fields", "asked", "status", "error"),
    [
        ({"org.day.limit_cents": "10"}, {}, 402, "budget_exceeded"),
        ({"agent.*.per_call_cents": "24.9"}, {}, 402, "per_call_limit_exceeded"),
        ({"org.rpm": "0"}, {}, 429, "rate_limited"),
        ({"agent.researcher.concurrency": "0"}, {}, 429, "concurrency_limited"),
        ({"status": "frozen"}, {}, 403, "frozen"),
        ({"org.day.limit_cents": "ten"}, {}, 503, "limits_invalid"),
        ({}, {"agent": "nobody"}, 404, "unknown_agent"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_refusals_are_those_of_calls(
    gateway: PlaneGateway,
    org: Any,
    fields: dict[str, str],
    asked: dict[str, Any],
    status: int,
    error: str,
) -> None:
    """H1: every rule that refuses a call refuses a hold, in the same words; nothing is held."""
    await org.hset("bg:{acme}:limits", mapping={"org.rpm": "none", **fields})

    async with gateway.client() as client:
        answer = await reserve(client, **asked)

    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert answer.headers["content-type"] == "application/problem+json"
    assert await org.hlen("bg:{acme}:holds") == 0


async def test_holds_and_calls_share_the_budget(gateway: PlaneGateway, org: Any) -> None:
    """H1: a call that would fit but for a hold is told to come back."""
    async with gateway.client() as client:
        id = await reserved(client, amount_cents=999)
        busy = await client.post("/agents/researcher/invoke", content=b"a")
        await end(client, id, "release")
        free = await client.post("/agents/researcher/invoke", content=b"a")
    await gateway.settled()

    assert (busy.status_code, busy.json()["error"], free.status_code) == (429, "budget_held", 200)


async def test_settle_above_the_hold_counts_all(gateway: PlaneGateway, org: Any) -> None:
    """H2: what the work has cost is spent, also what was not held, and is counted as overage."""
    async with gateway.client() as client:
        told = await settled(client, await reserved(client, amount_cents=5), 9)

    assert (told, await spent(org)) == (("settled", 9), 9)
    assert gateway.value("overages_total") == 1


async def test_first_of_two_settles_is_booked(gateway: PlaneGateway, org: Any) -> None:
    """H2: a repeat books nothing; one with another cost is told the first, and is an alarm."""
    async with gateway.client() as client:
        id = await reserved(client)
        told = [await settled(client, id, cost) for cost in (7, 7, 8)]
        released = await end(client, id, "release")

    assert told == [("settled", 7)] * 3
    assert released.json() == {"id": id, "state": "settled", "cost_cents": 7}
    assert await booked(org) == [("settle", 7, 7)]
    assert gateway.value("settles_total", word="DONE_OTHER") == 1


@pytest.mark.parametrize(
    ("on_expiry", "charged", "counted"), [("charge", 25, -18), ("release", 0, 7)]
)
async def test_late_settle_counts_the_difference(
    gateway: PlaneGateway, org: Any, redis_url: str, on_expiry: str, charged: int, counted: int
) -> None:
    """H2: after the expiry, whether that charged or not, what it has cost is what is spent."""
    await acme.set_limits(org, {"on_expiry": on_expiry})
    async with gateway.client() as client:
        id = await reserved(client, ttl_ms=1)
        await expired(org, redis_url, id)
        overdue = (await client.get(f"/v1/requests/{id}")).json()
        was_spent = await spent(org)
        told = [await settled(client, id, 7) for _ in range(2)]

    assert (overdue["state"], overdue["cost_cents"], was_spent) == ("expired", charged, charged)
    assert (told, await spent(org)) == ([("settled", 7)] * 2, 7)
    assert await booked(org) == [("expire", charged, charged), ("settle", 7, counted)]


async def test_release_gives_all_back_once(gateway: PlaneGateway, org: Any) -> None:
    """H2: a release, and its repeat, are told that nothing was spent; a body is not needed."""
    async with gateway.client() as client:
        id = await reserved(client)
        answers = [await client.post(f"{PLACE}/{id}/release") for _ in range(2)]
        unpaid = await settled(client, id, 0)

    released = {"id": id, "state": "released", "cost_cents": 0}
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, released)] * 2
    assert (unpaid, await booked(org)) == (("released", 0), [])


async def test_settle_after_a_release_is_charged(gateway: PlaneGateway, org: Any) -> None:
    """H2: who gave back too early still books what it has cost; it is an alarm."""
    async with gateway.client() as client:
        id = await reserved(client)
        await end(client, id, "release")
        told = await settled(client, id, 3)

    assert (told, await spent(org)) == (("settled", 3), 3)
    assert gateway.value("settles_total", word="VOIDED") == 1


async def test_release_after_the_expiry_changes_nothing(
    gateway: PlaneGateway, org: Any, redis_url: str
) -> None:
    """H2: what has expired stays charged, and the answer says so."""
    async with gateway.client() as client:
        id = await reserved(client, ttl_ms=1)
        await expired(org, redis_url, id)
        answer = await end(client, id, "release")

    assert answer.json() == {"id": id, "state": "expired", "cost_cents": 25}
    assert await spent(org) == 25


async def test_racing_settles_book_one_cost(gateway: PlaneGateway, org: Any) -> None:
    """H2: of settles at once with different costs one is booked, and all are told that one."""
    async with gateway.client() as client:
        id = await reserved(client)
        told = await asyncio.gather(*(settled(client, id, cost) for cost in range(1, 11)))

    [(_, cost, _)] = await booked(org)
    assert set(told) == {("settled", cost)}


async def test_extend_raises_and_never_shrinks(gateway: PlaneGateway, org: Any) -> None:
    """H3: both members are absolute; what is less than there is leaves it as it is."""
    async with gateway.client() as client:
        first = await reserve(client, amount_cents=5, ttl_ms=60_000)
        id = first.json()["id"]
        more = await end(client, id, "extend", amount_cents=40, ttl_ms=3_600_000)
        less = await end(client, id, "extend", amount_cents=1, ttl_ms=1)
        held = await acme.held(org)
        await end(client, id, "release")

    assert more.json() == less.json() | {"cost_cents": None, "state": "held"}
    assert more.json()["expires_at"] > first.json()["expires_at"]
    assert held["org.held"] == 40_000_000


async def test_more_money_alone_is_no_more_time(gateway: PlaneGateway, org: Any) -> None:
    """H3: a member that is not there changes nothing."""
    async with gateway.client() as client:
        first = await reserve(client, ttl_ms=5_000)
        id = first.json()["id"]
        money = await end(client, id, "extend", amount_cents=30)
        time = await end(client, id, "extend", ttl_ms=90_000_000)
        seen = (await client.get(f"/v1/requests/{id}")).json()
        await end(client, id, "release")

    assert money.json()["expires_at"] == first.json()["expires_at"] < time.json()["expires_at"]
    assert (seen["state"], seen["quote_cents"], seen["cost_cents"]) == ("held", 30, None)
    assert (seen["expires_at"], seen["settled_at"]) == (time.json()["expires_at"], None)


async def test_extension_without_room_is_denied(gateway: PlaneGateway, org: Any) -> None:
    """H3: what does not fit is 402 as for a call, and what was held stays held."""
    async with gateway.client() as client:
        id = await reserved(client)
        denied = await end(client, id, "extend", amount_cents=1001)
        held = await acme.held(org)
        await settled(client, id, 25)

    assert (denied.status_code, denied.json()["error"]) == (402, "budget_exceeded")
    assert (denied.json()["requested_cents"], denied.json()["limit_cents"]) == (1001, 1000)
    assert held["org.held"] == 25_000_000


async def test_ended_reservation_is_not_extended(gateway: PlaneGateway, org: Any) -> None:
    """H5: 404 tells how it has ended, and nothing is held."""
    async with gateway.client() as client:
        id = await reserved(client)
        await settled(client, id, 7)
        answer = await end(client, id, "extend", amount_cents=50)

    assert (answer.status_code, answer.json()["error"]) == (404, "reservation_not_found")
    assert (answer.json()["state"], answer.json()["cost_cents"]) == ("settled", 7)


@pytest.mark.parametrize("id", [FRESH, "x", "*", FRESH.lower(), f"{FRESH}0"])
@pytest.mark.parametrize("verb", ["settle", "release", "extend"])
async def test_unknown_id_is_not_found(gateway: PlaneGateway, org: Any, id: str, verb: str) -> None:
    """H5: an id of nobody is 404, leaves no trace, and a settle of it books nothing."""
    before = set(await org.keys("*"))
    body = {"settle": {"cost_cents": 3}, "release": {}, "extend": {"ttl_ms": 5}}[verb]
    async with gateway.client() as client:
        answer = await end(client, id, verb, **body)

    assert (answer.status_code, answer.json()["error"]) == (404, "reservation_not_found")
    assert set(await org.keys("*")) == before


@pytest.mark.parametrize("place", ["holds", "done"])
async def test_unreadable_record_is_not_unknown(
    gateway: PlaneGateway, org: Any, place: str
) -> None:
    """H5: what somebody has damaged is 503: a 404 would say that nothing is held."""
    async with gateway.client() as client:
        if place == "holds":
            await org.hset("bg:{acme}:holds", FRESH, "nonsense")
        else:
            await org.set(f"bg:{{acme}}:done:{FRESH}", "nonsense")
        answers = [
            await client.get(f"/v1/requests/{FRESH}"),
            await end(client, FRESH, "settle", cost_cents=3),
        ]

    assert {answer.status_code for answer in answers} == {503}
    assert {answer.json()["error"] for answer in answers} == {"budget_store_unavailable"}
    assert await booked(org) == []


async def keyed(client: httpx.AsyncClient, key: str = "order-1", **changes: Any) -> httpx.Response:
    """Reserve under an idempotency key."""
    return await reserve(client, headers={"idempotency-key": key}, **changes)


async def test_repeat_under_a_key_holds_once(gateway: PlaneGateway, org: Any) -> None:
    """H4: while it is held a repeat is 409 with its id; afterwards with its cost, too."""
    async with gateway.client() as client:
        first = await keyed(client)
        during = await keyed(client)
        await settled(client, first.json()["id"], 7)
        after = await keyed(client)

    id = first.json()["id"]
    assert [each.status_code for each in (first, during, after)] == [201, 409, 409]
    assert (during.json()["error"], during.headers["retry-after"]) == ("idempotency_conflict", "1")
    assert during.json()["reservation_id"] == after.json()["reservation_id"] == id
    assert after.json()["error"] == "idempotency_completed"
    assert (after.json()["state"], after.json()["cost_cents"]) == ("settled", 7)
    assert await booked(org) == [("settle", 7, 7)]


async def test_key_with_another_wish_is_a_mismatch(gateway: PlaneGateway, org: Any) -> None:
    """H4: 422 where amount or time is another one; after a release the key is free."""
    async with gateway.client() as client:
        first = await keyed(client)
        others = [await keyed(client, amount_cents=26), await keyed(client, ttl_ms=60_001)]
        await end(client, first.json()["id"], "release")
        again = await keyed(client, amount_cents=26)
        await end(client, again.json()["id"], "release")

    assert [each.json()["error"] for each in others] == ["idempotency_mismatch"] * 2
    assert again.status_code == 201


async def test_hold_without_a_time_takes_the_orgs(gateway: PlaneGateway, org: Any) -> None:
    """H1: ``hold_ttl_ms`` of the org counts where no ttl_ms is asked for."""
    await acme.set_limits(org, {"hold_ttl_ms": "7777"})
    async with gateway.client() as client:
        id = await reserved(client, ttl_ms=None)
        _, _, _, _, _, reserved_ms, deadline_ms, *_ = (await org.hget("bg:{acme}:holds", id)).split(
            "|"
        )
        await end(client, id, "release")

    assert 7777 <= int(deadline_ms) - int(reserved_ms) < 60_000


async def test_trusted_network_needs_no_key(org: Any, redis_url: str, start: StartPlane) -> None:
    """H1: with GATEWAY_AUTH=none the org of the settings holds and settles."""
    gateway = await start(redis_url, auth="none", org="acme")
    async with gateway.client(key="") as client:
        told = await settled(client, await reserved(client), 7)

    assert (told, await spent(org)) == (("settled", 7), 7)


async def test_settle_at_another_gateway(org: Any, redis_url: str, start: StartPlane) -> None:
    """H2: who ends a hold need not be the gateway that made it."""
    one, other = await start(redis_url), await start(redis_url)
    async with one.client() as here, other.client() as there:
        told = await settled(there, await reserved(here), 7)

    assert (told, await spent(org)) == (("settled", 7), 7)
