"""Orgs, keys, limits and credits: Postgres first, then Redis, and never a gate that stands open.

G1 an org is added as a whole: every call is refused until its limits and its mark are there
G2 what a crash leaves between the two stores is mended by doing it again
G3 a key is told once, stored as a digest, and revoked for the next request
G4 a limit is checked, recorded with who and why, and obeyed by the next request
G5 a credit is one row, one question to the outbox, and applied once
"""

import hashlib
import re

import pytest
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.domain.reservation import Ask, Denied, Held, Refused
from gateway.errors import BadRequest
from gateway.registry.clients import Clients
from gateway.registry.credits import ask_credit
from gateway.registry.keys import mint_key, mirror_keys, revoke_key
from gateway.registry.limits import Author, check_limits, set_limits, unset_limits
from gateway.registry.orgs import add_org, list_orgs, set_status
from workers.outbox import deliver

AUTHOR = Author("tester", "a test")
MONTH = {"org.month.limit_cents": "10"}
CENT = 1_000_000


def ask(key: str, amount_cents: int) -> Ask:
    """Return an ask under a key."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Ask(str(ULID()), "acme", "researcher", amount_cents * CENT, digest)


async def test_added_org_spends_within_its_limit(clients: Clients, budgets: Bookkeeping) -> None:
    """G1 G3: a new org with a new key is held to its limit by the real scripts."""
    await add_org(clients, "acme", "Europe/Berlin", MONTH, AUTHOR)
    minted = await mint_key(clients, "acme", ["researcher"])

    assert isinstance(await budgets.reserve(ask(minted.key, 11)), Denied)
    assert isinstance(await budgets.reserve(ask(minted.key, 10)), Held)
    assert [tuple(org) for org in await list_orgs(clients)] == [
        ("acme", "Europe/Berlin", "none", "active")
    ]


@pytest.mark.parametrize(
    ("org", "zone", "limits", "field"),
    [
        ("a b", "UTC", MONTH, "org"),
        ("acme", "Mars/Olympus", MONTH, "timezone"),
        ("acme", "UTC", {}, "org.<window>.limit_cents"),
        ("acme", "UTC", {"agent.*.day.limit_cents": "5"}, "org.<window>.limit_cents"),
        ("acme", "UTC", {"org.month.limit_cents": "1e3"}, "org.month.limit_cents"),
        ("acme", "UTC", {**MONTH, "org.week.limit_cents": "5"}, "org.week.limit_cents"),
    ],
)
async def test_org_with_bad_input_is_not_added(
    clients: Clients, org: str, zone: str, limits: dict[str, str], field: str
) -> None:
    """G1: the field is named, and Redis knows nothing of the org."""
    with pytest.raises(BadRequest, match=re.escape(field)):
        await add_org(clients, org, zone, limits, AUTHOR)

    assert await clients.redis.keys("bg:{*") == []


async def test_org_half_added_is_mended(clients: Clients, budgets: Bookkeeping) -> None:
    """G2: with limits and no mark every call is refused; adding it again opens it, once."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    minted = await mint_key(clients, "acme", [])
    await clients.redis.delete("bg:{acme}:meta")
    half = await budgets.reserve(ask(minted.key, 1))

    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "99"}, AUTHOR)

    assert half == Refused("COLD")
    assert isinstance(await budgets.reserve(ask(minted.key, 11)), Denied)


async def test_key_is_told_once(clients: Clients) -> None:
    """G3: neither store holds the key's text or its secret."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    minted = await mint_key(clients, "acme", [])

    secret = minted.key.rpartition("_")[2]
    stored = str(await clients.ledger.fetch("SELECT * FROM api_key"))
    stored += str(await clients.redis.hgetall("bg:{acme}:keys"))
    assert minted.key_id in stored
    assert secret not in stored


async def test_revoked_key_is_refused_at_once(clients: Clients, budgets: Bookkeeping) -> None:
    """G3: the next request with it is refused, and the other key goes on."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    first, second = [await mint_key(clients, "acme", []) for _ in range(2)]

    await revoke_key(clients, "acme", first.key_id)

    assert await budgets.reserve(ask(first.key, 1)) == Refused("UNKNOWN_KEY")
    assert isinstance(await budgets.reserve(ask(second.key, 1)), Held)
    with pytest.raises(BadRequest, match="key nope"):
        await revoke_key(clients, "acme", "nope")


