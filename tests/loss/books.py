"""The books of one org: what upstream, ledger and Redis say that it has spent."""

from typing import Any, NamedTuple

from gateway.budgets.keys import EXPIRY, JOURNAL, org_key
from gateway.registry.clients import Clients
from gateway.registry.differences import is_posted
from tests.campaign.books import unsummed
from tests.until import until

# A hold ends at the latest by its life, the sweeper, and a claimed batch of the journal.
_SETTLED_S = 60.0
_ENTRIES = """
    SELECT reservation_id AS id, agent, sum(amount_microcents)::bigint AS amount,
        count(*) FILTER (WHERE kind IN ('settle', 'expire')) AS bases,
        bool_or(kind = 'expire') AS is_expired
    FROM usage_entry WHERE org = $1 GROUP BY reservation_id, agent
"""
_SPEND = """
    SELECT agent, "window" || CASE window_id WHEN '' THEN '' ELSE ':' || window_id END AS place,
        spent_microcents FROM spend_window WHERE org = $1
"""
_IS_ASKED = "SELECT EXISTS (SELECT FROM outbox WHERE done_at IS NULL)"


class Entry(NamedTuple):
    """What is booked of one reservation."""

    agent: str
    microcents: int
    bases: int
    is_expired: bool


class Books(NamedTuple):
    """What is booked by reservation, and what should not be: each a sentence."""

    entries: dict[str, Entry]
    wrong: list[str]

    def booked(self, agent: str = "") -> int:
        """Return what is booked of the org, or of one of its agents."""
        return sum(
            entry.microcents for entry in self.entries.values() if agent in ("", entry.agent)
        )


async def settled(clients: Clients) -> None:
    """Wait until every hold has ended and everything is booked and told."""

    async def is_over() -> bool:
        last = await clients.redis.xrevrange(JOURNAL, count=1)
        return (
            not await clients.redis.zcard(EXPIRY)
            and (not last or await is_posted(clients.redis, last[0][0]))
            and not await clients.ledger.fetchval(_IS_ASKED)
        )

    await until(is_over, "every hold to end and to be booked", _SETTLED_S)


async def books(clients: Clients, org: str) -> Books:
    """Read everything of an org and compare it."""
    rows = await clients.ledger.fetch(_ENTRIES, org)
    entries = {
        row["id"]: Entry(row["agent"], row["amount"], row["bases"], row["is_expired"])
        for row in rows
    }
    wrong = [
        f"{id} has {entry.bases} base entries." for id, entry in entries.items() if entry.bases != 1
    ]
    wrong += await unsummed(clients.ledger)
    counted = await _counted(clients.redis, org)
    booked = {
        (row["place"], f"agent.{row['agent']}.spent" if row["agent"] else "org.spent"): row[
            "spent_microcents"
        ]
        for row in await clients.ledger.fetch(_SPEND, org)
    }
    wrong += [
        f"{org} {place} is {counted.get(place, 0)} in Redis, and {booked.get(place, 0)} is booked."
        for place in sorted(counted.keys() | booked.keys())
        if counted.get(place, 0) != booked.get(place, 0)
    ]
    return Books(entries, wrong)


async def _counted(redis: Any, org: str) -> dict[tuple[str, str], int]:
    """Return every counter of spent and held; what is held must be nothing."""
    counted = {}
    prefix = org_key(org, "spend:")
    async for key in redis.scan_iter(f"{prefix}*"):
        for name, number in (await redis.hgetall(key)).items():
            if name.endswith((".spent", ".held")):
                counted[key.removeprefix(prefix), name] = int(number)
    return counted
