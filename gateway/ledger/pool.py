"""The pool of connections to Postgres."""

import asyncpg

from gateway.errors import LedgerUnavailable

_CONNECT_S = 5.0
_COMMAND_S = 30.0
_CONNECTIONS_MAX = 8


async def open_pool(database_url: str) -> asyncpg.Pool:
    """Return a pool of connections.

    Raises:
        LedgerUnavailable: Postgres cannot be reached or refuses the credentials.
    """
    try:
        return await asyncpg.create_pool(
            database_url,
            min_size=1,
            max_size=_CONNECTIONS_MAX,
            timeout=_CONNECT_S,
            command_timeout=_COMMAND_S,
        )
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(f"Postgres cannot be reached: {error}.") from error