async def test_keys_that_redis_lost_are_mirrored(clients: Clients) -> None:
    """G2: keys come back from Postgres, and one that Postgres does not know goes."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    await mint_key(clients, "acme", [])
    before = await clients.redis.hgetall("bg:{acme}:keys")
    await clients.redis.delete("bg:{acme}:keys")
    await clients.redis.hset("bg:{acme}:keys", "forged", "k|active||*")

    await mirror_keys(clients, "acme")

    assert await clients.redis.hgetall("bg:{acme}:keys") == before


async def test_limit_change_is_recorded(clients: Clients) -> None:
    """G4: who, why, from what to what; a value that is there already is no change."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)

    changed = await set_limits(clients, "acme", {"org.month.limit_cents": "20"}, AUTHOR)
    again = await set_limits(clients, "acme", {"org.month.limit_cents": "20"}, AUTHOR)

    assert changed == {"org.month.limit_cents": ("10", "20")}
    assert again == {}
    row = (await clients.ledger.fetch("SELECT * FROM limit_change ORDER BY id"))[-1]
    assert (row["old_value"], row["new_value"], row["actor"], row["cause"]) == (
        "10",
        "20",
        "tester",
        "a test",
    )


async def test_one_bad_field_sets_none(clients: Clients) -> None:
    """G4: a change with a malformed field changes nothing at all."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)

    with pytest.raises(BadRequest, match=r"org\.day\.limit_cents is 'nan'"):
        await set_limits(
            clients, "acme", {"status": "frozen", "org.day.limit_cents": "nan"}, AUTHOR
        )

    assert await clients.redis.hget("bg:{acme}:limits", "status") == "active"


async def test_last_limit_of_an_org_stays(clients: Clients) -> None:
    """G4: what would refuse every call cannot be removed by mistake."""
    await add_org(clients, "acme", "UTC", {**MONTH, "org.day.limit_cents": "5"}, AUTHOR)

    assert await unset_limits(clients, "acme", ["org.day.limit_cents"], AUTHOR) == [
        "org.day.limit_cents"
    ]
    for field in ("org.month.limit_cents", "status"):
        with pytest.raises(BadRequest, match="must stay"):
            await unset_limits(clients, "acme", [field], AUTHOR)


async def test_check_tells_what_operators_set_wrong(clients: Clients) -> None:
    """G4: what was set past the command line is found, field by field."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    await clients.redis.hset(
        "bg:{acme}:limits",
        mapping={"org.day.limit_cent": "5", "on_expiry": "x", "org.day.override_cents": "5"},
    )
    await clients.redis.hdel("bg:{acme}:limits", "status", "org.month.limit_cents")

    assert set(await check_limits(clients, "acme")) == {
        "org.day.limit_cent",
        "on_expiry",
        "org.day.override_cents",
        "status",
        "org.<window>.limit_cents",
    }


async def test_frozen_org_is_refused_at_once(clients: Clients, budgets: Bookkeeping) -> None:
    """G4: freeze and thaw are obeyed by the next request."""
    await add_org(clients, "acme", "UTC", MONTH, AUTHOR)
    minted = await mint_key(clients, "acme", [])

    await set_status(clients, "acme", "frozen", AUTHOR)
    frozen = await budgets.reserve(ask(minted.key, 1))
    await set_status(clients, "acme", "active", AUTHOR)

    assert frozen == Refused("FROZEN", "org")
    assert isinstance(await budgets.reserve(ask(minted.key, 1)), Held)


async def test_credit_is_applied_once(clients: Clients, budgets: Bookkeeping) -> None:
    """G5: applied by the command and again by the outbox, it counts once."""
    await add_org(clients, "acme", "UTC", {"org.total.limit_cents": "10"}, AUTHOR)
    minted = await mint_key(clients, "acme", [])
    change = await ask_credit(clients, "acme", ("org", "total", ""), 5 * CENT, AUTHOR)

    assert await budgets.credit(change) == "OK"
    assert await deliver(clients.ledger, budgets) == 1
    assert isinstance(await budgets.reserve(ask(minted.key, 16)), Denied)
    assert isinstance(await budgets.reserve(ask(minted.key, 15)), Held)
