"""Limits: set with a record of who and why, obeyed by the next request."""

import re
from typing import NamedTuple

from gateway.budgets.keys import org_key
from gateway.domain.limits import check_field
from gateway.errors import BadRequest
from gateway.registry.clients import Clients


class Author(NamedTuple):
    """Who changes something, and why."""

    actor: str
    cause: str = ""


async def set_limits(
    clients: Clients, org: str, changes: dict[str, str], author: Author
) -> dict[str, tuple[str | None, str]]:
    """Set fields of the limits hash and return what they were and are.

    Every change is recorded before it is made; fields that already have their value are left out.

    Raises:
        BadRequest: a field or a value is not valid; nothing is set then.
    """
    windows = await deployment_windows(clients)
    for field, value in changes.items():
        if (problem := check_field(field, value, windows)) is not None:
            raise BadRequest(problem)
    before = await clients.redis.hgetall(org_key(org, "limits"))
    differing = {
        field: (before.get(field), value)
        for field, value in changes.items()
        if before.get(field) != value
    }
    if differing:
        await clients.ledger.executemany(
            "INSERT INTO limit_change (org, field, old_value, new_value, actor, cause) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            [(org, field, old, new, *author) for field, (old, new) in differing.items()],
        )
        await clients.redis.hset(
            org_key(org, "limits"), mapping={field: new for field, (_, new) in differing.items()}
        )
    return differing


async def unset_limits(clients: Clients, org: str, fields: list[str], author: Author) -> list[str]:
    """Remove fields and return those that were there.

    Raises:
        BadRequest: `status`, or the last limit of the org, would go: that would refuse every call.
    """
    before = await clients.redis.hgetall(org_key(org, "limits"))
    left = {field for field in before if field not in fields}
    if "status" not in left or not any(re.fullmatch(r"org\..+\.limit_cents", f) for f in left):
        raise BadRequest("status and an org.<window>.limit_cents must stay; or freeze the org.")
    gone = [field for field in fields if field in before]
    if gone:
        await clients.ledger.executemany(
            "INSERT INTO limit_change (org, field, old_value, actor, cause) "
            "VALUES ($1, $2, $3, $4, $5)",
            [(org, field, before[field], *author) for field in gone],
        )
        await clients.redis.hdel(org_key(org, "limits"), *gone)
    return gone


async def check_limits(clients: Clients, org: str) -> dict[str, str]:
    """Return a sentence for each field of an org that is unknown or malformed."""
    windows = await deployment_windows(clients)
    fields = await clients.redis.hgetall(org_key(org, "limits"))
    problems = {field: check_field(field, value, windows) for field, value in fields.items()}
    found = {field: problem for field, problem in problems.items() if problem is not None}
    if "status" not in fields:
        found["status"] = "status is missing: every call of the org is refused."
    if not any(re.fullmatch(r"org\..+\.limit_cents", field) for field in fields):
        found["org.<window>.limit_cents"] = "No window of the org has a limit, not even none."
    return found


async def deployment_windows(clients: Clients) -> list[str]:
    """Return the windows that this deployment counts."""
    text = await clients.redis.hget("bg:node", "windows")
    return (text or "day,month,total").split(",")
