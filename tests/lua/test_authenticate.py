"""authenticate.lua: whether a key may be used, and for an agent. It has no argument to refuse.

A1 OK, UNKNOWN_KEY, KEY_EXPIRED or AGENT_NOT_ALLOWED, as reserve would say
A2 an org that the store does not know is COLD, whatever the key
A3 no digest means that the network is trusted
A4 a clock that steps back revives no key
A5 nothing is written
A6 what a marker says is believed only where it is the one that was seen, and nothing is in doubt
"""

import pytest

from gateway.budgets.keys import NODE
from gateway.domain.reservation import KeyStatus
from tests.lua.calls import call, changed
from tests.lua.store import KEY_DIGEST, ORG, Store


@pytest.mark.parametrize(
    ("record", "agent", "status"),
    [
        ("k1|active||*", "", KeyStatus("OK", "k1", "*")),
        ("k1|active||writer", "", KeyStatus("OK", "k1", "writer")),
        ("k1|active||writer", "researcher", KeyStatus("AGENT_NOT_ALLOWED")),
        ("k1|revoked||*", "", KeyStatus("UNKNOWN_KEY")),
        ("k1|active|1|*", "", KeyStatus("KEY_EXPIRED")),
    ],
)
async def test_authenticate_tells_of_a_key(
    store: Store, record: str, agent: str, status: KeyStatus
) -> None:
    """A1: the status of a key before a large body is read."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, record)

    assert await store.budgets.authenticate(ORG, KEY_DIGEST, agent) == status


@pytest.mark.parametrize(
    ("record", "agent", "status"),
    [
        ("k1|active|2142504000000|*", "", KeyStatus("KEY_EXPIRED")),
        ("k1|active|2142504000001|*", "", KeyStatus("OK", "k1", "*")),
        ("k1|active|0|*", "", KeyStatus("OK", "k1", "*")),
        ("k1|active|nan|*", "", KeyStatus("UNKNOWN_KEY")),
        ("k1|active|1|writer", "researcher", KeyStatus("KEY_EXPIRED")),
        ("k1|revoked|1|writer", "researcher", KeyStatus("UNKNOWN_KEY")),
        ("k1|active||writer,researcher", "researcher", KeyStatus("OK", "k1", "writer,researcher")),
        ("k1|active||writer", "write", KeyStatus("AGENT_NOT_ALLOWED")),
        ("k1|active||", "researcher", KeyStatus("AGENT_NOT_ALLOWED")),
        ("garbage", "", KeyStatus("UNKNOWN_KEY")),
        ("", "", KeyStatus("UNKNOWN_KEY")),
    ],
)
async def test_first_reason_is_told(
    store: Store, record: str, agent: str, status: KeyStatus
) -> None:
    """A1: at its instant a key has expired; an agent is a whole word of the list."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, record)

    assert await store.budgets.authenticate(ORG, KEY_DIGEST, agent) == status


async def test_digest_that_nobody_has_is_unknown(store: Store) -> None:
    """A1: of an org that is known."""
    assert await store.budgets.authenticate(ORG, "0" * 64) == KeyStatus("UNKNOWN_KEY")


@pytest.mark.parametrize("digest", [KEY_DIGEST, "0" * 64, ""])
async def test_unknown_org_is_cold(store: Store, digest: str) -> None:
    """A2: its keys may be there already; without its meta none of them opens anything."""
    await store.client.delete("bg:{acme}:meta")

    assert await store.budgets.authenticate(ORG, digest) == KeyStatus("COLD")


async def test_trusted_network_needs_no_key(store: Store) -> None:
    """A3: any agent, and no key id."""
    assert await store.budgets.authenticate(ORG, "", "researcher") == KeyStatus("OK", "", "*")


async def test_clock_that_steps_back_revives_no_key(store: Store) -> None:
    """A4: the latest instant that the org has seen counts, and is told."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, f"k1|active|{store.now_ms + 5}|*")
    await store.client.hset("bg:{acme}:meta", "now", store.now_ms + 5)

    said = await call(store, "authenticate")

    assert (said[0], said[-1]) == (b"KEY_EXPIRED", store.now_ms + 5)


@pytest.mark.parametrize("now", ["inf", "1e15", "nan"])
async def test_clock_that_is_none_ends_no_key(store: Store, now: str) -> None:
    """A4: whoever wrote it, it is no instant, and the key lives on."""
    await store.client.hset("bg:{acme}:keys", KEY_DIGEST, f"k1|active|{store.now_ms + 5}|*")
    await store.client.hset("bg:{acme}:meta", "now", now)

    said = await call(store, "authenticate")

    assert (said[0], said[-1]) == (b"OK", store.now_ms)


@pytest.mark.parametrize("org", [ORG, "globex"])
async def test_question_writes_nothing(store: Store, org: str) -> None:
    """A5: neither for an org that is known nor for one that is not."""
    before = await store.contents()

    await store.budgets.authenticate(org, KEY_DIGEST, "researcher")

    assert changed(before, await store.contents()) == set()


async def test_marker_of_an_unseen_epoch_is_not_believed(store: Store) -> None:
    """A6: a rebuild has begun, and what it has not written yet is no unknown agent or org."""
    await store.client.hset(NODE, mapping={"ready": "1", "epoch": store.wire.epoch})
    assert await store.budgets.is_marked()
    await store.client.hset(NODE, "epoch", "another")
    assert not await store.budgets.is_marked()
    store.wire.problem = "Redis was started again."
    await store.client.hset(NODE, "epoch", store.wire.epoch)
    assert not await store.budgets.is_marked()
