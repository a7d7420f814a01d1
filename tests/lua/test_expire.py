"""expire.lua: what nobody has ended by its deadline is charged, or given back if the org says so.

X1 at its deadline and not before a hold is charged, once, in every window
X2 only on_expiry=release gives it back; any other word charges
X3 each id has its own answer: expired, released, held, settled, void, gone, windows or corrupt
X4 what cannot be read leaves the index and stays where it is, and the rest still expires
X5 where nothing ends nothing is written
X6 one entry per end tells what was charged and how the org had chosen
X7 the idempotency key tells a charge, and is free again where the hold was given back
X8 how it ended is kept for 24 hours, as its settle may be late
X9 a malformed argument or a 101st id is named, and nothing changes
X10 nothing but these reservations and their counters is touched

Keys that somebody has damaged: test_damaged.py. Full memory: test_full_memory.py.
"""

import pytest

from gateway.errors import StoreError
from tests.lua.calls import call, changed, counters, hold, of_a_hold
from tests.lua.store import ORG, Store, cents

WINDOWS = "day:2037-11-22,month:2037-11,total"


async def spent(store: Store) -> int:
    """Return what the org has spent in total."""
    return (await store.spend()).get("org.spent", 0)


async def test_expiry_charges_at_the_deadline(store: Store) -> None:
    """X1: one millisecond early nothing happens; at the deadline the hold is charged, once."""
    ask, _ = await store.held(cents(5))

    await store.at(59_999)
    early = await store.budgets.expire(ORG, WINDOWS, [ask.id])
    await store.at(1)
    due = await store.budgets.expire(ORG, WINDOWS, [ask.id])
    again = await store.budgets.expire(ORG, WINDOWS, [ask.id])

    assert (early, due, again) == (["held"], ["expired"], ["expired"])
    assert await store.spend() == {"org.spent": cents(5), "agent.researcher.spent": cents(5)}
    [entry] = await store.journal()
    assert (entry["kind"], entry["amount"], entry["counted"]) == ("expire", "5000000", "5000000")


async def test_expiry_charges_every_window(store: Store) -> None:
    """X1: what was held is spent, in each window of both scopes."""
    ask, _ = await store.held(cents(5))
    await store.at(60_000)

    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    for window in WINDOWS.split(","):
        counted = {"org.spent": cents(5), "agent.researcher.spent": cents(5)}
        assert await store.spend(window) == counted


@pytest.mark.parametrize(
    ("on_expiry", "charged"), [("release", 0), ("charge", cents(5)), ("none", cents(5))]
)
async def test_expiry_by_the_orgs_choice(store: Store, on_expiry: str, charged: int) -> None:
    """X2: only `release` gives back; any other word charges, and both are journaled."""
    await store.client.hset("bg:{acme}:limits", "on_expiry", on_expiry)
    ask, _ = await store.held(cents(5))
    await store.at(60_000)

    await store.budgets.expire(ORG, WINDOWS, [ask.id])

    assert await spent(store) == charged
    assert [entry["amount"] for entry in await store.journal("expire")] == [str(charged)]


@pytest.mark.parametrize(("on_expiry", "state"), [("charge", "expired"), ("release", "released")])
async def test_every_id_has_its_answer(store: Store, on_expiry: str, state: str) -> None:
    """X3: what ended before answers how, and one that goes on does not stop the others."""
    await store.client.hset("bg:{acme}:limits", "on_expiry", on_expiry)
    due, settled, released = [await store.held(cents(1), ttl_ms=1000) for _ in range(3)]
    await store.settle(*settled, cents(1))
    await store.budgets.release(ORG, "researcher", released[0].id, WINDOWS)
    void_id, gone_id = store.id(), store.id()
    await store.budgets.release(ORG, "researcher", void_id, WINDOWS)
    await store.client.hset("bg:{acme}:holds", "BAD1", "1|x")
    await store.at(1000)
    young, _ = await store.held(cents(1))

    ids = [gone_id, "BAD1", void_id, settled[0].id, released[0].id, young.id, due[0].id]
    states = await store.budgets.expire(ORG, WINDOWS, ids)

    assert states == ["gone", "corrupt", "void", "settled", "released", "held", state]


async def test_record_of_other_windows_is_left_alone(store: Store) -> None:
    """X3: its deadline has passed, but its counters are not at hand: `windows`."""
    own_id = await hold(store)
    await store.at(60_000)
    before = await store.contents()

    said = await call(store, "expire", own_id, windows="day:2037-11-22", id=own_id)

    assert said[:-2] == [b"EXPIRED", b"windows"]
    assert await store.contents() == before


async def test_ids_of_an_unknown_org_are_gone(store: Store) -> None:
    """X3: nothing is made of an org that nothing is known of."""
    own_id, before = store.id(), await store.contents()

    said = await call(store, "expire", own_id, org="globex", id=own_id)

    assert said[:-2] == [b"EXPIRED", b"gone"]
    assert await store.contents() == before


