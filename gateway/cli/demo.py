"""The demo of ``dev``: an org with two agents and a key, made once and then left alone."""

from pathlib import Path
from typing import NamedTuple

import orjson

from gateway.cli.environment import write_private
from gateway.registry.agents import add_agent
from gateway.registry.clients import Clients
from gateway.registry.keys import mint_key
from gateway.registry.limits import Author
from gateway.registry.orgs import add_org, list_orgs

ORG = "demo"
RESEARCHER, WRITER = "researcher", "writer"
_AUTHOR = Author("budget-gateway dev", "the demo")
# Two cents are ten short answers of gpt-4o, and less than one long answer.
_LIMITS = {
    "org.month.limit_cents": "10000",
    f"agent.{RESEARCHER}.day.limit_cents": "2",
    f"agent.{WRITER}.day.limit_cents": "2",
}
# What is held for a call that states no maximum itself.
_PRICE = {"mode": "tokens", "output_default": 512}
_FILE = "demo.json"


class Demo(NamedTuple):
    """What of the demo is in no store: the text of its key, and the port of its agent."""

    key: str
    agent_port: int


def read_demo(folder: Path) -> Demo | None:
    """Return what an earlier start has kept, or None where there is nothing that can be read."""
    try:
        return Demo(**orjson.loads((folder / _FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


async def prepare_demo(clients: Clients, folder: Path, agent_port: int) -> Demo:
    """Make what is missing of the demo; what somebody has changed since then stays."""
    known = read_demo(folder)
    if not any(org.org == ORG for org in await list_orgs(clients)):
        await add_org(clients, ORG, "UTC", _LIMITS, _AUTHOR)
        known = None
    if known is None or known.agent_port != agent_port:
        # Its server has another port now, or there was none yet.
        for agent in (RESEARCHER, WRITER):
            await add_agent(clients, ORG, agent, _description(agent_port))
    key = known.key if known else (await mint_key(clients, ORG, [])).key
    demo = Demo(key, agent_port)
    write_private(folder / _FILE, orjson.dumps(demo._asdict()).decode())
    return demo


def _description(port: int) -> dict[str, object]:
    return {"upstream": f"http://127.0.0.1:{port}", "price": _PRICE}
