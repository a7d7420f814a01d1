"""How long an empty Redis takes to be made again of a ledger of 10,000 orgs, and to be compared.

``python -m bench.rebuild [ORGS]`` starts servers of its own and writes one JSON line.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import asyncpg
import orjson
from redis.asyncio import Redis

from gateway.budgets.address import read_address
from gateway.budgets.bookkeeping import Bookkeeping
from gateway.budgets.connection import Connection
from gateway.budgets.scripts import load_scripts
from gateway.cli.embedded_postgres import EmbeddedPostgres, postgres_folder
from gateway.cli.embedded_redis import REDIS_OPTIONS, EmbeddedRedis, redis_binary
from gateway.ledger.migrations import migrate
from gateway.ledger.pool import open_pool
from gateway.registry.clients import Clients
from gateway.registry.rebuild import rebuild
from gateway.registry.recovery import recover

_ORGS = 10_000
_DEADLINE_MS, _HOLD_TTL_MS, _JOURNAL_ENTRIES_MAX = 10_000, 60_000, 5_000_000
# Of each org: an agent, a key, a limit, what it has spent this day and month and in all, and of
# one in ten a credit.
_FILL = (
    "INSERT INTO org (org, timezone) SELECT 'org' || n, 'UTC' FROM generate_series(1, $1) AS n",
    "INSERT INTO agent (org, agent, description) "
    'SELECT org, \'researcher\', \'{"upstream": "http://127.0.0.1:9000", '
    '"price": {"mode": "flat", "cents": "2"}}\' FROM org',
    "INSERT INTO api_key (org, key_id, digest, agents) "
    "SELECT org, 'k1', encode(sha256(org::bytea), 'hex'), '*' FROM org",
    "INSERT INTO limits_mirror (org, limits, meta, at) "
    'SELECT org, \'{"status": "active", "timezone": "UTC", "org.month.limit_cents": "5000", '
    '"agent.*.day.limit_cents": "200"}\', \'{"zone": "UTC"}\', now() FROM org',
    'INSERT INTO spend_window (org, agent, "window", window_id, spent_microcents) '
    "SELECT org, agent, kind, id, 1000000 FROM org, unnest(ARRAY['', 'researcher']) AS agent, "
    "(VALUES ('day', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD')), "
    "('month', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM')), ('total', '')) AS known (kind, id)",
    "INSERT INTO credit_entry (id, org, scope, window_kind, window_id, amount_microcents, cause, "
    "actor, state, confirmed_at) SELECT 'c-' || org, org, 'org', 'total', '', 1, '', 'bench', "
    "'applied', now() FROM org WHERE org LIKE '%7'",
)


async def measure(clients: Clients, redis_url: str, orgs: int) -> dict[str, object]:
    """Fill the ledger with orgs; return what one rebuild restored and how long it took.

    ``recovery_seconds`` is how long the comparison takes that follows each start of Redis.
    """
    async with clients.ledger.acquire() as connection:
        await connection.execute(_FILL[0].replace("$1", str(orgs)))
        for fill in _FILL[1:]:
            await connection.execute(fill)
        await connection.execute("ANALYZE")
    began_s = time.monotonic()
    rebuilt = await rebuild(clients)
    seconds = time.monotonic() - began_s
    counts = {"orgs": rebuilt.orgs, "counters": rebuilt.counters, "credits": rebuilt.credits}
    recovery_s = await _recovery_s(clients, redis_url)
    return {
        "bench": "rebuild",
        **counts,
        "seconds": round(seconds, 2),
        "recovery_seconds": round(recovery_s, 2),
    }


async def _recovery_s(clients: Clients, redis_url: str) -> float:
    scripts = load_scripts()
    connection = Connection(read_address(redis_url), scripts, _DEADLINE_MS)
    await connection.start()
    try:
        await connection.tried()
        budgets = Bookkeeping(connection, scripts, _HOLD_TTL_MS, _JOURNAL_ENTRIES_MAX)
        began_s = time.monotonic()
        await recover(clients, budgets, connection.run_id.decode(), 0.0, 0.0)
        return time.monotonic() - began_s
    finally:
        await connection.close()


async def _run(redis_url: str, database_url: str, orgs: int) -> dict[str, object]:
    connection = await asyncpg.connect(database_url)
    await migrate(connection)
    await connection.close()
    pool = await open_pool(database_url)
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        try:
            return await measure(Clients(pool, redis), redis_url, orgs)
        finally:
            await pool.close()


def main(orgs: int) -> None:
    """Start both servers, measure, and stop them."""
    with tempfile.TemporaryDirectory(prefix="bg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # As root Postgres runs as another user, who must be able to enter.
        folder.chmod(0o711)
        redis = EmbeddedRedis(redis_binary(), folder / "redis", REDIS_OPTIONS)
        postgres = EmbeddedPostgres(postgres_folder(), folder / "pg")
        try:
            redis.start()
            postgres.start()
            found = asyncio.run(_run(redis.url, postgres.url(), orgs))
        finally:
            redis.stop()
            postgres.stop()
    sys.stdout.write(orjson.dumps(found).decode() + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else _ORGS)
