"""release.lua: a hold is given back, and a reserve that comes after its release holds nothing.

L1 everything is given back in every window, and nothing is spent
L2 what has ended stays as it ended: DONE with its state and cost, and nothing changes
L3 an unknown id is VOID: its reserve, if it still comes, finds it ended
L4 other windows or another idempotency key than the hold has are answered by its own: WINDOWS
L5 the idempotency key is free again, where it was the key of this hold
L6 the journal is not written
L7 how it ended is kept for 15 minutes
L8 a malformed argument is named, and nothing changes
L9 nothing but this reservation and its counters is touched

Keys that somebody has damaged: test_damaged.py. Full memory: test_full_memory.py.
"""

import pytest

from gateway.domain.reservation import Finished, Held
from tests.lua.calls import call, changed, hold, of_a_hold
from tests.lua.store import ORG, Store, cents

WINDOWS = "day:2037-11-22,month:2037-11,total"


async def test_release_gives_everything_back(store: Store) -> None:
    """L1: nothing is held or spent, the open count falls, and a repeat is DONE."""
    ask, held = await store.held(cents(5))

    first = await store.budgets.release(ORG, ask.agent, ask.id, held.windows)
    again = await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert (first.status, first.state) == ("RELEASED", "released")
    assert (again.status, again.state) == ("DONE", "released")
    assert await store.spend() == {}
    assert await store.client.hget("bg:{acme}:rate", "agent.researcher.open") == b"0"
    assert await store.journal() == []


async def test_release_gives_back_to_the_agent_that_reserved(store: Store) -> None:
    """L1: a release that names another agent leaves that one's counters as they are."""
    own_id = await hold(store)

    await call(store, "release", own_id, agent="writer")

    assert await store.spend() == {}
    assert await store.client.hget("bg:{acme}:rate", "agent.researcher.open") == b"0"


@pytest.mark.parametrize(
    ("verb", "state", "cost"),
    [("settle", b"settled", b"4"), ("expire", b"expired", b"5"), ("release", b"released", b"0")],
)
async def test_release_of_what_has_ended_is_done(
    store: Store, verb: str, state: bytes, cost: bytes
) -> None:
    """L2: what was charged stays charged."""
    own_id = await hold(store)
    await store.at(60_000)
    await call(store, verb, own_id, **({"id": own_id} if verb == "expire" else {}))
    before = await store.contents()

    said = await call(store, "release", own_id)

    assert said[:3] == [b"DONE", state, cost]
    assert await store.contents() == before


async def test_release_that_came_first_meets_its_reserve(store: Store) -> None:
    """L3: a reserve that was still in a socket when it was released holds nothing."""
    ask = store.ask(cents(5))

    voided = await store.budgets.release(ORG, ask.agent, ask.id, "")
    outcome = await store.budgets.reserve(ask)

    assert voided.status == "VOID"
    assert isinstance(outcome, Finished)
    assert outcome.state == "void"
    assert await store.spend() == {}


async def test_release_in_an_unknown_org_makes_no_org(store: Store) -> None:
    """L3: the end is all that it leaves: the org stays unknown to a reserve."""
    own_id, before = store.id(), await store.contents()

    said = await call(store, "release", own_id, org="globex")

    assert said[:3] == [b"VOID", b"void", b"0"]
    left = {f"{{globex}}:done:{own_id}", "{globex}:meta seq"}
    assert changed(before, await store.contents()) == left
    assert (await call(store, "reserve", own_id, org="globex"))[0] == b"COLD"


@pytest.mark.parametrize("change", [{"idem_digest": ""}, {"windows": "day:2037-11-22"}])
async def test_release_is_told_what_its_hold_has(store: Store, change: dict[str, str]) -> None:
    """L4: of an open hold, and nothing has ended."""
    own_id = await hold(store, idem_digest="i1")
    before = await store.contents()

    said = await call(store, "release", own_id, **{"idem_digest": "i1", **change})

    assert said[:3] == [b"WINDOWS", b"total", b"i1"]
    assert await store.contents() == before


async def test_release_frees_the_idempotency_key(store: Store) -> None:
    """L5: what was released may be tried again under the same idempotency key."""
    ask, held = await store.held(cents(5), idempotency_digest="i1")
    await store.budgets.release(ORG, ask.agent, ask.id, held.windows)

    assert isinstance(await store.reserve(cents(5), idempotency_digest="i1"), Held)


async def test_void_release_leaves_the_idempotency_key_of_another(store: Store) -> None:
    """L5: the call that has the key goes on, and a repeat under the key still meets it."""
    own_id = await hold(store, idem_digest="i1")

    await call(store, "release", store.id(), idem_digest="i1")

    assert await store.client.get("bg:{acme}:idem:-") == f"{own_id}|b1|held|0".encode()


@pytest.mark.parametrize(("is_held", "word"), [(True, b"RELEASED"), (False, b"VOID")])
async def test_release_writes_no_entry(store: Store, is_held: bool, word: bytes) -> None:
    """L6: nothing was spent, so the ledger has nothing to book."""
    own_id = await hold(store) if is_held else store.id()

    assert (await call(store, "release", own_id))[0] == word
    assert await store.journal() == []


@pytest.mark.parametrize("is_held", [True, False])
async def test_end_of_a_release_is_kept_15_minutes(store: Store, is_held: bool) -> None:
    """L7: be it released or void, a repeat is known so long, and the key leaves by itself."""
    own_id = await hold(store) if is_held else store.id()

    await call(store, "release", own_id)

    assert 890 < await store.client.ttl(f"bg:{{acme}}:done:{own_id}") <= 900


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, "") for name in ("id", "reserved_ms", "org", "agent", "windows")),
        *((name, "a|b") for name in ("id", "org", "agent", "windows", "idem_digest")),
        ("reserved_ms", "1x"),
    ],
)
async def test_release_names_a_malformed_argument(store: Store, name: str, value: str) -> None:
    """L8: one argument is wrong, and the answer is which; what is held stays held."""
    own_id = await hold(store)
    before = await store.contents()

    said = await call(store, "release", own_id, **{name: value})

    assert said[:2] == [b"BADARG", name.encode()]
    assert await store.contents() == before


async def test_release_touches_its_reservation_only(store: Store) -> None:
    """L9: not the hold of another, a credit, the limits, or the windows that run."""
    await store.held(1)
    own_id, _ = await hold(store), await hold(store)
    await call(store, "credit", store.id())
    before = await store.contents()

    await call(store, "release", own_id)

    assert changed(before, await store.contents()) == of_a_hold(own_id) | {f"done:{own_id}"}
