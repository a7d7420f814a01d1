"""reserve.lua: a call is admitted once, for a key that may, by limits that can be read.

What it decides on money: R9 to R15, in test_budgets.py. Here:

R1 of the reasons to refuse the first that applies is told, in the order of the contract
R2 a hold is on all windows of both scopes, and has its deadline in the index
R3 an id that is known holds nothing again: HELD with its record, MISMATCH, or DONE
R4 an idempotency key is of one reservation: others are told which, and how it stands: IDEMPOTENT
R5 the key is checked in the same call, and so are the clock and the org: nothing is held
R6 limits that are missing, malformed or frozen refuse and name what is wrong; a full journal does
R7 a malformed argument is named, and nothing changes
R8 nothing but its own hold is touched, by a refusal only the mark of a first denial

Windows: test_windows.py. The memory of the limits: test_memory.py, test_room.py, test_twin.py.
"""

from typing import Any

import pytest
from msgspec import structs
from ulid import ULID

from gateway.domain.reservation import Finished, Held, Refused, Replayed
from tests.lua.calls import AMOUNTS, TOTAL, call, changed, hold, of_a_hold
from tests.lua.store import KEY_DIGEST, Store, cents

ACTIVE = {"status": "active"}
MONTH = {**ACTIVE, "org.month.limit_cents": "100"}
# Everything that reserve refuses for, at once, for the reservation OWN1.
WRONG = [
    "DEL bg:{acme}:meta",
    f"HSET bg:{{acme}}:keys {KEY_DIGEST} k1|revoked|1|writer",
    "SET bg:{acme}:done:OWN1 1|settled|5|4|4|1|2|proxy|researcher|total",
    "HSET bg:{acme}:holds OWN1 1|5|proxy|researcher|k1|1|2|b1||total",
    "HSET bg:{acme}:holds OTHER 1|3|proxy|researcher|k1|1|2|b1||total",
    "SET bg:{acme}:idem:- OTHER|b1|held|0",
    "HSET bg:{acme}:limits status off org.per_call_cents 0.000004 org.concurrency 1 org.rpm 1",
    "HSET bg:{acme}:limits org.total.limit_cents 0.000007",
    "HDEL bg:{acme}:limits org.month.limit_cents",
    "HSET bg:{acme}:spend:total org.spent 3 org.held 3",
    "HSET bg:{acme}:rate org.arrival_us 2142504060000000",
]
ASK = {"amount_microcents": "x", "reserved_ms": "1", "body_digest": "b2", "idem_digest": "i1"}
ASK |= {"proposal": "day|2037-11-22|1|2", "journal_entries_max": "0"}
# What is answered, and what is mended before: an argument, or something in the store.
ORDER: list[tuple[bytes, dict[str, str] | str]] = [
    (b"BADARG", {}),
    (b"CLOCK", {"amount_microcents": "5"}),
    (b"COLD", {"reserved_ms": "2142504000000"}),
    (b"UNKNOWN_KEY", "HSET bg:{acme}:meta schema 1 billing_status frozen"),
    (b"KEY_EXPIRED", f"HSET bg:{{acme}}:keys {KEY_DIGEST} k1|active|1|writer"),
    (b"AGENT_NOT_ALLOWED", f"HSET bg:{{acme}}:keys {KEY_DIGEST} k1|active||writer"),
    (b"DONE", f"HSET bg:{{acme}}:keys {KEY_DIGEST} k1|active||*"),
    (b"MISMATCH", "DEL bg:{acme}:done:OWN1"),
    (b"IDEMPOTENT", "HDEL bg:{acme}:holds OWN1"),
    (b"LIMITS_INVALID", "DEL bg:{acme}:idem:-"),
    (b"FROZEN", "HSET bg:{acme}:limits status active"),
    (b"WINDOW", "HSET bg:{acme}:meta billing_status ok"),
    (b"JOURNAL_FULL", {"proposal": ""}),
    (b"PER_CALL", {"journal_entries_max": "1000"}),
    (b"DENIED", "HDEL bg:{acme}:limits org.per_call_cents"),
    (b"BUSY", "HSET bg:{acme}:limits org.total.limit_cents 0.00001"),
    (b"CONCURRENCY", "HSET bg:{acme}:limits org.total.limit_cents 1"),
    (b"RATE", "HDEL bg:{acme}:limits org.concurrency"),
    (b"HELD", "HDEL bg:{acme}:limits org.rpm"),
]
SPEND_KEYS = ("day:2037-11-22", "month:2037-11", "total")


def refusal(outcome: object) -> tuple[str, str]:
    """Return reason and detail of a refusal."""
    assert isinstance(outcome, Refused), outcome
    return outcome.reason, outcome.detail


