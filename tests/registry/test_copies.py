"""Copies of keys and agents are what Postgres says, whatever Redis has."""

from gateway.registry.clients import Clients
from gateway.registry.copies import write_registry
from gateway.registry.keys import mint_key
from gateway.registry.orgs import add_org
from tests.registry.rebuilding import AUTHOR


async def test_key_that_postgres_does_not_know_is_gone(clients: Clients) -> None:
    """Whoever wrote it: Redis may be older than the org, and its key another one's by now."""
    await add_org(clients, "acme", "UTC", {"org.total.limit_cents": "5"}, AUTHOR)
    await mint_key(clients, "acme", ())
    known = await clients.redis.hgetall("bg:{acme}:keys")
    await clients.redis.hset("bg:{acme}:keys", "0" * 64, "k9|active||*")
    await clients.redis.hset("bg:{acme}:agents", "ghost", "{}")

    await write_registry(clients, ["acme"])

    assert await clients.redis.hgetall("bg:{acme}:keys") == known
    assert await clients.redis.hgetall("bg:{acme}:agents") == {}
