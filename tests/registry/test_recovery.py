"""A Redis that has forgotten what it had confirmed is made to agree with the ledger.

The loss: every key is put back as it was some calls ago, journal and marks included.

R1 counters are what the ledger says, and the marker names this start of the server
R2 a key that was revoked since opens nothing again; one that was minted since opens
R3 limits are put back, with an alert, only where a loss is proven
R4 a credit that was applied since is applied once
R5 an org that was added since is there again
R6 one worker compares; another does nothing meanwhile
R7 counters that somebody has damaged do not keep the other orgs closed
R8 what is seen of the limits meanwhile is not kept for a rebuild
R9 a ledger that does not catch up opens nothing
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from ulid import ULID

from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.keys import NODE
from gateway.domain.reservation import Ask, Held
from gateway.domain.window import WindowKind
from gateway.errors import StoreNotReady
from gateway.registry import recovery
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.credits import give_credit
from gateway.registry.differences import compare
from gateway.registry.keys import mint_key, revoke_key
from gateway.registry.limits import set_limits
from gateway.registry.limits_mirror import mirror_limits
from gateway.registry.orgs import add_org
from gateway.registry.recovery import Recovered, recover, run_in_doubt
from tests.registry.rebuilding import AUTHOR, CENT, DESCRIPTION, ORGS, post_all, spend
from tests.until import until
from workers.journal_pump import JournalPump, PumpMetrics
from workers.outbox import deliver

RUN = "run-2"


@pytest.fixture
async def pump(clients: Clients, redis_url: str) -> AsyncIterator[JournalPump]:
    """Yield a pump of two orgs, which may spend 50 cents a month each, and a marked server."""
    for org in ORGS:
        await add_org(clients, org, "UTC", {"org.month.limit_cents": "50"}, AUTHOR)
        await add_agent(clients, org, "writer", DESCRIPTION)
    await clients.redis.hset(NODE, "life", "run-1")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        started = JournalPump(redis, clients.ledger, "w1", PumpMetrics(CollectorRegistry()))
        await started.start()
        yield started


async def remembered(redis_url: str) -> dict[bytes, tuple[bytes, int]]:
    """Return all that Redis has, as it could be put back."""
    async with Redis.from_url(redis_url) as redis:
        return {
            key: (await redis.dump(key), max(0, await redis.pttl(key)))
            async for key in redis.scan_iter()
        }


async def forget(redis_url: str, since: dict[bytes, tuple[bytes, int]]) -> None:
    """Put all of it back: what came since is lost."""
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
        for key, (value, ttl_ms) in since.items():
            await redis.restore(key, ttl_ms, value)


async def recovered(clients: Clients, budgets: Bookkeeping, pump: JournalPump) -> Recovered | None:
    """Recover while the loops of a worker run."""

    async def work() -> None:
        while True:
            await pump.step()
            await deliver(clients.ledger, budgets)

    working = asyncio.create_task(work())
    try:
        return await recover(clients, budgets, RUN, 0.0, 0.0)
    finally:
        working.cancel()
        await asyncio.wait([working])


async def spent(redis: Any, org: str) -> str:
    """Return what Redis has counted of an org in all."""
    found: str = await redis.hget(f"bg:{{{org}}}:spend:total", "org.spent")
    return found


async def test_counters_are_what_the_ledger_says(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """R1: what was booked and is forgotten is counted again, to the microcent."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    before = await remembered(redis_url)
    for _ in range(3):
        await spend(budgets, "acme", "writer", 2 * CENT + 2)
    await post_all(clients, pump)
    await forget(redis_url, before)
    assert await run_in_doubt(clients, RUN) == RUN

    found = await recovered(clients, budgets, pump)

    assert found == Recovered(2, ("acme",), ())
    assert await spent(clients.redis, "acme") == str(4 * CENT + 3)
    assert (await compare(clients, budgets, "acme", 5)).differences == ()
    assert await clients.redis.hmget(NODE, "life", "lost", "checking") == [RUN, None, None]
    assert await run_in_doubt(clients, RUN) == ""


