"""What Redis alone knows of an org is kept in Postgres, and never what a loss has left of it.

L1 limits by hand and by command, billing and windows are kept; what is the same is not written
L2 a Redis without its marker, an org without its mark, and another epoch are not kept
L3 a look that was older does not replace one that was younger
"""

import orjson
import pytest

from gateway.budgets.keys import NODE
from gateway.errors import StoreNotReady
from gateway.ledger.epochs import Epoch, begin_epoch
from gateway.registry.clients import Clients
from gateway.registry.limits import set_limits, unset_limits
from gateway.registry.limits_mirror import keep_limits, look_at_limits, mirror_limits
from gateway.registry.orgs import add_org
from tests.registry.rebuilding import AUTHOR

LIMITS, META = "bg:{acme}:limits", "bg:{acme}:meta"
FIRST = {"status": "active", "timezone": "UTC", "org.month.limit_cents": "5"}


@pytest.fixture
async def acme(clients: Clients) -> Clients:
    """Return both stores with the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "5"}, AUTHOR)
    return clients


async def kept(clients: Clients, column: str = "limits") -> dict[str, str]:
    """Return what is kept of acme."""
    found: dict[str, str] = orjson.loads(
        await clients.ledger.fetchval(f"SELECT {column} FROM limits_mirror WHERE org = 'acme'")
    )
    return found


async def test_limits_are_kept_whoever_sets_them(acme: Clients) -> None:
    """L1: an org that is added, a command, and a hand; a field that goes is gone."""
    assert await kept(acme) == FIRST
    await set_limits(acme, "acme", {"org.rpm": "60"}, AUTHOR)
    assert await kept(acme) == {**FIRST, "org.rpm": "60"}
    await unset_limits(acme, "acme", ["org.rpm"], AUTHOR)
    assert await kept(acme) == FIRST

    await acme.redis.hset(LIMITS, mapping={"org.rpm": "7\0", "status": "frozen"})
    await acme.redis.hset(META, mapping={"billing_status": "frozen", "day.id": "2026-11-29"})
    await mirror_limits(acme, ["acme"])

    assert await kept(acme) == {**FIRST, "org.rpm": "7\ufffd", "status": "frozen"}
    assert await kept(acme, "meta") == {"billing_status": "frozen", "day.id": "2026-11-29"}


async def test_what_is_the_same_is_not_written(acme: Clients) -> None:
    """L1: ten thousand orgs are looked at every five seconds."""
    at = await acme.ledger.fetchval("SELECT at FROM limits_mirror")

    await mirror_limits(acme, ["acme"])

    assert await acme.ledger.fetchval("SELECT at FROM limits_mirror") == at


@pytest.mark.parametrize("loss", ["emptied", "not ready", "no mark", "another epoch"])
async def test_what_a_loss_has_left_is_not_kept(acme: Clients, loss: str) -> None:
    """L2: the limits of before are what a rebuild needs."""
    await acme.redis.hset(LIMITS, "org.month.limit_cents", "999")
    if loss == "emptied":
        await acme.redis.flushall()
    elif loss == "not ready":
        await acme.redis.hset(NODE, "ready", "0")
    elif loss == "no mark":
        await acme.redis.hdel(META, "schema")
    else:
        async with acme.ledger.acquire() as connection:
            await begin_epoch(connection, Epoch("another", "day,month,total", 0), "rebuild")

    await mirror_limits(acme, ["acme"])

    assert await kept(acme) == FIRST


async def test_older_look_replaces_no_younger_one(acme: Clients) -> None:
    """L3: a slow worker has seen what is no longer so."""
    await acme.redis.hset(LIMITS, "org.rpm", "1")
    older = await look_at_limits(acme, ["acme"])
    await acme.redis.hset(LIMITS, "org.rpm", "2")
    await mirror_limits(acme, ["acme"])

    await keep_limits(acme, older)

    assert (await kept(acme))["org.rpm"] == "2"


async def test_limits_are_not_changed_in_a_redis_that_was_lost(acme: Clients) -> None:
    """L2: what is missing there would be taken for a first limit, and thaw a frozen org."""
    await acme.redis.flushall()

    with pytest.raises(StoreNotReady, match="rebuild"):
        await add_org(acme, "acme", "UTC", {"org.month.limit_cents": "5"}, AUTHOR)
    with pytest.raises(StoreNotReady, match="rebuild"):
        await set_limits(acme, "acme", {"status": "active"}, AUTHOR)

    assert await acme.redis.dbsize() == 0
    assert await acme.ledger.fetchval("SELECT count(*) FROM limit_change") == 3
