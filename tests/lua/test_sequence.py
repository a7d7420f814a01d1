"""Every script answers with the sequence of its org and the instant, so that lost writes show.

Q1 the last two fields of every reply are the sequence, after this call, and the server's time
Q2 each writing verb adds one to the sequence
"""

from typing import Any

import pytest
from ulid import ULID

from gateway.budgets.changes import Credit
from tests.lua.calls import TOTAL, call, hold
from tests.lua.store import ORG, Store, cents

WORDS: list[tuple[str, bytes]] = [
    ("reserve", b"HELD"),
    ("settle", b"SETTLED"),
    ("release", b"RELEASED"),
    ("resume", b"HELD"),
    ("expire", b"EXPIRED"),
    ("extend", b"HELD"),
    ("credit", b"OK"),
    ("correct", b"OK"),
    ("repair", b"OK"),
    ("inspect", b"OK"),
    ("authenticate", b"OK"),
]


@pytest.mark.parametrize(("verb", "word"), WORDS)
async def test_reply_ends_with_sequence_and_time(store: Store, verb: str, word: bytes) -> None:
    """Q1: of a call with nothing wrong."""
    await store.limits(TOTAL)
    own_id = store.id() if verb == "reserve" else await hold(store)
    await store.at(60_000)

    said: list[Any] = await call(
        store, verb, own_id, **({"id": own_id} if verb == "expire" else {})
    )

    seq = int(await store.client.hget("bg:{acme}:meta", "seq"))
    assert (said[0], said[-2:]) == (word, [seq, store.now_ms])


async def test_sequence_rises_with_every_write(store: Store) -> None:
    """Q2: a store that lost writes is found by its sequence: each writing verb adds one."""
    ask, held = await store.held(cents(1))
    await store.settle(ask, held, 0)
    await store.budgets.credit(Credit(str(ULID()), ORG, "org", "total", "", 1))
    await store.reserve(cents(5_000))

    # The denial wrote its mark, so it counts as well.
    assert await store.client.hget("bg:{acme}:meta", "seq") == b"4"
