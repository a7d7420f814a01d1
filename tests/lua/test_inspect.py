"""inspect.lua: counters and the last journal id, in one look. It has no argument to refuse.

I1 what is spent, held and credited per scope, and the id of the last entry, at one instant
I2 the id stays where entries were taken away; what is not known is empty, from 0-0 on
I3 one group of fields per key, in the order asked for
I4 nothing is written
"""

from tests.lua.calls import SCRIPTS, call, hold
from tests.lua.store import ORG, Store, cents


async def test_inspect_tells_counters_and_the_journal_at_once(store: Store) -> None:
    """I1: what is spent, held and credited per scope, and the id of the last entry."""
    empty = await store.budgets.inspect(ORG, "total")
    ask, held = await store.held(cents(5))
    await store.settle(ask, held, cents(4))
    await store.held(cents(1), agent="writer")
    last_id = (await store.client.xinfo_stream("bg:journal"))["last-generated-id"].decode()

    seen = await store.budgets.inspect(ORG, "total")

    assert (empty.journal_id, empty.counters) == ("0-0", {})
    assert seen.journal_id == last_id
    assert seen.counters["total", "org"] == (cents(4), cents(1), 0)
    assert seen.counters["total", "agent.researcher"] == (cents(4), 0, 0)
    assert seen.counters["total", "agent.writer"] == (0, cents(1), 0)


async def test_credit_is_seen(store: Store) -> None:
    """I1: beside what is spent, with its sign."""
    await call(store, "credit", store.id(), amount_microcents="-3")

    assert (await store.budgets.inspect(ORG, "total")).counters["total", "org"] == (0, 0, -3)


async def test_last_id_outlives_its_entry(store: Store) -> None:
    """I2: a journal that was read to its end and emptied still says how far it went."""
    own_id = await hold(store)
    await call(store, "settle", own_id)
    before = await store.budgets.inspect(ORG, "total")
    await store.client.xtrim("bg:journal", maxlen=0, approximate=False)

    assert await store.journal() == []
    assert await store.budgets.inspect(ORG, "total") == before


async def test_unknown_org_is_empty(store: Store) -> None:
    """I2: no entry and no counter are an answer."""
    keys = ["bg:{globex}:meta", "bg:{globex}:journal", "bg:{globex}:spend:total"]

    said = await store.wire.submit(SCRIPTS.inspect, keys, [])

    assert said == [b"OK", b"0-0", 0, 0, store.now_ms]


async def test_groups_come_in_the_order_of_the_keys(store: Store) -> None:
    """I3: a window without counters keeps its place."""
    await store.client.hset("bg:{acme}:spend:total", "org.spent", 1)
    await store.client.hset("bg:{acme}:spend:month:2037-11", "org.spent", 2)
    windows = ("month:2037-11", "day:2037-11-22", "total")
    keys = ["bg:{acme}:meta", "bg:journal", *(f"bg:{{acme}}:spend:{name}" for name in windows)]

    said = await store.wire.submit(SCRIPTS.inspect, keys, [])

    assert said[2:-2] == [1, b"org.spent", b"2", 0, 1, b"org.spent", b"1"]


async def test_look_writes_nothing(store: Store) -> None:
    """I4: not even the sequence."""
    await store.held(cents(1))
    before = await store.contents()

    await store.budgets.inspect(ORG)

    assert await store.contents() == before
