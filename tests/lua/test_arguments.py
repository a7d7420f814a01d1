"""reserve.lua and settle.lua refuse arguments that are not well formed, and name them.

A1 BADARG names the argument, and nothing is written, read or counted for it
A2 the same call with nothing wrong goes through
A3 a settle of other windows or another idempotency key than its record has is told the right ones
"""

import pytest

from gateway.budgets.scripts import load_scripts
from tests.lua.store import FROZEN_CLOCK, KEY_DIGEST, ORG, Store

SCRIPTS = load_scripts(FROZEN_CLOCK)
RESERVE = {
    "id": "",
    "reserved_ms": "",
    "org": "acme",
    "agent": "researcher",
    "amount_microcents": "5",
    "ttl_ms": "0",
    "default_ttl_ms": "60000",
    "key_digest": KEY_DIGEST,
    "owner": "proxy",
    "body_digest": "b1",
    "idem_digest": "",
    "zone": "UTC",
    "journal_entries_max": "1000",
    "epoch": "1",
    "windows": "total",
    "proposal": "",
    "kind": "total",
}
SETTLE = {
    "id": "",
    "reserved_ms": "",
    "org": "acme",
    "agent": "researcher",
    "amount_microcents": "4",
    "windows": "total",
    "idem_digest": "",
    "epoch": "1",
    "detail": "{}",
}
AMOUNTS = ["", "-1", "007", "1e3", "nan", " 5", "0x1", "9007199254740992", "1" * 17]


def keys(names: str) -> list[str]:
    """Return the keys of a call, in the order of a header."""
    nodes = {"expiry": "bg:expiry", "journal": "bg:journal"}
    return [nodes.get(name, f"bg:{{acme}}:{name}") for name in names.split()]


async def reserve(store: Store, own_id: str, **changes: str) -> list[bytes]:
    """Reserve 5 microcents of the total."""
    await store.client.hset("bg:{acme}:limits", "org.total.limit_cents", "1")
    await store.client.hdel("bg:{acme}:limits", "org.month.limit_cents")
    names = f"limits meta keys holds expiry done:{own_id} journal rate idem:- spend:total"
    words = {**RESERVE, "id": own_id, "reserved_ms": str(store.now_ms), **changes}
    return await store.wire.submit(SCRIPTS.reserve, keys(names), list(words.values()))


async def settle(store: Store, own_id: str, **changes: str) -> list[bytes]:
    """Settle at 4 microcents."""
    names = f"limits meta holds expiry done:{own_id} journal rate idem:- spend:total"
    words = {**SETTLE, "id": own_id, "reserved_ms": str(store.now_ms), **changes}
    return await store.wire.submit(SCRIPTS.settle, keys(names), list(words.values()))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in AMOUNTS),
        *((name, "") for name in ("id", "reserved_ms", "org", "agent", "ttl_ms")),
        *((name, "") for name in ("default_ttl_ms", "owner", "journal_entries_max")),
        *((name, "1x") for name in ("reserved_ms", "ttl_ms", "default_ttl_ms")),
        ("journal_entries_max", "-1"),
        *((name, "a|b") for name in ("id", "org", "agent", "owner", "body_digest", "idem_digest")),
    ],
)
async def test_reserve_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """A1: one argument is wrong, and the answer is which; no hold, no window, no memory."""
    before = await store.client.hgetall("bg:{acme}:meta")

    said = await reserve(store, store.id(), **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.spend() == {}
    assert await store.client.hgetall("bg:{acme}:meta") == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("amount_microcents", amount) for amount in AMOUNTS),
        *((name, "") for name in ("id", "reserved_ms", "org", "agent", "windows", "epoch")),
        ("reserved_ms", "1x"),
        *((name, "a|b") for name in ("id", "org", "agent", "windows", "idem_digest", "epoch")),
    ],
)
async def test_settle_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """A1: one argument is wrong, and the answer is which; what is held stays held."""
    id = store.id()
    await reserve(store, id)

    said = await settle(store, id, **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert (await store.spend())["org.held"] == 5
    assert await store.journal() == []


async def test_the_same_call_goes_through(store: Store) -> None:
    """A2: with nothing wrong the amount is held, and settled."""
    id = store.id()

    held, settled = await reserve(store, id), await settle(store, id)

    assert (held[0], settled[0]) == (b"HELD", b"SETTLED")
    assert await store.spend() == {"org.spent": 4, "agent.researcher.spent": 4}


@pytest.mark.parametrize("change", [{"idem_digest": ""}, {"windows": "day:2037-11-22"}])
async def test_settle_is_told_what_its_hold_has(store: Store, change: dict[str, str]) -> None:
    """A3: of an open hold, and nothing has ended."""
    id = store.id()
    await reserve(store, id, idem_digest="i1")

    said = await settle(store, id, **{"idem_digest": "i1", **change})

    assert said[:3] == [b"WINDOWS", b"total", b"i1"]
    assert (await store.spend())["org.held"] == 5


async def test_settle_is_told_what_its_end_has(store: Store) -> None:
    """A3: of an expired one, and nothing more is counted."""
    id = store.id()
    await reserve(store, id)
    await store.at(60_000)
    await store.budgets.expire(ORG, "total", [id])

    said = await settle(store, id, windows="day:2037-11-22")

    assert said[:3] == [b"WINDOWS", b"total", b""]
    assert (await store.spend())["org.spent"] == 5
