"""reserve.lua remembers how plain limits read last, and is never wider for it.

M1 the memory is what the next call goes by; what it says: test_room.py and test_twin.py
M2 an edit of the limits is obeyed by the very next call, whatever it is
M3 the memory is of one list of windows, in its order, and of one form of the scripts
M4 limits of an agent by name and limits that end are not remembered
M5 a memory that was damaged is not believed, and is mended by the next admission
M6 a refusal writes no memory
M7 the memory is small, and the hash may grow afterwards
"""

from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.budgets.node import Node
from gateway.budgets.scripts import load_scripts
from gateway.domain.reservation import Denied, Held, Refused
from tests.lua.store import FROZEN_CLOCK, KEY_DIGEST, Store, cents, open_store
from tests.servers import Servers

META, LIMITS_KEY = "bg:{acme}:meta", "bg:{acme}:limits"
MONTH = {"status": "active", "org.month.limit_cents": "1000"}
ALL = {**MONTH, "org.day.limit_cents": "500", "agent.*.day.limit_cents": "100"}


async def memory(store: Store) -> tuple[bytes | None, bytes | None]:
    """Return what the org remembers."""
    text, chain = await store.client.hmget(META, "limits", "chain")
    return text, chain


async def remembered(store: Store, fields: dict[str, str]) -> None:
    """Set limits and let two calls pass, so that the second has found the memory of the first."""
    await store.limits(fields)
    await store.held(0)
    before = await memory(store)
    await store.held(0)
    assert None not in before
    assert await memory(store) == before


async def edit_hash(store: Store, key: str, changes: dict[str, str | None]) -> None:
    """Set fields of a hash, and delete those that have no value."""
    for field, value in changes.items():
        if value is None:
            await store.client.hdel(key, field)
        else:
            await store.client.hset(key, field, value)


async def test_memory_is_what_the_next_call_goes_by(store: Store) -> None:
    """M1: both texts changed alike, as no operator would, are believed: the path is taken."""
    await remembered(store, MONTH)
    text, chain = await memory(store)
    assert text is not None
    assert chain is not None
    more = chain.replace(b"1000", b"2000")

    await store.client.hset(META, mapping={"limits": text.replace(chain, more), "chain": more})
    _, held = await store.held(cents(1))

    assert held.available_microcents == cents(1999)


EDITS: list[tuple[dict[str, str | None], Any]] = [
    ({"org.month.limit_cents": "1"}, "DENIED org.month"),
    ({"org.month.limit_cents": "none"}, "HELD agent.researcher.day"),
    ({"org.month.limit_cents": "1000.0000001"}, "LIMITS_INVALID org.month.limit_cents"),
    ({"org.month.limit_cents": ""}, "LIMITS_INVALID org.month.limit_cents"),
    ({"org.month.limit_cents": None, "org.mnth.limit_cents": "1000"}, "HELD agent.researcher.day"),
    ({"org.month.limit_cents": None, "org.day.limit_cents": None}, "LIMITS_INVALID org.<window>"),
    ({"status": None}, "LIMITS_INVALID status"),
    ({"status": "frozen"}, "FROZEN org"),
    ({"status": "actve"}, "LIMITS_INVALID status"),
    ({"agent.*.status": "frozen"}, "FROZEN agent.researcher"),
    ({"agent.researcher.status": "frozen"}, "FROZEN agent.researcher"),
    ({"agent.researcher.day.limit_cents": "1"}, "DENIED agent.researcher.day"),
    ({"agent.researcher.day.limit_cents": "nan"}, "LIMITS_INVALID agent.researcher.day"),
    ({"agent.*.day.limit_cents": "1"}, "DENIED agent.researcher.day"),
    ({"org.total.limit_cents": "1"}, "DENIED org.total"),
    ({"org.hour.limit_cents": "1000"}, "LIMITS_INVALID org.hour.limit_cents"),
    ({"org.per_call_cents": "1"}, "PER_CALL org"),
    ({"org.concurrency": "2"}, "CONCURRENCY org"),
    ({"agent.*.rpm": "0"}, "RATE agent.researcher"),
    ({"hold_ttl_ms": "0"}, "LIMITS_INVALID hold_ttl_ms"),
]


@pytest.mark.parametrize(("edit", "told"), EDITS)
async def test_edit_is_obeyed_by_the_next_call(
    store: Store, edit: dict[str, str | None], told: str
) -> None:
    """M2: one field set or deleted beside a memory, and the call that follows knows it."""
    await remembered(store, ALL)

    await edit_hash(store, LIMITS_KEY, edit)
    outcome = await store.reserve(cents(2))

    if isinstance(outcome, Refused):
        said = f"{outcome.reason} {outcome.detail}"
    else:
        assert isinstance(outcome, Held | Denied)
        said = f"{outcome.reason if isinstance(outcome, Denied) else 'HELD'} {outcome.budget}"
    assert said.startswith(told)


