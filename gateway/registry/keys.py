"""Keys: minted once, stored as a digest, checked by the reserve script on every call."""

import secrets
import string
from datetime import UTC, datetime
from typing import NamedTuple

import asyncpg

from gateway.budgets.keys import org_key
from gateway.domain.key import is_id, read_key
from gateway.errors import BadRequest
from gateway.registry.clients import Clients

_BASE62 = string.ascii_letters + string.digits
_KEY_ID_LENGTH = 12
# 43 characters of base62 carry 256 bits: as hard to guess as the digest that stores them.
_SECRET_LENGTH = 43


class MintedKey(NamedTuple):
    """A new key; its text is shown once and kept nowhere."""

    key_id: str
    key: str


async def mint_key(
    clients: Clients, org: str, agents: list[str], expires_at: datetime | None = None
) -> MintedKey:
    """Return a new key of an org for some agents, or for all where none is named.

    Raises:
        BadRequest: the org is not known, or an agent id is not valid.
    """
    for agent in agents:
        if not is_id(agent):
            raise BadRequest(f"agent is {agent!r}; expected 1 to 48 letters, digits, _ or -.")
    if not await clients.ledger.fetchval("SELECT true FROM org WHERE org = $1", org):
        raise BadRequest(f"org {org} is not known; add it first.")
    key_id = "".join(secrets.choice(_BASE62) for _ in range(_KEY_ID_LENGTH))
    secret = "".join(secrets.choice(_BASE62) for _ in range(_SECRET_LENGTH))
    key = f"bgk_{org}_{key_id}_{secret}"
    read = read_key(key)
    assert read is not None, "a minted key can be read"
    await clients.ledger.execute(
        "INSERT INTO api_key (org, key_id, digest, agents, expires_at) VALUES ($1, $2, $3, $4, $5)",
        org,
        key_id,
        read.digest,
        ",".join(agents) or "*",
        expires_at,
    )
    await mirror_keys(clients, org)
    return MintedKey(key_id, key)


async def revoke_key(clients: Clients, org: str, key_id: str) -> None:
    """Revoke a key: the next request with it is refused.

    Raises:
        BadRequest: the org has no such key.
    """
    changed = await clients.ledger.fetchval(
        "UPDATE api_key SET status = 'revoked' WHERE org = $1 AND key_id = $2 RETURNING key_id",
        org,
        key_id,
    )
    if changed is None:
        raise BadRequest(f"key {key_id} is not known in org {org}.")
    await mirror_keys(clients, org)


async def mirror_keys(clients: Clients, org: str) -> None:
    """Make the keys in Redis those of Postgres; what a crash left undone is mended by any call."""
    rows = await clients.ledger.fetch("SELECT * FROM api_key WHERE org = $1", org)
    wanted = {row["digest"]: _record(row["key_id"], row) for row in rows}
    name = org_key(org, "keys")
    stray = [digest for digest in await clients.redis.hkeys(name) if digest not in wanted]
    # In one step: there is no moment at which a good key is missing or a revoked one is there.
    async with clients.redis.pipeline(transaction=True) as pipe:
        if stray:
            pipe.hdel(name, *stray)
        if wanted:
            pipe.hset(name, mapping=wanted)
        await pipe.execute()


def _record(key_id: str, row: asyncpg.Record) -> str:
    expires_at: datetime | None = row["expires_at"]
    expires_ms = str(int(expires_at.astimezone(UTC).timestamp() * 1000)) if expires_at else ""
    return f"{key_id}|{row['status']}|{expires_ms}|{row['agents']}"
