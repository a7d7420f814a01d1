"""Orgs: who may spend at all."""

import re
from datetime import datetime
from typing import NamedTuple

from gateway.budgets.keys import org_key
from gateway.domain.key import is_id
from gateway.domain.limits import check_field
from gateway.errors import BadRequest
from gateway.registry.clients import Clients, require_ready, unknown_org
from gateway.registry.limits import Author, deployment_windows, set_limits
from gateway.registry.limits_mirror import mirror_limits

SCHEMA = "1"
_ORG_LIMIT = re.compile(r"org\..+\.limit_cents")


class Org(NamedTuple):
    """An org as Postgres has it; ``status`` as Redis has it, empty where Redis does not know it."""

    org: str
    timezone: str
    billing: str
    status: str


class OrgDetail(NamedTuple):
    """All that is known of an org. ``keys`` counts those that open something now.

    ``limits`` are the fields as Redis has them, ``billing_status`` is what the billing says;
    both are empty where Redis does not know the org.
    """

    org: str
    timezone: str
    status: str
    billing: str
    billing_status: str
    stripe_customer: str
    created_at: datetime
    agents: list[str]
    keys: int
    limits: dict[str, str]


async def add_org(
    clients: Clients,
    org: str,
    timezone: str,
    limits: dict[str, str],
    author: Author,
    stripe_customer: str = "",
) -> bool:
    """Add an org with its first limits; return whether it is new.

    Repeated as it is, it mends what a crash left undone. Of an org that is there already only
    what is missing is set, and the Stripe customer where one is given.

    Raises:
        BadRequest: the id, the zone or a limit is not valid, or no limit of the org is named.
        StoreNotReady: the node marker is missing: what Redis lacks may be what it has lost.
    """
    if not is_id(org):
        raise BadRequest(f"org is {org!r}; expected 1 to 48 letters, digits, _ or -.")
    if not has_org_limit(limits):
        raise BadRequest("org.<window>.limit_cents is missing; give a limit, or none for no limit.")
    first = {"status": "active", "timezone": timezone, **limits}
    # Before anything is written: a wrong limit must not leave half an org behind.
    windows = await deployment_windows(clients)
    for field, value in first.items():
        if (problem := check_field(field, value, windows)) is not None:
            raise BadRequest(problem)
    await require_ready(clients.redis)
    is_new: bool = await clients.ledger.fetchval(
        "INSERT INTO org (org, timezone, stripe_customer) VALUES ($1, $2, $3) "
        "ON CONFLICT (org) DO UPDATE "
        "SET stripe_customer = coalesce(excluded.stripe_customer, org.stripe_customer) "
        # The xmax of a row is 0 where this statement inserted it.
        "RETURNING xmax = 0",
        org,
        timezone,
        stripe_customer or None,
    )
    known = await clients.redis.hgetall(org_key(org, "limits"))
    missing = {field: value for field, value in first.items() if field not in known}
    await set_limits(clients, org, missing, author)
    # The mark that the org exists comes last: before it every call is refused.
    await clients.redis.hset(org_key(org, "meta"), "schema", SCHEMA)
    await mirror_limits(clients, [org])
    return is_new


async def list_orgs(clients: Clients) -> list[Org]:
    """Return every org by name."""
    rows = await clients.ledger.fetch("SELECT org, timezone, billing FROM org ORDER BY org")
    found = []
    for row in rows:
        status = await clients.redis.hget(org_key(row["org"], "limits"), "status")
        found.append(Org(row["org"], row["timezone"], row["billing"], status or ""))
    return found


async def find_org(clients: Clients, org: str) -> OrgDetail:
    """Return all that is known of an org.

    Raises:
        BadRequest: it is not known.
    """
    row = await clients.ledger.fetchrow(
        "SELECT timezone, billing, coalesce(stripe_customer, ''), created_at, "
        "ARRAY(SELECT agent FROM agent WHERE org = $1 AND removed_at IS NULL ORDER BY agent), "
        "(SELECT count(*) FROM api_key WHERE org = $1 AND status = 'active' "
        "AND coalesce(expires_at > now(), true)) FROM org WHERE org = $1",
        org,
    )
    if row is None:
        raise unknown_org(org)
    timezone, billing, stripe_customer, created_at, agents, keys = row
    limits: dict[str, str] = await clients.redis.hgetall(org_key(org, "limits"))
    billing_status = await clients.redis.hget(org_key(org, "meta"), "billing_status")
    return OrgDetail(
        org,
        timezone,
        limits.get("status", ""),
        billing,
        billing_status or "",
        stripe_customer,
        created_at,
        agents,
        keys,
        dict(sorted(limits.items())),
    )


async def set_status(clients: Clients, org: str, status: str, author: Author) -> None:
    """Freeze or thaw an org: the next request obeys.

    Raises:
        BadRequest: the org is not known.
    """
    await set_limits(clients, org, {"status": status}, author)


def has_org_limit(limits: dict[str, str]) -> bool:
    """Whether a limit of the org itself is named, at least as ``none``."""
    return any(_ORG_LIMIT.fullmatch(field) for field in limits)