async def test_deleted_limits_close_the_gate(store: Store) -> None:
    """M2: a DEL of the hash refuses beside a memory, and the same limits set again admit."""
    await remembered(store, ALL)

    await store.limits({})
    closed = await store.reserve(cents(1))
    await store.limits(ALL)

    assert closed == Refused("LIMITS_INVALID", "status")
    assert isinstance(await store.reserve(cents(1)), Held)


async def test_value_with_line_breaks_is_no_other_field(store: Store) -> None:
    """M2: one value that spells the other fields is not taken for them."""
    await remembered(store, MONTH)

    await store.limits({"status": "active\norg.month.limit_cents\n1000"})

    assert await store.reserve(cents(1)) == Refused("LIMITS_INVALID", "status")


@pytest.mark.parametrize("value", [b"UTC\norg.day.limit_cents\n1", b"\xff", b"\x7f"])
async def test_value_that_is_no_line_is_not_remembered(store: Store, value: bytes) -> None:
    """M2: a memory is lines of text: none in it is told as another field, and all can be shown."""
    await remembered(store, MONTH)

    await store.client.hset(LIMITS_KEY, "timezone", value)
    await store.held(cents(2))

    assert await memory(store) == (None, None)


async def reserve_in(store: Store, windows: str, amount_microcents: int) -> list[bytes]:
    """Reserve in packed windows of any order; a gateway always has the shortest first."""
    running, ask = await store.client.hget(META, "running"), store.ask(amount_microcents)
    names = ("limits", "meta", "keys", "holds", "rate", f"done:{ask.id}", "idem:-")
    limits, meta, keys, holds, rate, done, idem = (f"bg:{{acme}}:{name}" for name in names)
    spend = [f"bg:{{acme}}:spend:{window}" for window in windows.split(",")]
    return await store.wire.submit(
        load_scripts(FROZEN_CLOCK).reserve,
        [limits, meta, keys, holds, "bg:expiry", done, "bg:journal", rate, idem, *spend],
        [
            *(ask.id, store.now_ms, ask.org, ask.agent, amount_microcents, 0, 60_000),
            *(KEY_DIGEST, "proxy", "b1", "", "UTC", 1000, "1", windows, running),
        ],
    )


async def test_memory_is_of_one_list_of_windows(store: Store) -> None:
    """M3: a limit on total is refused by the first call of a node that no longer counts it."""
    await remembered(store, {**MONTH, "org.total.limit_cents": "1000"})

    store.wire.node = Node(1, "1", ("day", "month"))

    refused = Refused("LIMITS_INVALID", "org.total.limit_cents")
    assert await store.reserve(cents(1)) == refused


@pytest.mark.parametrize("damage", [b"", b"total\n"])
async def test_chain_names_no_window_that_is_not_counted(store: Store, damage: bytes) -> None:
    """M3: not even a chain that begins with what is missing in the list."""
    await remembered(store, {**MONTH, "org.total.limit_cents": "1000"})
    _, chain = await memory(store)
    assert chain is not None

    await store.client.hset(META, "chain", damage + chain)
    said = await reserve_in(store, "day:2037-11-22,month:2037-11", cents(1))

    assert said[:2] == [b"LIMITS_INVALID", b"org.total.limit_cents"]


async def test_memory_is_of_the_order_of_the_windows(store: Store) -> None:
    """M3: windows in another order keep their own limits, and are not remembered."""
    await remembered(store, {**MONTH, "org.total.limit_cents": "5"})

    others = "total,day:2037-11-22,month:2037-11"
    denied = await reserve_in(store, others, cents(6))
    held = await reserve_in(store, others, cents(1))

    assert (denied[:2], held[0]) == ([b"DENIED", b"org.total"], b"HELD")
    assert await memory(store) == (None, None)


async def test_memory_of_another_form_is_not_taken(store: Store) -> None:
    """M3: what another release of the scripts has packed is read in full, and packed again."""
    await remembered(store, MONTH)
    text, chain = await memory(store)
    assert text is not None
    assert chain is not None
    head, _, sizes = text.rpartition(b"\n")
    other = head.replace(chain, b"/1|;1|;1|;") + b"\n" + b"9" + sizes[1:]

    await store.client.hset(META, mapping={"limits": other, "chain": b"/1|;1|;1|;"})

    assert isinstance(await store.reserve(cents(1)), Held)
    assert await memory(store) == (text, chain)


@pytest.mark.parametrize(
    "field",
    [
        "agent.researcher.day.limit_cents",
        "agent.writer.day.limit_cents",
        "agent.writer.status",
        "org.month.override_until",
        "org.month.override_cents",
        "org.month.mode",
        "org.month.warn_at",
        "org.rpm",
        "agent.*.concurrency",
        "agent.*.per_call_cents",
        "note",
    ],
)
async def test_other_limits_are_not_remembered(store: Store, field: str) -> None:
    """M4: one field that is not plain and the memory is gone; without it, it is back."""
    await remembered(store, MONTH)
    values = {"status": "active", "mode": "hard", "override_until": "2142504060"}

    await store.client.hset(LIMITS_KEY, field, values.get(field.rpartition(".")[2], "900"))
    await store.held(cents(1))
    without = await memory(store)
    await store.client.hdel(LIMITS_KEY, field)
    await store.held(cents(1))

    assert without == (None, None)
    assert None not in await memory(store)


