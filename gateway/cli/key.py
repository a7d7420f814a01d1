"""The commands ``key``: what a caller shows to spend from an org."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from gateway.cli import environment, output
from gateway.cli.clients import open_clients
from gateway.registry.agents import list_agents
from gateway.registry.keys import (
    MintedKey,
    StoredKey,
    list_keys,
    mint_key,
    revoke_key,
    rotate_key,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_COLUMNS = ("key_id", "agents", "state", "created_at", "expires_at")
_DAYS_MAX = 36_500
_GRACE_S_MAX = 30 * 86_400

Org = Annotated[str, typer.Argument(help="The org.")]
KeyId = Annotated[str, typer.Argument(help="The id of the key, as key list has it.")]


@app.command()
def add(
    org: Org,
    agent: Annotated[
        list[str] | None, typer.Option(help="An agent that it opens; repeat it; all where none is.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=_DAYS_MAX, help="Days from now; never where left out.")
    ] = None,
    as_json: output.AsJson = False,
) -> None:
    """Add a key and print it, this once: only its digest is kept."""
    days = expires_in_days
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    minted, unknown = asyncio.run(_add(org, agent or [], expires_at))
    for name in unknown:
        output.complain(f"Agent {name} is not known in org {org} yet; the key waits for it.")
    _tell(minted, as_json=as_json)


@app.command("list")
def list_all(org: Org, as_json: output.AsJson = False) -> None:
    """List the keys of an org; their texts and digests are never shown."""
    now = datetime.now(UTC)
    shown = [_row(key, now) for key in asyncio.run(_list(org))]
    rows = [
        [", ".join(cell) if isinstance(cell, list) else cell for cell in row.values()]
        for row in shown
    ]
    output.show({"org": org, "keys": shown}, output.table(_COLUMNS, rows), as_json=as_json)


@app.command()
def rotate(
    org: Org,
    key_id: KeyId,
    grace_s: Annotated[
        int,
        typer.Option(min=0, max=_GRACE_S_MAX, help="Seconds for which the old key still opens."),
    ] = 0,
    as_json: output.AsJson = False,
) -> None:
    """Print a new key for the same agents and the same span of life, and end the old one."""
    _tell(asyncio.run(_rotate(org, key_id, grace_s)), as_json=as_json)


@app.command()
def revoke(org: Org, key_id: KeyId, as_json: output.AsJson = False) -> None:
    """Revoke a key: the next request with it is refused."""
    asyncio.run(_revoke(org, key_id))
    document = {"org": org, "key_id": key_id, "state": "revoked"}
    output.show(document, f"Key {key_id} of {org} is revoked.", as_json=as_json)


def _tell(minted: MintedKey, *, as_json: bool) -> None:
    text = f"Key {minted.key_id}; it is not shown again:\n{minted.key}"
    output.show(minted, text, as_json=as_json)


def _row(key: StoredKey, now: datetime) -> dict[str, object]:
    is_expired = key.status == "active" and key.expires_at is not None and key.expires_at <= now
    return {
        "key_id": key.key_id,
        "agents": list(key.agents) or "*",
        "state": "expired" if is_expired else key.status,
        "created_at": _instant(key.created_at),
        "expires_at": None if key.expires_at is None else _instant(key.expires_at),
    }


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


async def _add(
    org: str, agents: list[str], expires_at: datetime | None
) -> tuple[MintedKey, list[str]]:
    async with open_clients(environment.load()) as clients:
        minted = await mint_key(clients, org, agents, expires_at)
        known = {found.agent for found in await list_agents(clients, org)}
        return minted, [agent for agent in agents if agent not in known]


async def _list(org: str) -> list[StoredKey]:
    async with open_clients(environment.load()) as clients:
        return await list_keys(clients, org)


async def _rotate(org: str, key_id: str, grace_s: int) -> MintedKey:
    async with open_clients(environment.load()) as clients:
        return await rotate_key(clients, org, key_id, grace_s)


async def _revoke(org: str, key_id: str) -> None:
    async with open_clients(environment.load()) as clients:
        await revoke_key(clients, org, key_id)
