"""Agents: which services an org may call, described whole or not at all."""

from collections.abc import Mapping
from typing import NamedTuple

import asyncpg
import orjson

from gateway.domain.agent import read_agent
from gateway.domain.key import is_id
from gateway.errors import BadRequest
from gateway.registry.clients import Clients, require_org
from gateway.registry.mirror import mirror

Description = Mapping[str, object]

_SELECT = "SELECT agent, description FROM agent WHERE org = $1 AND removed_at IS NULL"


class RegisteredAgent(NamedTuple):
    """An agent and its description, member by member as it was given."""

    agent: str
    description: Description


async def add_agent(
    clients: Clients, org: str, agent: str, description: Description
) -> Description | None:
    """Add an agent, or replace its description; return the one that was there, None where none.

    The gateways obey within a second.

    Raises:
        BadRequest: the org is not known, the id is not valid, or a member of the description is
            wrong; nothing is changed then.
    """
    if not is_id(agent):
        raise BadRequest(f"agent is {agent!r}; expected 1 to 48 letters, digits, _ or -.")
    check_description(description)
    await require_org(clients, org)
    async with clients.ledger.acquire() as connection, connection.transaction():
        before = await connection.fetchval(
            f"{_SELECT} AND agent = $2 FOR UPDATE", org, agent, column=1
        )
        await connection.execute(
            "INSERT INTO agent (org, agent, description) VALUES ($1, $2, $3) "
            "ON CONFLICT (org, agent) "
            "DO UPDATE SET description = excluded.description, removed_at = NULL",
            org,
            agent,
            orjson.dumps(description).decode(),
        )
    await mirror_agents(clients, org)
    return None if before is None else _read(before)


async def list_agents(clients: Clients, org: str) -> list[RegisteredAgent]:
    """Return the agents of an org by id, without those that were removed.

    Raises:
        BadRequest: the org is not known.
    """
    await require_org(clients, org)
    rows = await clients.ledger.fetch(f"{_SELECT} ORDER BY agent", org)
    return [RegisteredAgent(row["agent"], _read(row["description"])) for row in rows]


async def find_agent(clients: Clients, org: str, agent: str) -> Description:
    """Return the description of an agent.

    Raises:
        BadRequest: the org or the agent is not known.
    """
    await require_org(clients, org)
    found = await clients.ledger.fetchval(f"{_SELECT} AND agent = $2", org, agent, column=1)
    if found is None:
        raise _unknown(org, agent)
    return _read(found)


async def remove_agent(clients: Clients, org: str, agent: str) -> None:
    """Remove an agent: within a second it is unknown. What it has spent stays, its id is free.

    Raises:
        BadRequest: the org or the agent is not known.
    """
    await require_org(clients, org)
    removed = await clients.ledger.fetchval(
        "UPDATE agent SET removed_at = now() "
        "WHERE org = $1 AND agent = $2 AND removed_at IS NULL RETURNING agent",
        org,
        agent,
    )
    await mirror_agents(clients, org)
    if removed is None:
        raise _unknown(org, agent)


async def mirror_agents(clients: Clients, org: str) -> None:
    """Make the agents in Redis those of Postgres; any call mends what a crash left undone."""
    await mirror(clients, org, "agents", _SELECT, agent_entry)


def check_description(description: Description) -> None:
    """Refuse a description that no gateway could use.

    Raises:
        BadRequest: it names the member and what was expected.
    """
    try:
        read_agent(description)
    except ValueError as error:
        raise BadRequest(str(error)) from error


def differing_members(before: Description, after: Description) -> list[str]:
    """Return the members, such as ``price.cents``, that are not the same in two descriptions."""
    old, new = _flat(before), _flat(after)
    return sorted(member for member in {*old, *new} if old.get(member) != new.get(member))


def _flat(description: Description) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in description.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            found[name] = value
    return found


def agent_entry(row: asyncpg.Record) -> tuple[str, str]:
    """Return a row of ``agent`` as Redis has it: the id, and the description as JSON."""
    return row["agent"], orjson.dumps(_read(row["description"])).decode()


def _read(text: str) -> Description:
    description: dict[str, object] = orjson.loads(text)
    return description


def _unknown(org: str, agent: str) -> BadRequest:
    return BadRequest(f"agent {agent} is not known in org {org}.")
