"""The permissions that the README names are enough for every call of the gateway."""

import hashlib
import re
from pathlib import Path

import pytest
from msgspec import structs
from redis.asyncio import Redis
from ulid import ULID

import gateway.budgets
from gateway.budgets.address import read_address
from gateway.budgets.changes import Settlement
from gateway.budgets.connection import Connection
from gateway.budgets.node import SCHEMA, Node, amend_marker, write_marker
from gateway.budgets.scripts import load_scripts
from gateway.budgets.verbs import Budgets
from gateway.domain.reservation import Ask, Held
from tests.servers import SCRIPT_SERVERS, Servers

_README = Path(gateway.budgets.__file__).with_name("README.md")
_RULE = re.compile(r"`(~bg:\* \+[^`]*)`")
_LIMITS = {"status": "active", "org.day.limit_cents": "5", "agent.*.day.limit_cents": "5"}


@pytest.mark.parametrize("name", SCRIPT_SERVERS)
async def test_documented_permissions_suffice(servers: Servers, name: str) -> None:
    """Reserve, settle, release, extend, authenticate, and the look at an agent, by that user."""
    server = servers.own_redis(name)
    match = _RULE.search(_README.read_text(encoding="utf-8"))
    assert match is not None
    async with Redis.from_url(server.url) as redis:
        rule = ["on", ">pw", "-@all", *match[1].split()]
        await redis.execute_command("ACL", "SETUSER", "gateway", *rule)
        await write_marker(redis, Node(SCHEMA, "1", ("day", "month", "total")))
        await redis.hset("bg:{acme}:limits", mapping=_LIMITS)
        await redis.hset("bg:{acme}:meta", "schema", "1")
    scripts = load_scripts()
    url = f"redis://gateway:pw@127.0.0.1:{server.port}"
    connection = Connection(read_address(url), scripts, 5_000)
    await connection.start()
    await connection.tried()

    said = await _calls(Budgets(connection, scripts, 60_000, 1_000_000))
    async with Redis.from_url(url, decode_responses=True) as own:
        noted = await amend_marker(own, {"lost": "run-1"}, ("checking",))
    problem = connection.problem
    await connection.close()

    assert problem == ""
    assert noted
    assert said == ["Held", "Held", "SETTLED", "Denied", "Held", "RELEASED", "UNKNOWN_KEY", "None"]


async def _calls(budgets: Budgets) -> list[str]:
    first, second = _ask(4_000_000), _ask(500_000)
    held = await budgets.reserve(first)
    assert isinstance(held, Held)
    more = await budgets.extend(structs.replace(first, amount_microcents=4_500_000), held.windows)
    ended = await budgets.settle(
        Settlement("acme", "researcher", first.id, held.windows, 4_500_000, b"{}")
    )
    denied = await budgets.reserve(_ask(9_000_000))
    other = await budgets.reserve(second)
    assert isinstance(other, Held)
    given = await budgets.release("acme", "researcher", second.id, other.windows)
    key = await budgets.authenticate("acme", "nobody")
    agent = await budgets.agent_json("acme", "researcher")
    kinds = [type(outcome).__name__ for outcome in (held, more, ended, denied, other)]
    kinds[2] = ended.status
    return [*kinds, given.status, key.status, str(agent)]


def _ask(amount_microcents: int) -> Ask:
    body, idem = "b" * 64, hashlib.sha256(str(amount_microcents).encode()).hexdigest()
    return Ask(
        str(ULID()),
        "acme",
        "researcher",
        amount_microcents,
        body_digest=body,
        idempotency_digest=idem,
    )