async def test_memory_of_one_agent_serves_another(store: Store) -> None:
    """M4: what is remembered names no agent: each has the limit of agent.* for itself."""
    await remembered(store, ALL)

    _, held = await store.held(cents(3), agent="writer")

    assert (held.budget, held.available_microcents) == ("agent.writer.day", cents(97))


DAMAGES: list[dict[str, str | None]] = [
    {"chain": ""},
    {"chain": "x"},
    {"chain": "/|;|;|;"},
    {"chain": "/|;9000000000|;|;"},
    {"chain": "/|;100000|;|;\n/|;1000000|;|;"},
    {"chain": "99999999999999999999/|;1000000|;|;"},
    {"limits": ""},
    {"limits": "x"},
    {"limits": "status\nactive"},
    {"limits": None},
    {"chain": None},
]


@pytest.mark.parametrize("damage", DAMAGES)
async def test_damaged_memory_is_not_believed(store: Store, damage: dict[str, str | None]) -> None:
    """M5: whatever a hand did to one field, no budget is wider; the next admission mends it."""
    await remembered(store, {"status": "active", "org.month.limit_cents": "1"})
    before = await memory(store)

    await edit_hash(store, META, damage)
    denied = await store.reserve(cents(2))
    await store.held(0)

    assert isinstance(denied, Denied)
    assert denied.limit_microcents == cents(1)
    assert await memory(store) == before


@pytest.mark.parametrize(
    ("fields", "amount"),
    [
        ({"status": "active", "org.month.limit_cents": "1"}, 2),
        ({"status": "frozen", "org.month.limit_cents": "1"}, 0),
        ({"status": "active", "org.month.limit_cents": "oops"}, 0),
        ({}, 0),
    ],
)
async def test_refusal_writes_no_memory(store: Store, fields: dict[str, str], amount: int) -> None:
    """M6: neither a first memory, nor another one, nor is one taken away."""
    await store.limits(fields)
    first = await store.reserve(cents(amount))
    without = await memory(store)
    await remembered(store, MONTH)
    before = await memory(store)

    await store.limits(fields)
    again = await store.reserve(cents(amount))

    assert isinstance(first, Denied | Refused)
    assert isinstance(again, Denied | Refused)
    assert without == (None, None)
    assert await memory(store) == before


async def test_memory_is_bounded(store: Store) -> None:
    """M7: limits of more than a kilobyte or of many fields are read each time."""
    await remembered(store, MONTH)

    await store.client.hset(LIMITS_KEY, "timezone", "U" * 1024)
    await store.held(cents(1))
    long = await memory(store)
    await store.limits({**MONTH, **{f"org.{'x' * n}.limit_cents": "1" for n in range(1, 32)}})
    await store.held(cents(1))

    assert long == (None, None)
    assert await memory(store) == (None, None)


async def test_memory_outlives_no_growth_of_the_limits(store: Store) -> None:
    """M7: limits of many agents that came after the memory are obeyed, and end it."""
    await remembered(store, MONTH)

    grown = {f"agent.a{number}.day.limit_cents": "1" for number in range(500)}
    await store.client.hset(LIMITS_KEY, mapping={**grown, "agent.researcher.day.limit_cents": "3"})
    denied = await store.reserve(cents(4))
    await store.held(cents(1))

    assert isinstance(denied, Denied)
    assert denied.budget == "agent.researcher.day"
    assert await memory(store) == (None, None)


async def test_large_limits_in_one_piece_are_read(servers: Servers) -> None:
    """M7: also where a server keeps so many fields in one piece that a scan returns them all."""
    server = servers.own_redis(hash_max_listpack_entries="1024")
    async with Redis.from_url(server.url) as client:
        store = await open_store(client, True)
        await remembered(store, MONTH)

        grown = {f"agent.a{number}.day.limit_cents": "1" for number in range(500)}
        await client.hset(LIMITS_KEY, mapping=grown)

        assert isinstance(await store.reserve(cents(4)), Held)
        assert await memory(store) == (None, None)


async def test_scan_that_did_not_end_is_no_reading(servers: Servers) -> None:
    """M7: of a hash that was very large a scan may see little, and what it misses still counts."""
    server = servers.own_redis(enable_debug_command="yes")
    async with Redis.from_url(server.url) as client:
        store = await open_store(client, True)
        filler = {f"note{number}": "1" for number in range(100_000)}
        await client.hset(LIMITS_KEY, mapping=filler)
        # As while a snapshot is being written: the table keeps its size, and is nearly empty.
        await client.execute_command("DEBUG", "DICT-RESIZING", "0")
        await client.hdel(LIMITS_KEY, *filler)

        await store.held(0)
        await client.hset(LIMITS_KEY, "org.month.limit_cents", "1")

        assert isinstance(await store.reserve(cents(2)), Denied)
        assert await memory(store) == (None, None)