async def test_first_reason_is_told(store: Store) -> None:
    """R1: with everything wrong, each thing that is mended uncovers the next one."""
    words, said = dict(ASK), []
    for wrong in WRONG:
        await store.client.execute_command(*wrong.split())

    for _, mend in ORDER:
        if isinstance(mend, dict):
            words |= mend
        else:
            await store.client.execute_command(*mend.split())
        said.append((await call(store, "reserve", "OWN1", **words))[0])

    assert said == [word for word, _ in ORDER]


async def test_hold_is_on_all_windows_of_both_scopes(store: Store) -> None:
    """R2: every window of the list counts the hold, for the org and for the agent."""
    await store.held(cents(5))

    for window in SPEND_KEYS:
        assert await store.spend(window) == {
            "org.held": cents(5),
            "agent.researcher.held": cents(5),
        }


async def test_deadline_is_in_the_index(store: Store) -> None:
    """R2: the sweeper finds the hold there, by the instant that the answer told."""
    ask, held = await store.held(cents(5), ttl_ms=7)

    assert held.deadline_ms == store.now_ms + 7
    [indexed] = await store.client.zrange("bg:expiry", 0, -1, withscores=True)
    assert indexed == (f"acme|{ask.id}".encode(), held.deadline_ms)


async def test_repeat_of_an_ask_holds_once(store: Store) -> None:
    """R3: the same id, agent, amount and body is HELD again, with the windows of its record."""
    ask, held = await store.held(cents(5))

    again = await store.budgets.reserve(ask)

    assert isinstance(again, Held)
    assert (again.windows, again.deadline_ms) == (held.windows, held.deadline_ms)
    assert (await store.spend())["org.held"] == cents(5)


async def test_repeat_of_an_ask_changes_nothing(store: Store) -> None:
    """R3: neither its deadline nor the rate, which only an admission consumes."""
    own_id = await hold(store)
    before = await store.contents()

    again = await call(store, "reserve", own_id, ttl_ms="90000")

    assert again[:3] == [b"HELD", str(store.now_ms + 60_000).encode(), b"total"]
    assert await store.contents() == before


async def test_repeat_finds_its_extended_hold(store: Store) -> None:
    """R3: since the first ask it may have become more, and is the same reservation."""
    own_id = await hold(store)
    await call(store, "extend", own_id)

    assert (await call(store, "reserve", own_id))[0] == b"HELD"
    assert (await store.spend())["org.held"] == 8


@pytest.mark.parametrize(
    "change",
    [{"amount_microcents": cents(6)}, {"body_digest": "b2"}, {"agent": "writer"}],
)
async def test_same_id_with_another_ask_is_a_mismatch(store: Store, change: Any) -> None:
    """R3: an id that is held for another ask is MISMATCH, and nothing more is held."""
    ask, _ = await store.held(cents(5))

    assert refusal(await store.budgets.reserve(structs.replace(ask, **change))) == ("MISMATCH", "")
    assert (await store.spend())["org.held"] == cents(5)


async def test_ended_reservation_is_done(store: Store) -> None:
    """R3: an id that has ended answers how, and holds nothing again."""
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(3))

    outcome = await store.budgets.reserve(ask)

    assert isinstance(outcome, Finished)
    assert (outcome.state, outcome.cost_microcents) == ("settled", cents(3))
    assert (await store.spend()).get("org.held") is None


async def test_idempotency_key_is_held_by_one_reservation(store: Store) -> None:
    """R4: another id with the same idempotency key is told whose it is, and how it stands."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    second = await store.reserve(cents(5), idempotency_digest="i1")
    await store.settle(ask, held, cents(4))
    third = await store.reserve(cents(5), idempotency_digest="i1")

    assert second == Replayed(ask.id, "b1", "held", 0)
    assert third == Replayed(ask.id, "b1", "settled", cents(4))
    # Kept a day from its reserve on, whatever happens to it.
    [name] = [key async for key in store.client.scan_iter("bg:{acme}:idem:*")]
    assert await store.client.ttl(name) > 86_000


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
    """R5: a key that is unknown, revoked, expired or not for this agent holds nothing."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, record)

    outcome = await store.reserve(cents(1))

    assert (outcome.reason if isinstance(outcome, Refused) else None) == reason
    assert bool(await store.spend()) is (reason is None)


async def test_clock_that_steps_back_revives_no_key(store: Store) -> None:
    """R5: the latest instant that the org has seen counts, here as in authenticate."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, f"k1|active|{store.now_ms + 5}|*")
    await store.client.hset("bg:{acme}:meta", "now", store.now_ms + 5)

    assert await store.reserve(cents(1)) == Refused("KEY_EXPIRED")


@pytest.mark.parametrize("skew_ms", [300_001, -300_001])
async def test_id_of_another_time_is_refused(store: Store, skew_ms: int) -> None:
    """R5: an id more than 5 minutes from the store's clock is CLOCK, on either side."""
    other = str(ULID.from_timestamp(store.now_ms + skew_ms))

    assert refusal(await store.reserve(cents(1), id=other)) == ("CLOCK", "")


