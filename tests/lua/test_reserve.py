"""reserve.lua holds on the whole chain or on none, and refuses for the first reason that applies.

R1 every refusal is the first that applies, in the order of the contract
R2 a hold is on all windows of both scopes, and a repeat of the ask changes nothing
R3 a refusal changes no counter
R4 DENIED outranks BUSY, the org the agent, the longer window the shorter
R5 limit garbage refuses and names the field
R6 soft and shadow budgets admit, and are journaled
R7 the first denial and the first warning are journaled once per limit
"""

from typing import Any

import pytest
from msgspec import structs
from ulid import ULID

from gateway.domain.money import AMOUNT_MICROCENTS_MAX
from gateway.domain.reservation import Denied, Finished, Held, Refused, Replayed
from tests.lua.store import KEY_DIGEST, ORG, Store, cents

ACTIVE = {"status": "active"}
MONTH = {**ACTIVE, "org.month.limit_cents": "100"}
SPEND_KEYS = ("day:2037-11-22", "month:2037-11", "total")


def refusal(outcome: object) -> tuple[str, str]:
    """Return reason and detail of a refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome.reason, outcome.detail


async def test_hold_is_on_all_windows_of_both_scopes(store: Store) -> None:
    """R2: every window of the list counts the hold, for the org and for the agent."""
    await store.held(cents(5))

    for window in SPEND_KEYS:
        assert await store.spend(window) == {
            "org.held": cents(5),
            "agent.researcher.held": cents(5),
        }


async def test_repeat_of_an_ask_holds_once(store: Store) -> None:
    """R2: the same id, agent, amount and body is HELD again, with the windows of its record."""
    ask, held = await store.held(cents(5))

    again = await store.budgets.reserve(ask)

    assert isinstance(again, Held)
    assert (again.windows, again.deadline_ms) == (held.windows, held.deadline_ms)
    assert (await store.spend())["org.held"] == cents(5)


@pytest.mark.parametrize(
    "change",
    [{"amount_microcents": cents(6)}, {"body_digest": "b2"}, {"agent": "writer"}],
)
async def test_same_id_with_another_ask_is_a_mismatch(store: Store, change: Any) -> None:
    """R1: an id that is held for another ask is MISMATCH, and nothing more is held."""
    ask, _ = await store.held(cents(5))

    assert refusal(await store.budgets.reserve(structs.replace(ask, **change))) == ("MISMATCH", "")
    assert (await store.spend())["org.held"] == cents(5)


async def test_ended_reservation_is_done(store: Store) -> None:
    """R1: an id that has ended answers how, and holds nothing again."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(3))

    outcome = await store.budgets.reserve(ask)

    assert isinstance(outcome, Finished)
    assert (outcome.state, outcome.cost_microcents) == ("settled", cents(3))
    assert (await store.spend()).get("org.held") is None


async def test_idempotency_key_is_held_by_one_reservation(store: Store) -> None:
    """R1: another id with the same idempotency key is told whose it is, and how it stands."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    second = await store.reserve(cents(5), idempotency_digest="i1")
    await store.settle(ask, held, cents(4))
    third = await store.reserve(cents(5), idempotency_digest="i1")

    assert second == Replayed(ask.id, "b1", "held", 0)
    assert third == Replayed(ask.id, "b1", "settled", cents(4))
    # Kept a day from its reserve on, whatever happens to it.
    [name] = [key async for key in store.client.scan_iter("bg:{acme}:idem:*")]
    assert await store.client.ttl(name) > 86_000


async def test_release_frees_the_idempotency_key(store: Store) -> None:
    """R1: what was released may be tried again under the same idempotency key."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert isinstance(await store.reserve(cents(5), idempotency_digest="i1"), Held)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("k1|active||*", None),
        ("k1|active||writer,researcher", None),
        ("k1|active||writer", "AGENT_NOT_ALLOWED"),
        ("k1|active||research", "AGENT_NOT_ALLOWED"),
        ("k1|active||", "AGENT_NOT_ALLOWED"),
        ("k1|revoked||*", "UNKNOWN_KEY"),
        ("k1|active|2142504000000|*", "KEY_EXPIRED"),
        ("k1|active|2142504000001|*", None),
        ("garbage", "UNKNOWN_KEY"),
        ("", "UNKNOWN_KEY"),
    ],
)
async def test_key_is_checked_in_the_same_call(
    store: Store, record: str, reason: str | None
) -> None:
    """R1: a key that is unknown, revoked, expired or not for this agent holds nothing."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, record)

    outcome = await store.reserve(cents(1))

    assert (outcome.reason if isinstance(outcome, Refused) else None) == reason
    assert bool(await store.spend()) is (reason is None)


@pytest.mark.parametrize("skew_ms", [300_001, -300_001])
async def test_id_of_another_time_is_refused(store: Store, skew_ms: int) -> None:
    """R1: an id more than 5 minutes from the store's clock is CLOCK, on either side."""
    other = str(ULID.from_timestamp(store.now_ms + skew_ms))

    assert refusal(await store.reserve(cents(1), id=other)) == ("CLOCK", "")


