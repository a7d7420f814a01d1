"""Agents and keys between the two stores.

A1 a description that no gateway could use is refused, and nothing is written
A2 Redis holds exactly the agents of Postgres, after every call
A3 a removed agent is gone, and its id can be added again
A4 a rotated key opens the same and ends the old one; a key that is revoked stays revoked
"""

import asyncio
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from gateway.errors import BadRequest
from gateway.registry.agents import (
    add_agent,
    differing_members,
    find_agent,
    list_agents,
    mirror_agents,
    remove_agent,
)
from gateway.registry.clients import Clients
from gateway.registry.keys import list_keys, mint_key, revoke_key, rotate_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.until import until

HASH = "bg:{acme}:agents"
WAITS = (
    "SELECT count(*) > 0 FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
FLAT = {"upstream": "http://agent.test/base", "price": {"mode": "flat", "cents": "2"}}


@pytest.fixture
async def acme(clients: Clients) -> Clients:
    """Return both stores with the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))
    return clients


async def test_added_agent_is_in_both_stores(acme: Clients) -> None:
    """A2: what was given is what Redis and Postgres have, and there was nothing before."""
    before = await add_agent(acme, "acme", "researcher", FLAT)

    assert before is None
    assert await find_agent(acme, "acme", "researcher") == FLAT
    assert orjson.loads(await acme.redis.hget(HASH, "researcher")) == FLAT


async def test_added_again_replaces_the_whole_description(acme: Clients) -> None:
    """A2: a member that is not named any more is gone, and the one before is returned."""
    await add_agent(acme, "acme", "researcher", {**FLAT, "dialect": "openai"})

    before = await add_agent(acme, "acme", "researcher", FLAT)

    assert before == {**FLAT, "dialect": "openai"}
    assert orjson.loads(await acme.redis.hget(HASH, "researcher")) == FLAT


@pytest.mark.parametrize(
    ("org", "agent", "change", "named"),
    [
        ("nobody", "researcher", {}, "org nobody"),
        ("acme", "a b", {}, "agent is 'a b'"),
        ("acme", "researcher", {"upstream": "http://user:secret@agent.test"}, "upstream"),
        ("acme", "researcher", {"price": {"mode": "flat"}}, r"price\.cents"),
        ("acme", "researcher", {"headers": {"content-length": "5"}}, r"headers\.content-length"),
    ],
)
async def test_unusable_agent_is_not_added(
    acme: Clients, org: str, agent: str, change: dict[str, object], named: str
) -> None:
    """A1: what is wrong is named without its secrets, and neither store has heard of it."""
    with pytest.raises(BadRequest, match=named) as refused:
        await add_agent(acme, org, agent, {**FLAT, **change})

    assert "secret" not in str(refused.value)
    assert await acme.redis.exists(HASH) == 0
    assert await acme.ledger.fetchval("SELECT count(*) FROM agent") == 0


async def test_removed_agent_is_gone_and_may_come_back(acme: Clients) -> None:
    """A3: no store offers it, others stay, and adding it again finds nothing before."""
    for agent in ("researcher", "writer"):
        await add_agent(acme, "acme", agent, FLAT)

    await remove_agent(acme, "acme", "researcher")

    assert [found.agent for found in await list_agents(acme, "acme")] == ["writer"]
    assert await acme.redis.hkeys(HASH) == ["writer"]
    with pytest.raises(BadRequest, match="agent researcher"):
        await find_agent(acme, "acme", "researcher")
    assert await add_agent(acme, "acme", "researcher", FLAT) is None
    assert sorted(await acme.redis.hkeys(HASH)) == ["researcher", "writer"]


async def test_removal_that_redis_missed_is_mended_by_repeating_it(acme: Clients) -> None:
    """A2: the agent is not known, and now Redis agrees."""
    await add_agent(acme, "acme", "researcher", FLAT)
    await remove_agent(acme, "acme", "researcher")
    await acme.redis.hset(HASH, "researcher", "{}")

    with pytest.raises(BadRequest, match="not known"):
        await remove_agent(acme, "acme", "researcher")

    assert await acme.redis.exists(HASH) == 0


async def test_agents_that_redis_lost_are_mirrored(acme: Clients) -> None:
    """A2: they come back from Postgres, and one that Postgres does not know goes."""
    await add_agent(acme, "acme", "researcher", FLAT)
    before = await acme.redis.hgetall(HASH)
    await acme.redis.delete(HASH)
    await acme.redis.hset(HASH, "forged", "{}")

    await mirror_agents(acme, "acme")

    assert await acme.redis.hgetall(HASH) == before


async def test_mirrors_of_one_org_wait_for_each_other(acme: Clients) -> None:
    """A2: who holds the org sees no other mirror write before it has ended."""
    await add_agent(acme, "acme", "researcher", FLAT)
    await acme.redis.delete(HASH)
    async with acme.ledger.acquire() as connection:
        ours = connection.transaction()
        await ours.start()
        await connection.execute("SELECT FROM org WHERE org = 'acme' FOR NO KEY UPDATE")
        waiting = asyncio.create_task(mirror_agents(acme, "acme"))
        await until(lambda: acme.ledger.fetchval(WAITS), "the other mirror to wait")
        written_too_early = await acme.redis.exists(HASH)
        await ours.rollback()

    await waiting
    assert written_too_early == 0
    assert await acme.redis.hkeys(HASH) == ["researcher"]


def test_differing_members_are_named_one_by_one() -> None:
    """Members of tables too, in both directions; what is the same is not named."""
    before = {**FLAT, "dialect": "openai", "headers": {"x-a": "1", "x-b": "2"}}
    after = {**FLAT, "price": {"mode": "flat", "cents": "3"}, "headers": {"x-b": "2"}}

    assert differing_members(before, after) == ["dialect", "headers.x-a", "price.cents"]
    assert differing_members(before, before) == []


async def test_rotated_key_opens_the_same_for_as_long(acme: Clients) -> None:
    """A4: agents and span of life go over, and the old key is revoked."""
    expires_at = datetime.now(UTC) + timedelta(days=30)
    old = await mint_key(acme, "acme", ["researcher", "writer"], expires_at)

    new = await rotate_key(acme, "acme", old.key_id)

    revoked, active = await list_keys(acme, "acme")
    assert (revoked.key_id, revoked.status) == (old.key_id, "revoked")
    assert (active.key_id, active.status) == (new.key_id, "active")
    assert active.agents == ("researcher", "writer")
    assert active.expires_at is not None
    assert revoked.expires_at is not None
    life = revoked.expires_at - revoked.created_at
    assert active.expires_at - active.created_at == life
    states = [record.split("|")[:2] for record in await acme.redis.hvals("bg:{acme}:keys")]
    assert sorted(states) == sorted([[old.key_id, "revoked"], [new.key_id, "active"]])


@pytest.mark.parametrize(("life_s", "grace_s", "left_s"), [(None, 60, 60), (30, 60, 30)])
async def test_old_key_lives_on_for_its_grace(
    acme: Clients, life_s: int | None, grace_s: int, left_s: int
) -> None:
    """A4: it stays active and expires after the grace, or earlier where it would have anyway."""
    now = datetime.now(UTC)
    expires_at = None if life_s is None else now + timedelta(seconds=life_s)
    old = await mint_key(acme, "acme", [], expires_at)

    new = await rotate_key(acme, "acme", old.key_id, grace_s)

    kept = {key.key_id: key for key in await list_keys(acme, "acme")}
    end = kept[old.key_id].expires_at
    assert kept[old.key_id].status == "active"
    assert end is not None
    assert abs((end - now).total_seconds() - left_s) < 10
    assert (kept[new.key_id].expires_at is None) == (life_s is None)


async def test_revoked_key_is_not_rotated(acme: Clients) -> None:
    """A4: what was ended on purpose makes no new key, and an unknown one neither."""
    old = await mint_key(acme, "acme", [])
    await revoke_key(acme, "acme", old.key_id)

    for key_id, named in ((old.key_id, "is revoked"), ("nope", "key nope")):
        with pytest.raises(BadRequest, match=named):
            await rotate_key(acme, "acme", key_id)

    assert len(await list_keys(acme, "acme")) == 1
