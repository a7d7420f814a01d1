"""The pool of connections to Postgres."""

import asyncpg

from gateway.errors import ConfigError, LedgerUnavailable

_CONNECT_S = 5.0
_COMMAND_S = 30.0
_CONNECTIONS_MAX = 8


async def open_pool(database_url: str) -> asyncpg.Pool:
    """Return a pool of connections.

    Raises:
        ConfigError: the URL cannot be used; the sentence never contains the password.
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
    # asyncpg's own error for a URL is a ValueError; a port above 65535 overflows.
    except (ValueError, OverflowError):
        # Neither the URL nor the error is shown: what cannot be read may be a piece of a password
        # that was not percent-encoded.
        raise ConfigError(_problem(database_url)) from None
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        why = str(error) or "no answer in time"
        raise LedgerUnavailable(f"Postgres cannot be reached: {why}.") from error


def _problem(database_url: str) -> str:
    if not database_url.startswith(("postgresql://", "postgres://")):
        return "GATEWAY_DATABASE_URL must start with postgresql://."
    return (
        "GATEWAY_DATABASE_URL cannot be used: expected a port up to 65535, a known sslmode, and "
        "special characters of the password percent-encoded."
    )