async def test_org_without_meta_is_cold(store: Store) -> None:
    """R5: an org that the store does not know is COLD."""
    await store.client.delete("bg:{acme}:meta")

    assert refusal(await store.reserve(cents(1))) == ("COLD", "")


async def test_org_of_another_epoch_is_cold(store: Store) -> None:
    """R5: who has not seen that it was rebuilt has not told yet what it holds."""
    await store.client.hset("bg:{acme}:meta", "epoch", "2")

    assert refusal(await store.reserve(cents(1))) == ("COLD", "")


GARBAGE = ["nan", "inf", "-1", "0x10", "1e3", "5,000", "", " 5 ", "9" * 20, "1.2.3", "9999999999"]
# A seventh decimal would be read as ten times as much.
GARBAGE += ["1.0000001", "9007199254.740992", "1.", ".5"]


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
    """R6: a number that is not plain decimal within the cap refuses the call and names itself."""
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
    """R6: a deleted hash, a misspelt org limit or a limit on an uncounted window opens nothing."""
    await store.limits(fields)

    assert refusal(await store.reserve(cents(1))) == ("LIMITS_INVALID", field)


async def test_time_zone_that_is_no_text_refuses(store: Store) -> None:
    """R6: bytes that are not UTF-8 are no zone, as any other word that is not one."""
    await store.client.hset("bg:{acme}:limits", "timezone", b"\xff")

    assert refusal(await store.reserve(cents(1))) == ("LIMITS_INVALID", "timezone")
    assert await store.spend() == {}


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({"status": "frozen"}, "org"),
        ({"agent.researcher.status": "frozen"}, "agent.researcher"),
        ({"agent.*.status": "frozen"}, "agent.researcher"),
    ],
)
async def test_frozen_by_operators(store: Store, fields: dict[str, str], scope: str) -> None:
    """R6: a frozen org or agent is refused, and the scope is named."""
    await store.limits({**MONTH, **fields})

    assert refusal(await store.reserve(0)) == ("FROZEN", scope)


async def test_frozen_by_billing(store: Store) -> None:
    """R6: billing freezes an org on its own, whatever operators have set."""
    await store.client.hset("bg:{acme}:meta", "billing_status", "frozen")

    assert refusal(await store.reserve(cents(1))) == ("FROZEN", "billing")


async def test_full_journal_refuses(store: Store) -> None:
    """R6: no call is admitted that could not be remembered."""
    for number in range(1000):
        await store.client.xadd("bg:journal", {"n": number})

    assert refusal(await store.reserve(cents(1))) == ("JOURNAL_FULL", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in ["-1", *AMOUNTS]),
        *((name, "") for name in ("id", "reserved_ms", "org", "agent", "ttl_ms")),
        *(
            (name, "")
            for name in ("default_ttl_ms", "owner", "journal_entries_max", "zone", "epoch")
        ),
        *((name, "1x") for name in ("reserved_ms", "ttl_ms", "default_ttl_ms")),
        *((name, "9" * 16) for name in ("ttl_ms", "default_ttl_ms")),
        ("journal_entries_max", "-1"),
        *((name, "a|b") for name in ("id", "org", "agent", "owner", "body_digest", "idem_digest")),
        *((name, "a|b") for name in ("zone", "epoch")),
        *((name, "a-b") for name in ("id", "owner", "body_digest", "idem_digest", "epoch")),
        ("owner", "p2"),
    ],
)
async def test_reserve_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """R7: one argument is wrong, and the answer is which; no hold, no window, no memory."""
    await store.limits(TOTAL)
    before = await store.contents()

    said = await call(store, "reserve", store.id(), **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_admission_touches_its_hold_only(store: Store) -> None:
    """R8: not what is spent or credited, the limits, or the end of another."""
    await store.held(1)
    ended_id, _ = await hold(store), await hold(store)
    await call(store, "settle", ended_id)
    await call(store, "credit", store.id())
    await hold(store)
    own_id, before = store.id(), await store.contents()

    await call(store, "reserve", own_id)

    assert changed(before, await store.contents()) == of_a_hold(own_id)


async def test_refusal_touches_nothing(store: Store) -> None:
    """R8: whatever it is for; only a first denial leaves its mark and its entry."""
    words = dict(ASK)
    for wrong in WRONG:
        await store.client.execute_command(*wrong.split())

    for word, mend in ORDER[:-1]:
        if isinstance(mend, dict):
            words |= mend
        else:
            await store.client.execute_command(*mend.split())
        before = await store.contents()
        await call(store, "reserve", "OWN1", **words)
        marked = {"spend:total org.denied", "journal", "meta seq"} if word == b"DENIED" else set()
        assert changed(before, await store.contents()) == marked, word
