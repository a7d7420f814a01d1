"""Posting: a batch of journal entries booked in one transaction, exactly once.

A reservation has one base row, its settle or its expire, whichever came first. A settle that meets
an expire books the difference as ``late``, once. Anything else that is known books nothing. Where
the ledger changed by another amount than the entry had added to the counters, the same transaction
asks the outbox for a repair.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import asyncpg
import orjson
from ulid import ULID

from gateway.ledger.entries import Entry, read_entry
from gateway.ledger.migrations import ensure_partitions
from gateway.ledger.sql import statement

_INSERT = statement("insert_usage_entry")
_KNOWN = statement("select_known_entry")
_SPEND = statement("add_spend_window")
_ASK = statement("ask_outbox")
_WINDOWS = ("hour", "day", "week", "month")
# Two pumps can meet on aggregate rows in spite of the order; Postgres then ends one of them.
_ATTEMPTS = 5


async def post(pool: asyncpg.Pool, batch: Sequence[tuple[str, Mapping[str, str]]]) -> None:
    """Book a batch of (journal id, fields) as one transaction; a batch booked before is no change.

    Raises:
        asyncpg.PostgresError: nothing of the batch is booked.
    """
    entries, dead = _read(batch)
    async with pool.acquire() as connection:
        for attempt in range(_ATTEMPTS):
            try:
                async with connection.transaction():
                    await _book(connection, entries, dead)
                return
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError):
                if attempt + 1 == _ATTEMPTS:
                    raise
            except asyncpg.CheckViolationError as error:
                # No partition for a month yet: made outside, because it locks the table.
                if attempt + 1 == _ATTEMPTS or "no partition" not in str(error):
                    raise
                await ensure_partitions(connection, [entry.reserved_at for entry in entries])


def _read(
    batch: Sequence[tuple[str, Mapping[str, str]]],
) -> tuple[list[Entry], list[tuple[str, str, str]]]:
    entries, dead = [], []
    for journal_id, fields in batch:
        try:
            entries.append(read_entry(journal_id, fields))
        except ValueError as error:
            source = f"{fields.get('epoch', '')}/{journal_id}"
            dead.append((source, _json(dict(fields)), str(error)))
    return entries, dead


async def _book(
    connection: asyncpg.pool.PoolConnectionProxy,
    entries: list[Entry],
    dead: list[tuple[str, str, str]],
) -> None:
    changed = await _book_spend(connection, entries)
    spenders = [entry for entry in entries if entry.kind in ("settle", "expire", "correct")]
    repairs = [
        (entry, changed[entry.source] - entry.counted_microcents)
        for entry in spenders
        if entry.source in changed and changed[entry.source] != entry.counted_microcents
    ]
    if repairs:
        asked = [_repair(entry, difference) for entry, difference in repairs]
        await connection.execute(_ASK, *map(list, zip(*asked, strict=True)))
    credits = [entry.id for entry in entries if entry.kind == "credit"]
    if credits:
        await connection.execute(
            "UPDATE credit_entry SET state = 'applied', confirmed_at = now() "
            "WHERE id = ANY($1) AND confirmed_at IS NULL",
            credits,
        )
    await connection.executemany(
        "INSERT INTO alert (org, kind, detail, at, source) VALUES ($1, $2, $3, $4, $5) "
        "ON CONFLICT (source) DO NOTHING",
        [_alert(entry) for entry in entries if entry.kind == "alert"],
    )
    await connection.executemany(
        "INSERT INTO dead_entry (source, fields, reason) VALUES ($1, $2, $3) "
        "ON CONFLICT (source) DO NOTHING",
        dead,
    )


async def _book_spend(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry]
) -> dict[str, int]:
    """Return by source what each entry has changed; a replayed entry is not in it."""
    spenders = sorted(
        (entry for entry in entries if entry.kind in ("settle", "expire", "correct")),
        key=lambda entry: (entry.id, entry.reserved_at, entry.kind == "correct"),
    )
    if not spenders:
        return {}
    rows = [_row(entry, entry.kind, entry.amount_microcents) for entry in spenders]
    inserted = await _insert(connection, rows)
    changed = {
        entry.source: entry.amount_microcents for entry in spenders if entry.source in inserted
    }
    booked = [(entry, entry.amount_microcents) for entry in spenders if entry.source in changed]
    rest = [entry for entry in spenders if entry.source not in changed]
    if rest:
        late, silent = await _meet(connection, rest)
        booked += late
        changed |= {entry.source: amount for entry, amount in late}
        changed |= dict.fromkeys((entry.source for entry in silent), 0)
    await _add_spend(connection, booked)
    return changed


async def _meet(
    connection: asyncpg.pool.PoolConnectionProxy, rest: list[Entry]
) -> tuple[list[tuple[Entry, int]], list[Entry]]:
    """Return the late rows booked, and the entries that are new but book nothing."""
    known = await _known(connection, rest)
    sources = {row["source"] for row in known}
    expired = {
        row["reservation_id"]: row["amount_microcents"] for row in known if row["kind"] == "expire"
    }
    new = [entry for entry in rest if entry.source not in sources]
    meeting = [
        (entry, entry.amount_microcents - expired[entry.id])
        for entry in new
        if entry.kind == "settle" and entry.id in expired
    ]
    inserted = await _insert(connection, [_row(entry, "late", amount) for entry, amount in meeting])
    late = [(entry, amount) for entry, amount in meeting if entry.source in inserted]
    silent = [entry for entry in new if entry.source not in inserted]
    if len(late) < len(meeting):
        # Another pump booked this very entry after we had looked: then it is a replay.
        sources = {row["source"] for row in await _known(connection, silent)}
    return late, [entry for entry in silent if entry.source not in sources]


async def _known(
    connection: asyncpg.pool.PoolConnectionProxy, entries: list[Entry]
) -> list[asyncpg.Record]:
    return await connection.fetch(
        _KNOWN, [entry.id for entry in entries], [entry.reserved_at for entry in entries]
    )


async def _insert(
    connection: asyncpg.pool.PoolConnectionProxy, rows: list[tuple[object, ...]]
) -> set[str]:
    if not rows:
        return set()
    columns = [list(column) for column in zip(*rows, strict=True)]
    return {row["source"] for row in await connection.fetch(_INSERT, *columns)}


async def _add_spend(
    connection: asyncpg.pool.PoolConnectionProxy, booked: list[tuple[Entry, int]]
) -> None:
    spent: Counter[tuple[str, str, str, str]] = Counter()
    for entry, amount in booked:
        for kind, window_id in entry.windows:
            spent[entry.org, "", kind, window_id] += amount
            spent[entry.org, entry.agent, kind, window_id] += amount
    if spent:
        rows = [(*key, amount) for key, amount in sorted(spent.items())]
        await connection.execute(_SPEND, *map(list, zip(*rows, strict=True)))


def _row(entry: Entry, kind: str, amount_microcents: int) -> tuple[object, ...]:
    detail, windows = entry.detail, dict(entry.windows)
    return (
        entry.id,
        kind,
        entry.entry_id,
        entry.reserved_at,
        entry.org,
        entry.agent,
        amount_microcents,
        entry.counted_microcents,
        *(windows.get(window) for window in _WINDOWS),
        entry.at,
        _text(detail.get("model")),
        *(_count(detail.get(name)) for name in ("input_tokens", "output_tokens", "cached_tokens")),
        _text(detail.get("price_id")),
        _text(detail.get("source")),
        _count(detail.get("status")),
        _count(detail.get("duration_ms")),
        _text(detail.get("key_id")),
        entry.journal_id,
        entry.epoch,
    )


def _text(value: object) -> str | None:
    # Postgres text cannot hold NUL, and a name of a model is an upstream's to choose.
    return value[:200].replace("\x00", "") if isinstance(value, str) and value else None


def _json(value: object) -> str:
    # jsonb cannot hold NUL either.
    return orjson.dumps(value).decode().replace("\\u0000", "")


def _count(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _repair(entry: Entry, difference: int) -> tuple[str, str, str, str]:
    changes = [
        (f"{kind}:{window_id}" if window_id else kind, scope, difference)
        for kind, window_id in entry.windows
        for scope in ("org", f"agent.{entry.agent}")
    ]
    payload = {"id": str(ULID()), "org": entry.org, "changes": changes}
    return "repair", entry.org, _json(payload), f"repair/{entry.source}"


def _alert(entry: Entry) -> tuple[object, ...]:
    kind = _text(entry.detail.get("alert")) or "unknown"
    return entry.org, kind, _json(entry.detail), entry.at, entry.source
