"""Plans: what a description of orgs, limits and agents would change, and the changing."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from gateway.budgets.keys import org_key
from gateway.errors import BadRequest
from gateway.registry.agents import (
    Description,
    add_agent,
    differing_members,
    list_agents,
    mirror_agents,
)
from gateway.registry.clients import Clients
from gateway.registry.description import DescribedOrg
from gateway.registry.limits import Author, set_limits
from gateway.registry.orgs import add_org, has_org_limit

DEFAULT_ZONE = "UTC"


class Change(NamedTuple):
    """What is done at one place of the file; ``detail`` says from what to what."""

    place: str
    change: Literal["created", "changed", "unchanged"]
    detail: str = ""


class _Standing(NamedTuple):
    """What both stores know of an org; ``is_whole`` once it may spend."""

    is_whole: bool
    limits: dict[str, str]
    agents: dict[str, Description]


async def plan(clients: Clients, orgs: Sequence[DescribedOrg]) -> list[Change]:
    """Return what ``apply`` would do at every place of a description; nothing is written.

    Raises:
        BadRequest: an org would be new and has no limit of its own.
    """
    standings = [await _standing(clients, described.org) for described in orgs]
    problems = [
        f"orgs.{described.org}.limits names no org.<window>.limit_cents; a new org needs one."
        for described, standing in zip(orgs, standings, strict=True)
        if not standing.is_whole and not has_org_limit(described.limits)
    ]
    if problems:
        raise BadRequest("\n".join(problems))
    return [
        change
        for described, standing in zip(orgs, standings, strict=True)
        for change in _changes(described, standing)
    ]


async def apply(clients: Clients, orgs: Sequence[DescribedOrg], author: Author) -> list[Change]:
    """Make the orgs as they are described and return what that changed.

    What the description does not name stays as it is. Where it stops half-way it may be repeated.

    Raises:
        BadRequest: an org would be new and has no limit of its own; nothing is changed then.
    """
    changes = await plan(clients, orgs)
    changing = {change.place for change in changes if change.change != "unchanged"}
    for described in orgs:
        place = f"orgs.{described.org}"
        if place in changing:
            zone = described.limits.get("timezone", DEFAULT_ZONE)
            await add_org(clients, described.org, zone, described.limits, author)
        await set_limits(clients, described.org, described.limits, author)
        for agent, description in described.agents.items():
            if f"{place}.agents.{agent}" in changing:
                await add_agent(clients, described.org, agent, description)
        # Also where nothing differs: the stores may, after a crash.
        await mirror_agents(clients, described.org)
    return changes


async def _standing(clients: Clients, org: str) -> _Standing:
    is_known = await clients.ledger.fetchval("SELECT true FROM org WHERE org = $1", org)
    if not is_known:
        return _Standing(False, {}, {})
    has_mark = await clients.redis.hexists(org_key(org, "meta"), "schema")
    limits = await clients.redis.hgetall(org_key(org, "limits"))
    return _Standing(bool(has_mark), limits, dict(await list_agents(clients, org)))


def _changes(described: DescribedOrg, standing: _Standing) -> list[Change]:
    place = f"orgs.{described.org}"
    changes = [Change(place, "unchanged" if standing.is_whole else "created")]
    for field, value in described.limits.items():
        old = standing.limits.get(field)
        limit = f"{place}.limits.{field}"
        if old == value:
            changes.append(Change(limit, "unchanged"))
        elif old is None:
            changes.append(Change(limit, "created", value))
        else:
            changes.append(Change(limit, "changed", f"{old} -> {value}"))
    for agent, description in described.agents.items():
        before = standing.agents.get(agent)
        members = [] if before is None else differing_members(before, description)
        word: Literal["created", "changed", "unchanged"] = "changed" if members else "unchanged"
        change = "created" if before is None else word
        # Names only: a value may be a secret.
        changes.append(Change(f"{place}.agents.{agent}", change, ", ".join(members)))
    return changes
