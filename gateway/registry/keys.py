"""Keys: minted once, stored as a digest, checked by the reserve script on every call."""

import secrets
import string
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import asyncpg

from gateway.domain.key import is_id, read_key
from gateway.errors import BadRequest
from gateway.registry.clients import Clients, require_org
from gateway.registry.mirror import mirror

_BASE62 = string.ascii_letters + string.digits
_KEY_ID_LENGTH = 12
# 43 characters of base62 carry 256 bits: as hard to guess as the digest that stores them.
_SECRET_LENGTH = 43
_SELECT = "SELECT key_id, digest, status, expires_at, agents FROM api_key WHERE org = $1"
_INSERT = (
    "INSERT INTO api_key (org, key_id, digest, agents, expires_at) VALUES ($1, $2, $3, $4, $5)"
)
_REVOKE = "UPDATE api_key SET status = 'revoked' WHERE org = $1 AND key_id = $2 RETURNING key_id"


class MintedKey(NamedTuple):
    """A new key; its text is shown once and kept nowhere."""

    key_id: str
    key: str


class StoredKey(NamedTuple):
    """What is kept of a key. No ``agents`` means all of the org; None never expires."""

    key_id: str
    agents: tuple[str, ...]
    status: str
    created_at: datetime
    expires_at: datetime | None


async def mint_key(
    clients: Clients, org: str, agents: Sequence[str], expires_at: datetime | None = None
) -> MintedKey:
    """Return a new key of an org for some agents, or for all where none is named.

    Raises:
        BadRequest: the org is not known, or an agent id is not valid.
    """
    for agent in agents:
        if not is_id(agent):
            raise BadRequest(f"agent is {agent!r}; expected 1 to 48 letters, digits, _ or -.")
    await require_org(clients, org)
    minted, digest = _mint(org)
    allowed = ",".join(dict.fromkeys(agents)) or "*"
    await clients.ledger.execute(_INSERT, org, minted.key_id, digest, allowed, expires_at)
    await mirror_keys(clients, org)
    return minted


async def list_keys(clients: Clients, org: str) -> list[StoredKey]:
    """Return the keys of an org, the oldest first, revoked ones too.

    Raises:
        BadRequest: the org is not known.
    """
    await require_org(clients, org)
    rows = await clients.ledger.fetch(
        "SELECT key_id, agents, status, created_at, expires_at FROM api_key "
        "WHERE org = $1 ORDER BY created_at, key_id",
        org,
    )
    return [StoredKey(row["key_id"], _agents(row["agents"]), *list(row)[2:]) for row in rows]


async def rotate_key(clients: Clients, org: str, key_id: str, grace_s: int = 0) -> MintedKey:
    """Return a new key for the same agents, which lives as long from now as the old one did.

    The old key is revoked for the next request, or expires after ``grace_s`` where that is more
    than zero and it would have lived longer.

    Raises:
        BadRequest: the org is not known, has no such key, or it is revoked already.
    """
    await require_org(clients, org)
    minted, digest = _mint(org)
    async with clients.ledger.acquire() as connection, connection.transaction():
        old = await connection.fetchrow(
            "SELECT agents, status, now() + (expires_at - created_at) AS expires_at "
            "FROM api_key WHERE org = $1 AND key_id = $2 FOR UPDATE",
            org,
            key_id,
        )
        if old is None:
            raise _unknown(org, key_id)
        if old["status"] != "active":
            raise BadRequest(f"key {key_id} of org {org} is revoked; add a new one.")
        await connection.execute(
            _INSERT, org, minted.key_id, digest, old["agents"], old["expires_at"]
        )
        if grace_s:
            await connection.execute(
                "UPDATE api_key SET expires_at = least(expires_at, now() + $3) "
                "WHERE org = $1 AND key_id = $2",
                org,
                key_id,
                timedelta(seconds=grace_s),
            )
        else:
            await connection.execute(_REVOKE, org, key_id)
    await mirror_keys(clients, org)
    return minted


async def revoke_key(clients: Clients, org: str, key_id: str) -> None:
    """Revoke a key: the next request with it is refused.

    Raises:
        BadRequest: the org has no such key.
    """
    changed = await clients.ledger.fetchval(_REVOKE, org, key_id)
    if changed is None:
        raise _unknown(org, key_id)
    await mirror_keys(clients, org)


async def mirror_keys(clients: Clients, org: str) -> None:
    """Make the keys in Redis those of Postgres; what a crash left undone is mended by any call."""
    await mirror(clients, org, "keys", _SELECT, key_entry)


def _mint(org: str) -> tuple[MintedKey, str]:
    key_id = "".join(secrets.choice(_BASE62) for _ in range(_KEY_ID_LENGTH))
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    key = f"bgk_{org}_{key_id}_{secret}"
    read = read_key(key)
    assert read is not None, "a minted key can be read"
    return MintedKey(key_id, key), read.digest


def key_entry(row: asyncpg.Record) -> tuple[str, str]:
    """Return a row of ``api_key`` as Redis has it: the digest, and what the scripts read."""
    expires_at: datetime | None = row["expires_at"]
    expires_ms = str(int(expires_at.astimezone(UTC).timestamp() * 1000)) if expires_at else ""
    return row["digest"], f"{row['key_id']}|{row['status']}|{expires_ms}|{row['agents']}"


def _agents(stored: str) -> tuple[str, ...]:
    return () if stored == "*" else tuple(stored.split(","))


def _unknown(org: str, key_id: str) -> BadRequest:
    return BadRequest(f"key {key_id} is not known in org {org}.")