async def test_expiry_leaves_what_it_cannot_read(store: Store) -> None:
    """X4: unknown ids leave the index, a corrupt record is kept, and the rest still expires."""
    ask, _ = await store.held(cents(5))
    await store.client.zadd("bg:expiry", {"acme|GONE1": 1, "acme|BAD1": 1})
    await store.client.hset("bg:{acme}:holds", "BAD1", "1|x")
    await store.at(60_000)

    states = await store.budgets.expire(ORG, WINDOWS, ["GONE1", "BAD1", ask.id])

    assert states == ["gone", "corrupt", "expired"]
    assert await store.client.zcard("bg:expiry") == 0
    assert await store.client.hget("bg:{acme}:holds", "BAD1") == b"1|x"


async def test_expiry_that_ends_nothing_writes_nothing(store: Store) -> None:
    """X5: the sequence counts ends, not looks."""
    ask, _ = await store.held(cents(5))

    await store.budgets.expire(ORG, WINDOWS, [ask.id])
    looked = await store.client.hget("bg:{acme}:meta", "seq")
    await store.at(60_000)
    await store.budgets.expire(ORG, WINDOWS, [ask.id, ask.id])

    assert looked == b"1"
    assert await store.client.hget("bg:{acme}:meta", "seq") == b"2"


async def test_expiry_before_the_deadline_changes_nothing(store: Store) -> None:
    """X5: one millisecond early the hold, its index and its counters are as they were."""
    own_id = await hold(store)
    await store.at(59_999)
    before = await store.contents()

    said = await call(store, "expire", own_id, id=own_id)

    assert said[:-2] == [b"EXPIRED", b"held"]
    assert await store.contents() == before


@pytest.mark.parametrize(
    ("on_expiry", "source", "charged"), [("charge", "expired", "5"), ("release", "released", "0")]
)
async def test_entry_tells_the_expiry(
    store: Store, on_expiry: str, source: str, charged: str
) -> None:
    """X6: every field of it, with both instants and the key that had reserved."""
    own_id, reserved_ms = await hold(store), str(store.now_ms)
    await store.client.hset("bg:{acme}:limits", "on_expiry", on_expiry)
    await store.at(60_000)

    await call(store, "expire", own_id, id=own_id)

    assert await store.journal() == [
        {
            "v": "1",
            "kind": "expire",
            "id": own_id,
            "entry_id": "",
            "org": ORG,
            "agent": "researcher",
            "amount": charged,
            "counted": charged,
            "reserved_ms": reserved_ms,
            "at_ms": str(store.now_ms),
            "windows": "total",
            "epoch": "1",
            "detail": f'{{"source":"{source}","key_id":"k1"}}',
        }
    ]


@pytest.mark.parametrize(("on_expiry", "told"), [("charge", "ID|b1|expired|5"), ("release", None)])
async def test_expiry_tells_the_idempotency_key(
    store: Store, on_expiry: str, told: str | None
) -> None:
    """X7: who repeats the call under its key is told the charge, or may try again."""
    own_id = await hold(store, idem_digest="i1")
    await store.client.hset("bg:{acme}:limits", "on_expiry", on_expiry)
    await store.at(60_000)

    await call(store, "expire", own_id, id=own_id)

    record = await store.client.get("bg:{acme}:idem:-")
    assert record == (told.replace("ID", own_id).encode() if told else None)


async def test_end_of_an_expiry_is_kept_24_hours(store: Store) -> None:
    """X8: longer than any other end, and the key leaves by itself."""
    own_id = await hold(store)
    await store.at(60_000)

    await call(store, "expire", own_id, id=own_id)

    assert 86_390 < await store.client.ttl(f"bg:{{acme}}:done:{own_id}") <= 86_400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in ("org", "windows", "epoch")),
        *((name, "a|b") for name in ("org", "windows", "epoch")),
    ],
)
async def test_expire_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """X9: one argument is wrong, and the answer is which; what is due stays held."""
    own_id = await hold(store)
    await store.at(60_000)
    before = await store.contents()

    said = await call(store, "expire", own_id, **{"id": own_id, name: value})

    assert said[:-2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_expire_takes_at_most_100_ids(store: Store) -> None:
    """X9: the hundredth is answered; one more, and the first one stays held."""
    own_id = await hold(store)
    await store.at(60_000)
    others = [f"GONE{number}" for number in range(100)]

    with pytest.raises(StoreError, match="ids"):
        await store.budgets.expire(ORG, "total", [own_id, *others])

    states = await store.budgets.expire(ORG, "total", [own_id, *others[:99]])
    assert states == ["expired", *["gone"] * 99]


async def test_expiry_touches_its_reservation_only(store: Store) -> None:
    """X10: not the hold of another, a credit, the limits, or the windows that run."""
    await store.held(1, ttl_ms=1000)
    own_id, _ = await hold(store, ttl_ms="1000"), await hold(store, ttl_ms="1000")
    await call(store, "credit", store.id())
    await store.at(1000)
    before = await store.contents()

    await call(store, "expire", own_id, id=own_id)

    ended = of_a_hold(own_id) | counters("spent") | {f"done:{own_id}", "journal"}
    assert changed(before, await store.contents()) == ended
