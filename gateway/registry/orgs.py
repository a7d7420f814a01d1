"""Orgs: who may spend at all."""

from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gateway.budgets.keys import org_key
from gateway.domain.key import is_id
from gateway.errors import BadRequest
from gateway.registry.clients import Clients
from gateway.registry.limits import Author, set_limits

SCHEMA = "1"


class Org(NamedTuple):
    """An org as Postgres has it; ``status`` as Redis has it, empty where Redis does not know it."""

    org: str
    timezone: str
    billing: str
    status: str


async def add_org(
    clients: Clients, org: str, timezone: str, limits: dict[str, str], author: Author
) -> None:
    """Add an org with its first limits; repeated as it is, it mends what a crash left undone.

    Raises:
        BadRequest: the id, the zone or a limit is not valid, or no limit of the org is named.
    """
    if not is_id(org):
        raise BadRequest(f"org is {org!r}; expected 1 to 48 letters, digits, _ or -.")
    check_zone(timezone)
    if not any(field.startswith("org.") and field.endswith(".limit_cents") for field in limits):
        raise BadRequest("org.<window>.limit_cents is missing; give a limit, or none for no limit.")
    await clients.ledger.execute(
        "INSERT INTO org (org, timezone) VALUES ($1, $2) ON CONFLICT (org) DO NOTHING",
        org,
        timezone,
    )
    first = {"status": "active", "timezone": timezone, **limits}
    known = await clients.redis.hgetall(org_key(org, "limits"))
    missing = {field: value for field, value in first.items() if field not in known}
    await set_limits(clients, org, missing, author)
    # The mark that the org exists comes last: before it every call is refused.
    await clients.redis.hset(org_key(org, "meta"), "schema", SCHEMA)


async def list_orgs(clients: Clients) -> list[Org]:
    """Return every org by name."""
    rows = await clients.ledger.fetch("SELECT org, timezone, billing FROM org ORDER BY org")
    found = []
    for row in rows:
        status = await clients.redis.hget(org_key(row["org"], "limits"), "status")
        found.append(Org(row["org"], row["timezone"], row["billing"], status or ""))
    return found


async def set_status(clients: Clients, org: str, status: str, author: Author) -> None:
    """Freeze or thaw an org: the next request obeys."""
    await set_limits(clients, org, {"status": status}, author)


def check_zone(timezone: str) -> None:
    """Refuse a name that is no IANA zone.

    Raises:
        BadRequest: always names the field.
    """
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadRequest(f"timezone is {timezone!r}; expected an IANA name: {error}.") from error