async def test_org_without_meta_is_cold(store: Store) -> None:
    """R1: an org that the store does not know is COLD."""
    await store.client.delete("bg:{acme}:meta")

    assert refusal(await store.reserve(cents(1))) == ("COLD", "")


@pytest.mark.parametrize("amount", [-1, AMOUNT_MICROCENTS_MAX + 1, "1e3", "007", "nan", ""])
async def test_malformed_amount_is_an_answer(store: Store, amount: Any) -> None:
    """R1: an amount that is not 0 .. 2^53-1 is BADARG and names the argument."""
    assert refusal(await store.reserve(amount)) == ("BADARG", "amount_microcents")


GARBAGE = ["nan", "inf", "-1", "0x10", "1e3", "5,000", "", " 5 ", "9" * 20, "1.2.3", "9999999999"]


@pytest.mark.parametrize("text", GARBAGE)
@pytest.mark.parametrize(
    "field",
    [
        "org.month.limit_cents",
        "agent.researcher.day.limit_cents",
        "agent.*.total.limit_cents",
        "org.rpm",
        "agent.*.concurrency",
        "agent.researcher.per_call_cents",
    ],
)
async def test_limit_garbage_refuses(store: Store, field: str, text: str) -> None:
    """R5: a number that is not plain decimal within the cap refuses the call and names itself."""
    await store.limits({**MONTH, field: text})

    assert refusal(await store.reserve(cents(1))) == ("LIMITS_INVALID", field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "status"),
        ({"org.month.limit_cents": "5"}, "status"),
        ({"status": "on", "org.month.limit_cents": "5"}, "status"),
        (ACTIVE, "org.<window>.limit_cents"),
        ({**ACTIVE, "org.month.limit_cent": "5"}, "org.<window>.limit_cents"),
        ({**ACTIVE, "agent.*.day.limit_cents": "5"}, "org.<window>.limit_cents"),
        ({**MONTH, "org.hour.limit_cents": "5"}, "org.hour.limit_cents"),
        ({**MONTH, "agent.*.week.limit_cents": "5"}, "agent.*.week.limit_cents"),
        ({**MONTH, "org.month.mode": "firm"}, "org.month.mode"),
        ({**MONTH, "agent.*.status": "off"}, "agent.*.status"),
        ({**MONTH, "hold_ttl_ms": "0"}, "hold_ttl_ms"),
        ({**MONTH, "timezone": "Mars/Olympus"}, "timezone"),
        ({**MONTH, "timezone": "../../etc/passwd"}, "timezone"),
    ],
)
async def test_limits_that_do_not_hold_together_refuse(
    store: Store, fields: dict[str, str], field: str
) -> None:
    """R5: a deleted hash, a misspelt org limit or a limit on an uncounted window opens nothing."""
    await store.limits(fields)

    assert refusal(await store.reserve(cents(1))) == ("LIMITS_INVALID", field)


async def test_time_zone_that_is_no_text_refuses(store: Store) -> None:
    """R5: bytes that are not UTF-8 are no zone, as any other word that is not one."""
    await store.client.hset("bg:{acme}:limits", "timezone", b"\xff")

    assert refusal(await store.reserve(cents(1))) == ("LIMITS_INVALID", "timezone")
    assert await store.spend() == {}


async def test_none_exempts_an_agent(store: Store) -> None:
    """`none` is no limit: an agent's own none overrules the limit of agent.*."""
    await store.limits(
        {
            **ACTIVE,
            "org.month.limit_cents": "none",
            "agent.*.day.limit_cents": "1",
            "agent.researcher.day.limit_cents": "none",
        }
    )

    assert isinstance(await store.reserve(cents(500)), Held)
    assert isinstance(await store.reserve(cents(2), agent="writer"), Denied)


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({"status": "frozen"}, "org"),
        ({"agent.researcher.status": "frozen"}, "agent.researcher"),
        ({"agent.*.status": "frozen"}, "agent.researcher"),
    ],
)
async def test_frozen_by_operators(store: Store, fields: dict[str, str], scope: str) -> None:
    """R1: a frozen org or agent is refused, and the scope is named."""
    await store.limits({**MONTH, **fields})

    assert refusal(await store.reserve(0)) == ("FROZEN", scope)


async def test_frozen_by_billing(store: Store) -> None:
    """R1: billing freezes an org on its own, whatever operators have set."""
    await store.client.hset("bg:{acme}:meta", "billing_status", "frozen")

    assert refusal(await store.reserve(cents(1))) == ("FROZEN", "billing")


async def test_full_journal_refuses(store: Store) -> None:
    """R1: no call is admitted that could not be remembered."""
    for number in range(1000):
        await store.client.xadd("bg:journal", {"n": number})

    assert refusal(await store.reserve(cents(1))) == ("JOURNAL_FULL", "")