async def test_server_that_has_forgotten_nothing_is_left_as_it_is(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """R1: with a call that still runs, and limits that nobody has seen yet."""
    await spend(budgets, "acme", "writer", 2 * CENT)
    assert isinstance(await budgets.reserve(Ask(str(ULID()), "acme", "writer", CENT)), Held)
    await clients.redis.hset("bg:{acme}:limits", "org.month.limit_cents", "7")

    found = await recovered(clients, budgets, pump)

    assert found == Recovered(2, (), ())
    assert await clients.redis.hget("bg:{acme}:limits", "org.month.limit_cents") == "7"
    held = await clients.redis.hget("bg:{acme}:spend:total", "org.held")
    assert held == str(CENT)


async def test_keys_are_those_of_postgres(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """R2: in both directions."""
    revoked = await mint_key(clients, "acme", ())
    before = await remembered(redis_url)
    minted = await mint_key(clients, "acme", ())
    await revoke_key(clients, "acme", revoked.key_id)
    await forget(redis_url, before)

    await recovered(clients, budgets, pump)

    digests = [hashlib.sha256(key.key.encode()).hexdigest() for key in (revoked, minted)]
    words = [(await budgets.authenticate("acme", digest)).status for digest in digests]
    assert words == ["UNKNOWN_KEY", "OK"]


@pytest.mark.parametrize("proof", ["counters below the ledger", "a gateway's word"])
async def test_limits_are_put_back_where_a_loss_is_proven(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str, proof: str
) -> None:
    """R3: a limit that was lowered before the loss is not what it was; an alert names it."""
    before = await remembered(redis_url)
    await set_limits(clients, "acme", {"org.month.limit_cents": "5"}, AUTHOR)
    if proof == "counters below the ledger":
        await spend(budgets, "acme", "writer", CENT)
        await post_all(clients, pump)
    await forget(redis_url, before)
    if proof == "a gateway's word":
        await clients.redis.hset(NODE, "lost", RUN)

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert found.restored == ("acme",)
    assert await clients.redis.hget("bg:{acme}:limits", "org.month.limit_cents") == "5"
    row = await clients.ledger.fetchrow("SELECT * FROM alert WHERE kind = 'limits_restored'")
    assert row is not None
    fields = orjson.loads(orjson.loads(row["detail"])["fields"])
    assert fields == {"org.month.limit_cents": ["50", "5"]}


@pytest.mark.parametrize("finished", [True, False])
async def test_credit_is_applied_once(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str, finished: bool
) -> None:
    """R4: one that Redis has forgotten, and one that it has not, whatever the outbox knows."""
    total: tuple[str, WindowKind, str] = ("org", "total", "")
    await give_credit(clients, budgets, "acme", total, 3 * CENT, AUTHOR)
    before = await remembered(redis_url)
    await give_credit(clients, budgets, "acme", total, 5 * CENT, AUTHOR)
    await post_all(clients, pump)
    if finished:
        await deliver(clients.ledger, budgets)
    await forget(redis_url, before)

    await recovered(clients, budgets, pump)

    assert await clients.redis.hget("bg:{acme}:spend:total", "org.credit") == str(8 * CENT)


async def test_forgotten_org_is_there_again(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """R5: with what it may spend and what it has spent."""
    before = await remembered(redis_url)
    await add_org(clients, "new", "UTC", {"org.total.limit_cents": "9"}, AUTHOR)
    await add_agent(clients, "new", "writer", DESCRIPTION)
    await spend(budgets, "new", "writer", 4 * CENT)
    await post_all(clients, pump)
    await forget(redis_url, before)
    await clients.redis.hset(NODE, "lost", RUN)

    found = await recovered(clients, budgets, pump)

    assert found == Recovered(3, (), ("new",))
    assert await spent(clients.redis, "new") == str(2 * CENT)
    assert await spend(budgets, "new", "writer", 7 * CENT)
    assert not await spend(budgets, "new", "writer", 7 * CENT)


async def test_one_worker_compares(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """R6: the other one hears that somebody does."""
    first = asyncio.create_task(recover(clients, budgets, RUN, 60.0, 60.0))

    async def is_signed() -> bool:
        return bool(await clients.redis.hget(NODE, "checking"))

    await until(is_signed, "the first worker's sign")

    assert await recover(clients, budgets, RUN, 0.0, 0.0) is None

    first.cancel()
    await asyncio.wait([first])
    assert await recovered(clients, budgets, pump) == Recovered(2, (), ())


async def test_damaged_org_does_not_keep_the_others_closed(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump, redis_url: str
) -> None:
    """R7: its own calls are refused by name; the others are repaired and open."""
    before = await remembered(redis_url)
    for org in ORGS:
        await spend(budgets, org, "writer", 2 * CENT)
    await post_all(clients, pump)
    await forget(redis_url, before)
    await clients.redis.hset("bg:{acme}:spend:total", "org.spent", "many")
    await clients.redis.hset("bg:{acme}:meta", "day.end", "soon")

    found = await recovered(clients, budgets, pump)

    assert found is not None
    assert found.repaired == ("evil",)
    assert await spent(clients.redis, "evil") == str(CENT)


async def test_limits_seen_meanwhile_are_not_kept(
    clients: Clients, pump: JournalPump, redis_url: str
) -> None:
    """R8: the watch would keep the old limit, and a recovery would find nothing to put back."""
    await mirror_limits(clients, ORGS)
    await clients.redis.hset(NODE, "life", (await clients.redis.info("server"))["run_id"])
    await clients.redis.hset("bg:{acme}:limits", "org.month.limit_cents", "5")
    await mirror_limits(clients, ORGS)

    await clients.redis.hset(NODE, "life", "run-1")
    await clients.redis.hset("bg:{acme}:limits", "org.month.limit_cents", "50")
    await mirror_limits(clients, ORGS)

    kept = await clients.ledger.fetchval("SELECT limits FROM limits_mirror WHERE org = 'acme'")
    assert orjson.loads(kept)["org.month.limit_cents"] == "5"


async def test_gateways_are_kept_waiting_for_a_time_only(
    clients: Clients, budgets: Bookkeeping, pump: JournalPump
) -> None:
    """R9: a worker whose ledger is stuck, and that knows of no loss, shows no more signs."""
    comparing = asyncio.create_task(recover(clients, budgets, RUN, 60.0, 0.7))

    began_s = asyncio.get_running_loop().time()
    await until(lambda: asyncio.get_running_loop().time() > began_s + 0.8, "its time to be over")
    last = await clients.redis.hget(NODE, "checking")
    await until(lambda: asyncio.get_running_loop().time() > began_s + 1.6, "time for more signs")

    assert last is not None
    assert await clients.redis.hget(NODE, "checking") == last
    assert not comparing.done()
    comparing.cancel()
    await asyncio.wait([comparing])


@pytest.mark.parametrize(
    ("run_id", "marker", "found"),
    [
        (RUN, {"life": "run-1"}, RUN),
        (RUN, {"life": RUN}, ""),
        (RUN, {"life": RUN, "lost": RUN}, RUN),
        (RUN, {"life": RUN, "lost": "run-1"}, ""),
        (RUN, {"life": "run-1", "ready": "0"}, ""),
        ("", {"life": "run-1"}, ""),
        ("", {"life": "run-1", "lost": RUN}, RUN),
    ],
)
async def test_start_in_doubt(
    clients: Clients, run_id: str, marker: dict[str, str], found: str
) -> None:
    """R1: one that was not compared, or that has lost something; also where INFO is forbidden."""
    await clients.redis.hset(NODE, mapping=marker)

    assert await run_in_doubt(clients, run_id) == found


async def test_nothing_is_opened_before_the_journal_is_booked(
    clients: Clients,
    budgets: Bookkeeping,
    pump: JournalPump,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """R9: the ledger would not know what the counters must be."""
    await spend(budgets, "acme", "writer", CENT)
    monkeypatch.setattr(recovery, "_WAIT_S", 0.2)

    with pytest.raises(StoreNotReady, match="has not booked the journal"):
        await recover(clients, budgets, RUN, 0.0, 0.0)

    assert await clients.redis.hget(NODE, "life") == "run-1"
    assert pump is not None
