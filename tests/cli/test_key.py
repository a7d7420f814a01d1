"""The commands key: a key is printed once, listed without its secret, rotated and revoked."""

import hashlib
from datetime import datetime, timedelta

import pytest

from gateway.registry.clients import Clients
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org
from tests.cli.conftest import Run

KEYS = "bg:{acme}:keys"


@pytest.fixture(autouse=True)
async def acme(clients: Clients) -> None:
    """Add the org acme."""
    await add_org(clients, "acme", "UTC", {"org.month.limit_cents": "10"}, Author("tester"))


async def test_added_key_is_printed_once(command: Run, clients: Clients) -> None:
    """Its text is in the answer and in no store; a known agent is no reason for a warning."""
    await command("agent", "add", "acme", "r1", "--upstream", "http://a.test", "--price", "tokens")

    said = await command("key", "add", "acme", "--agent", "r1", "--json")

    assert (said.code, said.err) == (0, "")
    assert set(said.document) == {"key_id", "key"}
    key_id, key = said.document["key_id"], said.document["key"]
    assert key.startswith(f"bgk_acme_{key_id}_")
    digest = hashlib.sha256(key.encode()).hexdigest()
    assert await clients.redis.hgetall(KEYS) == {digest: f"{key_id}|active||r1"}


async def test_key_for_an_agent_to_come_is_told(command: Run) -> None:
    """It is made, because keys may come first, and a misspelt agent does not go unnoticed."""
    said = await command("key", "add", "acme", "--agent", "r1", "--agent", "w1")

    assert said.code == 0
    assert said.out.splitlines()[1].startswith("bgk_acme_")
    assert [line.split()[1] for line in said.err.splitlines()] == ["r1", "w1"]


async def test_listed_keys_have_no_secret(command: Run, clients: Clients) -> None:
    """Agents, state and instants are shown; neither text nor digest is, in both forms."""
    added = (await command("key", "add", "acme", "--expires-in-days", "30", "--json")).document
    await command("key", "add", "acme", "--agent", "r1", "--agent", "w1")
    ended = (await command("key", "add", "acme", "--json")).document
    await clients.ledger.execute(
        "UPDATE api_key SET expires_at = now() - interval '1 s' WHERE key_id = $1", ended["key_id"]
    )

    listed = await command("key", "list", "acme", "--json")
    drawn = await command("key", "list", "acme")

    first, second, third = listed.document["keys"]
    assert (first["agents"], first["state"], first["key_id"]) == ("*", "active", added["key_id"])
    assert (second["agents"], second["expires_at"]) == (["r1", "w1"], None)
    assert third["state"] == "expired"
    life = datetime.fromisoformat(first["expires_at"]) - datetime.fromisoformat(first["created_at"])
    assert abs(life - timedelta(days=30)) < timedelta(seconds=10)
    secrets = [added["key"], *(await clients.redis.hkeys(KEYS))]
    assert [secret for secret in secrets if secret in listed.out + drawn.out] == []
    assert "r1, w1" in drawn.out


async def test_rotated_key_replaces_the_old_one(command: Run, clients: Clients) -> None:
    """The new key is printed for the same agents; the old one is revoked, or given a grace."""
    first = (await command("key", "add", "acme", "--agent", "r1", "--json")).document
    second = (await command("key", "rotate", "acme", first["key_id"], "--json")).document
    third = await command("key", "rotate", "acme", second["key_id"], "--grace-s", "60")

    records = [record.split("|") for record in await clients.redis.hvals(KEYS)]
    by_id = {record[0]: record[1:] for record in records}
    assert third.code == 0
    assert len(by_id) == 3
    assert by_id[first["key_id"]] == ["revoked", "", "r1"]
    assert by_id[second["key_id"]][0] == "active"
    assert by_id[second["key_id"]][1] != ""


async def test_revoked_key_is_revoked_in_both_stores(command: Run, clients: Clients) -> None:
    """It may be repeated."""
    key_id = (await command("key", "add", "acme", "--json")).document["key_id"]

    for _ in range(2):
        said = await command("key", "revoke", "acme", key_id, "--json")
        assert said.document == {"org": "acme", "key_id": key_id, "state": "revoked"}

    assert await clients.redis.hvals(KEYS) == [f"{key_id}|revoked||*"]
    assert await clients.ledger.fetchval("SELECT status FROM api_key") == "revoked"


@pytest.mark.parametrize(
    "arguments",
    [
        ("add", "nobody"),
        ("add", "acme", "--agent", "a b"),
        ("add", "acme", "--expires-in-days", "0"),
        ("list", "nobody"),
        ("rotate", "acme", "nope"),
        ("rotate", "nobody", "nope"),
        ("rotate", "acme", "nope", "--grace-s", "-1"),
        ("revoke", "acme", "nope"),
    ],
)
async def test_what_cannot_be_done_is_refused(
    command: Run, clients: Clients, arguments: tuple[str, ...]
) -> None:
    """Exit code 2, a sentence on standard error, no key made."""
    said = await command("key", *arguments)

    assert (said.code, said.out) == (2, "")
    assert said.err
    assert await clients.redis.exists(KEYS) == 0
    assert await clients.ledger.fetchval("SELECT count(*) FROM api_key") == 0
