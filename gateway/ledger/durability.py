"""Durability: whether Postgres keeps what it has confirmed when its machine dies.

An entry leaves the journal once Postgres has confirmed it, so a commit that is lost then is money
without a record. A server that only says so would be found out too late.
"""

from collections.abc import Mapping

import asyncpg

_SETTINGS: Mapping[str, str] = {
    "fsync": "everything since the last checkpoint may be lost or broken",
    "full_page_writes": "a page that was being written may be broken for good",
    "synchronous_commit": "entries of the last moments are in neither store any more",
}


async def check_durability(ledger: asyncpg.Pool) -> list[str]:
    """Return a sentence for each setting under which a crash loses what was confirmed."""
    rows = await ledger.fetch(
        "SELECT name, setting FROM pg_settings WHERE name = ANY($1) AND setting = 'off' "
        "ORDER BY name",
        list(_SETTINGS),
    )
    return [
        f"{row['name']} is off, expected on: when the machine dies, {_SETTINGS[row['name']]}."
        for row in rows
    ]
