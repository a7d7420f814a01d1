"""Who writes what Redis has of an org waits for who changes it, and reads after that.

K1 a key that is revoked meanwhile opens nothing again, whoever writes the keys
K2 a limit that is lowered meanwhile is not what it was before
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from gateway.registry.clients import Clients
from gateway.registry.copies import restore, write_registry
from gateway.registry.keys import mint_key, mirror_keys
from gateway.registry.orgs import add_org
from gateway.registry.rebuild import rebuild
from tests.registry.rebuilding import AUTHOR
from tests.until import until

LIMIT = "org.month.limit_cents"
_LOCK = "SELECT FROM org WHERE org = 'acme' FOR NO KEY UPDATE"
_WAITING = (
    "SELECT EXISTS (SELECT FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock')"
)
_REVOKE = "UPDATE api_key SET status = 'revoked'"
_LOWER = (
    "INSERT INTO limit_change (org, field, old_value, new_value, actor) "
    f"VALUES ('acme', '{LIMIT}', '50', '5', 'somebody')"
)

Writer = Callable[[Clients], Coroutine[Any, Any, object]]
WRITERS: dict[str, Writer] = {
    "command": lambda clients: mirror_keys(clients, "acme"),
    "recovery": lambda clients: write_registry(clients, ["acme"]),
    "rebuild": rebuild,
}


async def met(clients: Clients, writing: Coroutine[Any, Any, object], change: str) -> None:
    """Let somebody write while another one has the org, and then changes it."""
    async with clients.ledger.acquire() as connection, connection.transaction():
        await connection.execute(_LOCK)
        task = asyncio.create_task(writing)

        async def is_waiting() -> bool:
            return task.done() or bool(await clients.ledger.fetchval(_WAITING))

        await until(is_waiting, "the writer to wait for the org")
        await connection.execute(change)
    await task


@pytest.mark.parametrize("writer", WRITERS)
async def test_revocation_is_not_overwritten(clients: Clients, writer: str) -> None:
    """K1: who has read the key as active before must not write it afterwards."""
    await add_org(clients, "acme", "UTC", {LIMIT: "50"}, AUTHOR)
    await mint_key(clients, "acme", ())
    if writer == "rebuild":
        await clients.redis.flushall()

    await met(clients, WRITERS[writer](clients), _REVOKE)

    (record,) = await clients.redis.hvals("bg:{acme}:keys")
    assert record.split("|")[1] == "revoked"


async def test_lowered_limit_is_not_overwritten(clients: Clients) -> None:
    """K2: what was recorded while it waited counts, not what was kept before."""
    await add_org(clients, "acme", "UTC", {LIMIT: "50"}, AUTHOR)
    await clients.redis.hset("bg:{acme}:limits", LIMIT, "70")

    await met(clients, restore(clients, ("day", "month", "total"), ["acme"]), _LOWER)

    assert await clients.redis.hget("bg:{acme}:limits", LIMIT) == "5"
