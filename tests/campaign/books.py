"""The books after a campaign: what was told, run, booked and counted must be one story."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg
from redis.asyncio import Redis

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.keys import JOURNAL
from gateway.budgets.scripts import load_scripts
from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients
from gateway.registry.differences import compare, is_posted
from tests.campaign.load import Told
from tests.campaign.world import HOLD_TTL_MS, ORG, World
from tests.until import until

# A hold ends at the latest by its life, the sweeper, the spool's replay, and a claimed batch.
_BOOKED_S = 120.0
_SETTLED_S = HOLD_TTL_MS / 1000 + 60.0
# The org, each agent, each window that an entry is counted in.
_UNSUMMED = """
    WITH summed AS (
        SELECT org, payer.agent, "window", window_id, sum(amount_microcents)::bigint AS summed
        FROM usage_entry
        CROSS JOIN LATERAL (
            VALUES ('hour', hour_id), ('day', day_id), ('week', week_id), ('month', month_id),
                ('total', '')
        ) AS place ("window", window_id)
        CROSS JOIN LATERAL (VALUES (''), (usage_entry.agent)) AS payer (agent)
        WHERE window_id IS NOT NULL
        GROUP BY org, payer.agent, "window", window_id
    )
    SELECT org, agent, "window", window_id, coalesce(spent_microcents, 0) AS spent,
        coalesce(summed, 0) AS summed
    FROM summed FULL JOIN spend_window USING (org, agent, "window", window_id)
    WHERE coalesce(spent_microcents, 0) <> coalesce(summed, 0)
"""


class Books(NamedTuple):
    """What a campaign has left; ``wrong`` says what should not be."""

    calls: int
    answered: int
    executed: int
    settled: int
    expired: int
    wrong: list[str]


async def settled_books(world: World, told: Sequence[Told], *, has_lost: bool) -> Books:
    """Wait until all has come to its end, and compare everything with everything.

    Where Redis ``has_lost`` what it had confirmed, so are the holds of calls that nobody knew any
    more: such a call may have been run and is not booked. One that was answered is.
    """
    async with Redis.from_url(world.redis.url, decode_responses=True) as redis:

        async def is_over() -> bool:
            return not await redis.zcard("bg:expiry")

        await until(is_over, "every hold to end", _SETTLED_S)
        pool = await open_pool(world.database_url)
        try:
            clients = Clients(pool, redis)
            wrong = await _differences(world, clients)
            wrong += await unsummed(pool)
            wrong += await _held(redis)
            rows = await pool.fetch(
                "SELECT reservation_id AS id, kind, amount_microcents FROM usage_entry"
            )
        finally:
            await pool.close()
    unknown = sum(call.status != 200 for call in told) if has_lost else 0
    return _judged(world, told, rows, wrong, unknown)


def _judged(
    world: World,
    told: Sequence[Told],
    rows: Sequence[asyncpg.Record],
    wrong: list[str],
    unknown: int,
) -> Books:
    base = [row for row in rows if row["kind"] in ("settle", "expire")]
    kinds = {row["id"]: row["kind"] for row in base}
    booked = dict[str, int]()
    for row in rows:
        booked[row["id"]] = booked.get(row["id"], 0) + row["amount_microcents"]
    whole = [call for call in told if call.status == 200]
    if len(kinds) != len(base):
        wrong.append(f"{len(base) - len(kinds)} reservations have more than one base entry.")
    for call in whole:
        cost = world.bill.cost_of_mark.get(call.mark)
        if call.id not in kinds:
            wrong.append(f"{call.id} was answered, and is not booked.")
        elif kinds[call.id] == "settle" and booked[call.id] != cost:
            wrong.append(f"{call.id} has cost {cost}, and {booked[call.id]} is booked.")
        if call.cost_microcents is not None and call.cost_microcents != cost:
            wrong.append(f"{call.id} has cost {cost}, and {call.cost_microcents} was told.")
    executed = len(world.bill.cost_of_mark)
    if executed > len(base) + unknown:
        wrong.append(f"{executed} calls were run, and {len(base)} are booked.")
    expired = sum(kind == "expire" for kind in kinds.values())
    return Books(len(told), len(whole), executed, len(base) - expired, expired, wrong)


async def unsummed(pool: asyncpg.Pool) -> list[str]:
    """Return each aggregate of the ledger that is not the sum of its entries, and the sum."""
    rows = await pool.fetch(_UNSUMMED)
    return [
        f"{row['org']} {row['agent'] or 'org'} {row['window']} {row['window_id']} is said to have "
        f"spent {row['spent']}, and its entries sum up to {row['summed']}."
        for row in rows
    ]


async def _held(redis: Any) -> list[str]:
    found = list[str]()
    async for key in redis.scan_iter(f"bg:{{{ORG}}}:spend:*"):
        fields = await redis.hgetall(key)
        found += [
            f"{key} still holds {number} of {name}."
            for name, number in fields.items()
            if name.endswith(".held") and int(number)
        ]
    return found


async def _differences(world: World, clients: Clients) -> list[str]:
    scripts = load_scripts()
    connection = Connection(read_address(world.redis.url), scripts, 5_000)
    await connection.start()
    try:
        await connection.tried()
        budgets = Bookkeeping(connection, scripts, HOLD_TTL_MS, 5_000_000)
        comparison = await compare(clients, budgets, ORG, _SETTLED_S)
    finally:
        await connection.close()
    if not comparison.is_posted:
        return [f"The journal was not posted up to {comparison.journal_id}."]
    return [f"Redis and ledger differ: {found}" for found in comparison.differences]


async def booked(world: World) -> None:
    """Wait until the ledger has what is in the journal now: after an outage it is far behind."""
    async with Redis.from_url(world.redis.url, decode_responses=True) as redis:
        ((last, _),) = await redis.xrevrange(JOURNAL, count=1) or [("0-0", {})]
        await until(lambda: is_posted(redis, last), "the ledger to have the journal", _BOOKED_S)


async def settle_down(world: World) -> None:
    """Let everything run again."""
    for program in (*world.gateways, world.worker):
        program.start()
    await asyncio.gather(*(program.ready() for program in (*world.gateways, world.worker)))
