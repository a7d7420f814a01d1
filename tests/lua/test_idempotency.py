"""An idempotency key lives for a day, and a hold may live longer: the key is another's then.

IK1 an end changes or frees the idempotency key only where it is still the key of its reservation
"""

from collections.abc import Awaitable, Callable

import pytest

from gateway.domain.reservation import Ask, Held, Replayed
from tests.lua.store import ORG, Store, cents

_DAY_MS = 86_400_000
End = Callable[[Store, Ask, Held], Awaitable[object]]


async def _settle(store: Store, ask: Ask, held: Held) -> object:
    return await store.settle(ask, held, cents(3))


async def _release(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.release(ORG, ask.agent, ask.id, held.windows)


async def _expire(store: Store, ask: Ask, held: Held) -> object:
    return await store.budgets.expire(ORG, held.windows, [ask.id])


@pytest.mark.parametrize("end", [_settle, _release, _expire])
async def test_end_leaves_the_idempotency_key_of_another(store: Store, end: End) -> None:
    """IK1: the call that took the key after its day still runs, and its repeats are told so."""
    ask, held = await store.held(cents(5), idempotency_digest="i1", ttl_ms=_DAY_MS + 60_000)
    await store.at(_DAY_MS + 60_000)
    # The server's own clock has not moved.
    await store.client.delete("bg:{acme}:idem:i1")
    other, _ = await store.held(cents(5), idempotency_digest="i1")

    await end(store, ask, held)

    repeated = await store.reserve(cents(5), idempotency_digest="i1")
    assert repeated == Replayed(other.id, "b1", "held", 0)
