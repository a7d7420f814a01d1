"""The commands ``agent``: the services that an org may call, and one call to try one out."""

import asyncio
from typing import Annotated

import typer

from gateway.cli import environment, output, trial
from gateway.cli.agent_options import AgentOptions, description_of
from gateway.cli.clients import open_clients
from gateway.cli.options import spread
from gateway.registry.agents import (
    Description,
    RegisteredAgent,
    add_agent,
    differing_members,
    find_agent,
    list_agents,
    remove_agent,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

_COLUMNS = ("agent", "upstream", "price", "cents", "ceiling_cents")
_SOURCES = ("env:", "file:")
_MASK = "***"
_SECRETS = ("authorization", "key", "token", "secret", "cookie")

Org = Annotated[str, typer.Argument(help="The org.")]
Agent = Annotated[str, typer.Argument(help="The agent: letters, digits, _ or -.")]


@app.command()
@spread(AgentOptions)
def add(org: Org, agent: Agent, options: AgentOptions, as_json: output.AsJson = False) -> None:
    """Add an agent, or replace the whole description of a known one; gateways obey in a second."""
    description = description_of(options)
    before = asyncio.run(_add(org, agent, description))
    warn_of_literals(f"Agent {agent}", description)
    members = [] if before is None else differing_members(before, description)
    change = "created" if before is None else "changed" if members else "unchanged"
    document = {"org": org, "agent": agent, "change": change, "members": members}
    sentence = f"Agent {agent} of {org} is {change}"
    text = f"{sentence}: {', '.join(members)}." if members else f"{sentence}."
    output.show(document, text, as_json=as_json)


@app.command("list")
def list_all(org: Org, as_json: output.AsJson = False) -> None:
    """List the agents of an org."""
    agents = asyncio.run(_list(org))
    shown = [RegisteredAgent(agent, masked(description)) for agent, description in agents]
    rows = [_row(agent, description) for agent, description in shown]
    output.show(
        {"org": org, "agents": shown},
        output.table(_COLUMNS, [[row.get(column) for column in _COLUMNS] for row in rows]),
        as_json=as_json,
    )


@app.command()
def show(org: Org, agent: Agent, as_json: output.AsJson = False) -> None:
    """Show the description of an agent; header values that are literals are masked."""
    description = masked(asyncio.run(_find(org, agent)))
    rows = []
    for member, value in description.items():
        if isinstance(value, dict):
            rows += [(f"{member}.{name}", inner) for name, inner in value.items()]
        else:
            rows.append((member, value))
    output.show(
        {"org": org, "agent": agent, "description": description},
        output.table(("member", "value"), rows),
        as_json=as_json,
    )


@app.command()
def remove(org: Org, agent: Agent, as_json: output.AsJson = False) -> None:
    """Remove an agent: its calls are refused within a second, what it has spent stays."""
    asyncio.run(_remove(org, agent))
    document = {"org": org, "agent": agent, "change": "removed"}
    output.show(document, f"Agent {agent} of {org} is removed.", as_json=as_json)


app.command("test")(trial.run)


def masked(description: Description) -> dict[str, object]:
    """Return a description whose header values are masked where they are literals."""
    headers = description.get("headers")
    if not isinstance(headers, dict):
        return dict(description)
    shown = {
        name: source if source.startswith(_SOURCES) else _MASK for name, source in headers.items()
    }
    return {**description, "headers": shown}


def warn_of_literals(subject: str, description: Description) -> None:
    """Say on standard error which headers look like a secret that stands in the description."""
    headers = description.get("headers")
    for name, source in headers.items() if isinstance(headers, dict) else ():
        is_secret = any(word in name.lower() for word in _SECRETS)
        if is_secret and not source.startswith(_SOURCES):
            output.complain(
                f"{subject}: headers.{name} is a literal, so both stores hold it as it is; "
                "env:GATEWAY_CREDENTIAL_* or file: would keep it out."
            )


def _row(agent: str, description: Description) -> dict[str, object]:
    price = description.get("price")
    amounts = price if isinstance(price, dict) else {}
    return {
        "agent": agent,
        "upstream": description.get("upstream"),
        "price": amounts.get("mode"),
        **{name: amounts.get(name) for name in ("cents", "ceiling_cents")},
    }


async def _add(org: str, agent: str, description: Description) -> Description | None:
    async with open_clients(environment.load()) as clients:
        return await add_agent(clients, org, agent, description)


async def _list(org: str) -> list[RegisteredAgent]:
    async with open_clients(environment.load()) as clients:
        return await list_agents(clients, org)


async def _find(org: str, agent: str) -> Description:
    async with open_clients(environment.load()) as clients:
        return await find_agent(clients, org, agent)


async def _remove(org: str, agent: str) -> None:
    async with open_clients(environment.load()) as clients:
        await remove_agent(clients, org, agent)
